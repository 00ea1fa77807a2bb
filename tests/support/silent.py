"""Streams that a client opens and then leaves without a message, thousands of them if asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import grpc.aio

from cxreval.wire.status import from_rpc_error

UPLOAD = "/cxreval.api.registry.v1.ArtifactService/UploadArtifact"
SCORE = "/cxreval.api.scoring.v1.ScoringService/ScorePredictions"
LIMIT_SECONDS = 60


class SilentStreams:
    """Opens streams in an event loop; `reasons` waits for their ends."""

    def __init__(
        self, address: str, key: str = "", credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = (
            grpc.aio.secure_channel(address, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address, options)
        )
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._reading: list[asyncio.Task[str]] = []
        self._ends = asyncio.Semaphore(0)

    async def __aenter__(self) -> SilentStreams:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        await asyncio.gather(*self._reading, return_exceptions=True)

    async def open(self, method: str, count: int = 1, *messages: bytes) -> None:
        """Opens streams and sends the same messages on each."""
        for _ in range(count):
            call = self._channel.stream_stream(method)(
                metadata=self._metadata, timeout=LIMIT_SECONDS
            )
            reading = asyncio.create_task(_reason(call))
            reading.add_done_callback(lambda _: self._ends.release())
            self._reading.append(reading)
            for message in messages:
                await call.write(message)
        await asyncio.sleep(0)

    async def wait_for_ends(self, count: int) -> None:
        """Waits until so many more streams have ended."""
        for _ in range(count):
            await self._ends.acquire()

    def ended(self) -> int:
        """Returns how many of the streams have ended."""
        return sum(reading.done() for reading in self._reading)

    async def reasons(self) -> Counter[str]:
        """Waits until all streams have ended; returns how many ended for each reason."""
        return Counter(await asyncio.gather(*self._reading))


async def _reason(call: Any) -> str:
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason
    return "OK"
