"""BenchmarkService: specifications of benchmarks."""

from __future__ import annotations

import asyncio
from typing import Any

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.api.registry.v1 import benchmark_service_pb2_grpc
from cxreval.resource_names import BenchmarkName
from services.registry.convert import benchmarks, requests
from services.registry.store.benchmarks import Benchmarks


class BenchmarkServicer(benchmark_service_pb2_grpc.BenchmarkServiceServicer):
    """Creates and returns benchmarks."""

    def __init__(self, benchmarks: Benchmarks) -> None:
        self._benchmarks = benchmarks

    async def CreateBenchmark(
        self, request: pb.CreateBenchmarkRequest, context: Any
    ) -> pb.Benchmark:
        """Creates a benchmark, or returns the existing one with the same specification."""
        benchmark = await asyncio.to_thread(
            self._benchmarks.create, benchmarks.spec(request.benchmark)
        )
        return benchmarks.benchmark_message(benchmark)

    async def RecordImageList(
        self, request: pb.RecordImageListRequest, context: Any
    ) -> pb.RecordImageListResponse:
        """Records the image list of a benchmark."""
        name = BenchmarkName.parse(request.name)
        await asyncio.to_thread(self._benchmarks.record_images, name, list(request.images))
        return pb.RecordImageListResponse()

    async def GetBenchmark(self, request: pb.GetBenchmarkRequest, context: Any) -> pb.Benchmark:
        """Returns a benchmark."""
        benchmark = await asyncio.to_thread(self._benchmarks.get, BenchmarkName.parse(request.name))
        return benchmarks.benchmark_message(benchmark)

    async def ListBenchmarks(
        self, request: pb.ListBenchmarksRequest, context: Any
    ) -> pb.ListBenchmarksResponse:
        """Returns a page of benchmarks, oldest first."""
        cursor = requests.cursor("benchmarks", "", request.page_size, request.page_token)
        page = await asyncio.to_thread(self._benchmarks.page, cursor)
        return pb.ListBenchmarksResponse(
            benchmarks=[benchmarks.benchmark_message(item) for item in page.items],
            next_page_token=page.next_token,
        )
