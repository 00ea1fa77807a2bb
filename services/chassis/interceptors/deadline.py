"""Gives every rpc a deadline: its caller's, or the server's limit if that is sooner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from cxreval.errors import DeadlineExceeded
from services.chassis.interceptors import Call


def limited_time(seconds: float, stream_seconds: float) -> Callable[[Call], AbstractAsyncContextManager[None]]:
    """Ends a handler at its caller's deadline or after `seconds` (streams: `stream_seconds`): `DeadlineExceeded`."""

    @asynccontextmanager
    async def around(call: Call) -> AsyncIterator[None]:
        if call.service == "grpc.health.v1.Health":  # Watch lives as long as its watcher
            yield
            return
        limit = stream_seconds if call.streaming else seconds
        left = call.context.time_remaining()
        timeout = asyncio.timeout(limit if left is None else min(left, limit))
        try:
            async with timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise  # the handler's own
            raise DeadlineExceeded(f"{call.method} did not finish before its deadline", limit_seconds=limit) from None

    return around
