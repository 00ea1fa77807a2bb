"""Benchmark: how fast scoring receives predictions, beside gRPC streams that do no work.

    .venv/bin/python -m bench.ingest

The peers are grpc.aio servers in a separate process, without interceptors: `echo` parses each
message and returns it, `sink` does not even parse it. All three get the same bytes from the same
client in the same run, in turn; the time runs from the call to the response to the last message.
Scoring checks every row and fills its table. One image is missing at the end, so that no report is
computed. The medians are printed.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.nih import FINDINGS
from cxreval.wire import reports
from tests.support.processes import REPOSITORY, free_port
from tests.support.scoring import describe, scoring_service, small_table

IMAGES, BATCHES, ROUNDS = 25_600, (256, 1024), 41
SCORING = "/cxreval.api.scoring.v1.ScoringService/ScorePredictions"
PEERS = ("echo", "sink")


def main() -> None:
    """Prints one line per batch size and server, with the ratio of cxreval's rate to it."""
    print(
        f"{IMAGES} images, {len(FINDINGS)} findings, {len(os.sched_getaffinity(0))} cores, "
        f"grpcio {grpc.__version__}"
    )
    print(f"load average {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        images = [f"{row + 1:08d}_000.png" for row in range(IMAGES + 1)]
        labels = small_table(directory, [(image, "No Finding") for image in images])
        spec = describe(directory, "ingest", images, labels)
        address = f"127.0.0.1:{free_port()}"
        bare = subprocess.Popen([sys.executable, "-m", "bench.ingest", address], cwd=REPOSITORY)
        try:
            with scoring_service(directory / "scoring.log", ingest=directory) as service:
                for size in BATCHES:
                    asyncio.run(compare(spec, images[:-1], size, service.address, address))
        finally:
            bare.terminate()
            bare.wait(timeout=600)


async def compare(
    spec: BenchmarkSpec, images: Sequence[str], size: int, ours: str, bare: str
) -> None:
    """Measures the three servers in turn and prints their rates."""
    messages = serialised(spec, images, size)
    times: dict[str, list[float]] = {name: [] for name in ("ours", *PEERS)}
    async with grpc.aio.insecure_channel(ours) as channel, grpc.aio.insecure_channel(bare) as other:
        await other.channel_ready()
        calls: dict[str, Any] = {name: other.stream_stream(f"/bare/{name}") for name in PEERS}
        calls["ours"] = channel.stream_stream(SCORING)
        for _ in range(ROUNDS):
            for name, call in calls.items():
                times[name].append(await seconds(call, messages))
    rates = {name: len(images) / statistics.median(taken) for name, taken in times.items()}
    for name, rate in rates.items():
        ratio = "" if name == "ours" else f"   ours / {name} {rates['ours'] / rate:.2f}"
        print(f"batches of {size:4d}   {name:4s} {rate:10,.0f} images/s{ratio}")


def serialised(spec: BenchmarkSpec, images: Sequence[str], size: int) -> list[bytes]:
    """Returns a header and batches as serialised messages."""
    probabilities = np.random.default_rng(0).random((len(images), len(FINDINGS)), dtype=np.float32)
    header = pb.ScorePredictionsHeader(
        benchmark=f"benchmarks/{spec.name}", benchmark_digest=spec.digest
    )
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    batches = [reports.batch_message(images[part], probabilities[part]) for part in parts]
    requests = [
        pb.ScorePredictionsRequest(header=header),
        *(pb.ScorePredictionsRequest(batch=one) for one in batches),
    ]
    return [request.SerializeToString() for request in requests]


async def seconds(method: Any, messages: Sequence[bytes]) -> float:
    """Returns the seconds from the call to the last response.

    The service then ends the stream with an error, because an image is missing.
    """

    async def sent() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    start = time.perf_counter()
    last = start
    try:
        async for _ in method(sent()):
            last = time.perf_counter()
    except grpc.aio.AioRpcError as error:
        if "1 of" not in (error.details() or ""):
            raise
    return last - start


async def serve(address: str) -> None:
    """Runs the peers."""

    async def echo(
        requests: AsyncIterator[pb.ScorePredictionsRequest], _: Any
    ) -> AsyncIterator[Any]:
        async for request in requests:
            yield request

    async def sink(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            pass
        yield b""

    handlers = {
        "echo": grpc.stream_stream_rpc_method_handler(
            echo,
            pb.ScorePredictionsRequest.FromString,
            pb.ScorePredictionsRequest.SerializeToString,
        ),
        "sink": grpc.stream_stream_rpc_method_handler(sink),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", handlers),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1])) if sys.argv[1:] else main()
