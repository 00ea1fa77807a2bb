"""Sets the deadline of every rpc: the caller's, or the server's limit if that is earlier."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from cxreval.errors import DeadlineExceeded
from services.chassis.interceptors.call import Call

_UNLIMITED: AbstractAsyncContextManager[None] = contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """Ends a handler with `DeadlineExceeded` after `seconds`, or `stream_seconds` for streams."""

    seconds: float
    stream_seconds: float

    def of(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Returns the context that limits one call."""
        if call.service == "grpc.health.v1.Health":  # Watch ends with its watcher
            return _UNLIMITED
        limit = self.stream_seconds if call.streaming else self.seconds
        left = call.context.time_remaining()
        return _Limited(call.method, limit, limit if left is None else min(left, limit))


class _Limited(AbstractAsyncContextManager[None]):
    __slots__ = ("_limit", "_method", "_timeout")

    def __init__(self, method: str, limit: float, seconds: float) -> None:
        self._method = method
        self._limit = limit
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            message = f"{self._method} did not finish before its deadline; retry later"
            raise DeadlineExceeded(message, limit_seconds=self._limit) from None
