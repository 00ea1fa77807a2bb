"""Ends calls whose client sends or reads no message for too long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

from cxreval.errors import EmptyStream, StreamIdle
from services.chassis.interceptors.call import Call


class Requests(AsyncIterator[Any]):
    """The request messages of a call. Raises `StreamIdle` if the next one does not arrive in time,
    unless the call is `answering`."""

    __slots__ = ("_answering", "_call", "_messages", "_seconds", "_timeout")

    def __init__(self, call: Call, messages: AsyncIterator[Any], seconds: float) -> None:
        self._call = call
        self._messages = aiter(messages)
        self._seconds = seconds
        self._answering = 0
        self._timeout: asyncio.Timeout | None = None

    async def __anext__(self) -> Any:
        """Returns the next message."""
        try:
            async with asyncio.timeout(None if self._answering else self._seconds) as self._timeout:
                return await anext(self._messages)
        except TimeoutError:
            message = (
                f"{self._call.method}: no message arrived for {self._seconds:g} seconds; "
                "call again, and resume where the call can be resumed"
            )
            raise StreamIdle(message, limit_seconds=self._seconds) from None
        finally:
            self._timeout = None

    async def only(self) -> Any:
        """Returns the request of a unary call.

        Raises:
            EmptyStream: the call has no request.
            StreamIdle: it does not arrive in time.
        """
        async for message in self:
            return message
        raise EmptyStream(f"{self._call.method} ended before its request; expected one message")

    def limit_from_now(self, answering: int) -> None:
        """Adds to the number of requests that are answered, and restarts the idle limit."""
        self._answering += answering
        if self._timeout:
            now = asyncio.get_running_loop().time()
            self._timeout.reschedule(None if self._answering else now + self._seconds)


_running: ContextVar[Requests | None] = ContextVar("cxreval_requests", default=None)


def enter(requests: Requests) -> None:
    """Sets the requests of the running call, which is a task of its own."""
    _running.set(requests)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Suspends the idle limit of the running stream: its client may be waiting for an answer.

    For handlers that read the next message while they answer earlier ones.
    """
    requests = _running.get()
    if requests is None:  # the handler runs without the chassis
        yield
        return
    requests.limit_from_now(1)
    try:
        yield
    finally:
        requests.limit_from_now(-1)


async def write(call: Call, message: Any, seconds: float) -> None:
    """Sends a message. Raises `StreamIdle` if the client does not read it in time."""
    try:
        async with asyncio.timeout(seconds):
            await call.context.write(message)
    except TimeoutError:
        text = f"{call.method}: the client read nothing for {seconds:g} seconds; call again"
        raise StreamIdle(text, limit_seconds=seconds) from None
