"""Benchmark: an upload of 100 MB, hashed and fsynced, beside a gRPC stream that discards its bytes.

    .venv/bin/python -m bench.upload [ROUNDS]

The baseline is a grpc.aio server in a separate process that reads the messages of a
client-streaming rpc and discards them, with the same message type, chunks and kind of client. Both
run in turn in each round.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from cxreval.api.registry.v1 import artifact_service_pb2 as pb
from cxreval.api.registry.v1 import artifact_service_pb2_grpc
from cxreval.wire.channel import connect
from tests.support.processes import free_port
from tests.support.registry import Registry, registry_service, small_spec, upload_messages

SIZE = 100_000_000
SPEC = small_spec("bench")


class Nothing(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Reads and discards an upload."""

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[Any], _context: Any
    ) -> pb.UploadArtifactResponse:
        async for _ in request_iterator:
            pass
        return pb.UploadArtifactResponse()


async def serve_nothing(address: str) -> None:
    server = grpc.aio.server(options=(("grpc.http2.max_frame_size", 1 << 20),))
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(Nothing(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(rounds: int) -> None:
    """Prints both rates in MB/s, and their ratio."""
    address = f"127.0.0.1:{free_port()}"
    bare = subprocess.Popen([sys.executable, "-m", "bench.upload", "nothing", address])
    taken: dict[str, list[float]] = {"ours": [], "bare": [], "sha256": []}
    try:
        with tempfile.TemporaryDirectory() as scratch, registry_service(Path(scratch)) as service:
            ours, channel = Registry(service.address), connect(address)
            grpc.channel_ready_future(channel).result(30)
            stub: Any = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
            ours.create_benchmark(SPEC)
            for number in range(rounds + 1):
                # New bytes each time, so that the registry has not stored them yet.
                content = np.random.default_rng(number).bytes(SIZE)
                name = ours.create_submission(SPEC.name, content).name
                seconds = {
                    "bare": timed(
                        lambda content=content: stub.UploadArtifact(upload_messages("", content))
                    ),
                    "ours": timed(
                        lambda name=name, content=content: ours.artifacts.UploadArtifact(
                            messages(name, content)
                        )
                    ),
                    "sha256": timed(lambda content=content: hashlib.sha256(content)),
                }
                if number:  # the first is warm-up
                    for kind, value in seconds.items():
                        taken[kind].append(value)
            channel.close()
            ours.channel.close()
    finally:
        bare.kill()
        bare.wait(timeout=600)
    median = {kind: statistics.median(values) for kind, values in taken.items()}
    for kind, value in median.items():
        spread = ", ".join(f"{seconds:.3f}" for seconds in taken[kind])
        print(f"{kind:7} {SIZE / value / 1e6:6.0f} MB/s  ({spread} s)")
    ratios = [bare / ours for bare, ours in zip(taken["bare"], taken["ours"], strict=True)]
    per_round = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"ours / bare: {statistics.median(ratios):.2f} (per round: {per_round})")


def messages(name: str, content: bytes) -> Iterator[Any]:
    return upload_messages(name, content)


if __name__ == "__main__":
    if sys.argv[1:2] == ["nothing"]:
        asyncio.run(serve_nothing(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 9)
