"""BenchmarkService: specifications of benchmarks, their cards and their retirement."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.api.registry.v1 import benchmark_service_pb2_grpc
from cxreval.fields import check_text
from cxreval.resource_names import BenchmarkName
from cxreval.wire.limits import MAX_REASON_CHARACTERS
from services.chassis.principal import caller
from services.registry.convert import benchmarks, requests
from services.registry.store.benchmarks import Benchmarks

_log = logging.getLogger(__name__)


class BenchmarkServicer(benchmark_service_pb2_grpc.BenchmarkServiceServicer):
    """Creates, describes, retires and returns benchmarks."""

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

    async def RetireBenchmark(
        self, request: pb.RetireBenchmarkRequest, context: Any
    ) -> pb.Benchmark:
        """Retires a benchmark, or replaces reason and successor of a retired one."""
        name, successor = (
            BenchmarkName.parse(request.name),
            benchmarks.successor(request.superseded_by),
        )
        check_text("reason", request.reason, MAX_REASON_CHARACTERS)
        benchmark = await asyncio.to_thread(
            self._benchmarks.retire, name, request.reason, successor, caller().name
        )
        _log.info("benchmark retired", extra={"benchmark": str(name)})
        return benchmarks.benchmark_message(benchmark)

    async def ReinstateBenchmark(
        self, request: pb.ReinstateBenchmarkRequest, context: Any
    ) -> pb.Benchmark:
        """Lets a retired benchmark take submissions again."""
        name = BenchmarkName.parse(request.name)
        check_text("reason", request.reason, MAX_REASON_CHARACTERS)
        benchmark = await asyncio.to_thread(
            self._benchmarks.reinstate, name, request.reason, caller().name
        )
        _log.info("benchmark reinstated", extra={"benchmark": str(name)})
        return benchmarks.benchmark_message(benchmark)

    async def UpdateBenchmarkCard(
        self, request: pb.UpdateBenchmarkCardRequest, context: Any
    ) -> pb.Benchmark:
        """Replaces the card of a benchmark."""
        name, card = BenchmarkName.parse(request.name), benchmarks.card(request.card)
        check_text("reason", request.reason, MAX_REASON_CHARACTERS, required=False)
        benchmark = await asyncio.to_thread(
            self._benchmarks.update_card, name, card, request.reason, caller().name
        )
        _log.info("benchmark card updated", extra={"benchmark": str(name)})
        return benchmarks.benchmark_message(benchmark)
