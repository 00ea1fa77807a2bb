"""Makes calls: sends the request id, sets the deadline, raises the service's named error.

A method of a client is written once, as a coroutine function that makes its calls through a
`Transport`. An async client returns the coroutine. A blocking client has a transport whose calls
block, so that its coroutines never suspend, and runs each to its end (`finish`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

import grpc

from cxreval.wire import request_id
from cxreval.wire.channel import ApiKey, TlsFiles, connect, connect_async, key_metadata
from cxreval.wire.connection import Peer, call_error

UNARY_SECONDS = 60.0
STREAM_SECONDS = 3600.0
RETRY_SECONDS = 120.0
"""Longest time without progress before an upload or a watcher gives up."""

P = ParamSpec("P")
C = TypeVar("C")
T = TypeVar("T")


class Transport(Protocol):
    """The calls of a client, as coroutines."""

    async def call(self, method: Callable[..., Any], request: Any, seconds: float = ...) -> Any:
        """Returns the response of a call with one response."""

    def stream(
        self, method: Callable[..., Any], request: Any, seconds: float = ...
    ) -> AsyncIterator[Any]:
        """Yields the responses of a call; closing the iterator early cancels the call."""

    async def sleep(self, seconds: float) -> None:
        """Returns after some seconds."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the result of a function that reads files."""


@contextmanager
def translated(peer: Peer) -> Iterator[None]:
    """Raises the `CxrevalError` of a failed call instead of gRPC's error."""
    try:
        yield
    except grpc.RpcError as error:
        raise call_error(error, peer) from None


class BlockingTransport:
    """A transport whose calls block: its coroutines never suspend."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def call(
        self, method: Callable[..., Any], request: Any, seconds: float = UNARY_SECONDS
    ) -> Any:
        """See `Transport`."""
        with translated(self._peer):
            return method(request, timeout=seconds, metadata=request_id.outgoing())

    async def stream(
        self, method: Callable[..., Any], request: Any, seconds: float = STREAM_SECONDS
    ) -> AsyncIterator[Any]:
        """See `Transport`."""
        with translated(self._peer):
            answers = method(request, timeout=seconds, metadata=request_id.outgoing())
            try:
                for answer in answers:
                    yield answer
            finally:
                answers.cancel()

    async def sleep(self, seconds: float) -> None:
        """See `Transport`."""
        time.sleep(seconds)  # noqa: ASYNC251 -- it is to block

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Transport`."""
        return function(*args, **kwargs)


class AsyncTransport:
    """A transport of the running event loop. Cancelling a task cancels its call."""

    def __init__(self, peer: Peer, key: ApiKey | None) -> None:
        self._peer = peer
        self._key = (key_metadata(key),) if key else ()

    async def call(
        self, method: Callable[..., Any], request: Any, seconds: float = UNARY_SECONDS
    ) -> Any:
        """See `Transport`."""
        with translated(self._peer):
            return await method(request, timeout=seconds, metadata=self._metadata())

    async def stream(
        self, method: Callable[..., Any], request: Any, seconds: float = STREAM_SECONDS
    ) -> AsyncIterator[Any]:
        """See `Transport`."""
        with translated(self._peer):
            answers = method(request, timeout=seconds, metadata=self._metadata())
            try:
                async for answer in answers:
                    yield answer
            finally:
                answers.cancel()

    async def sleep(self, seconds: float) -> None:
        """See `Transport`."""
        await asyncio.sleep(seconds)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Transport`."""
        return await asyncio.to_thread(function, *args, **kwargs)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (*request_id.outgoing(), *self._key)


async def pages(
    transport: Transport, method: Callable[..., Any], request: Any
) -> AsyncIterator[Any]:
    """Yields every page of a list."""
    while True:
        answer = await transport.call(method, request)
        yield answer
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


async def items(
    transport: Transport,
    method: Callable[..., Any],
    request: Any,
    name: str,
    decoded: Callable[[Any], T],
) -> AsyncIterator[T]:
    """Yields every item of a list, page by page; `name` is the field that holds the items."""
    async for answer in pages(transport, method, request):
        for item in getattr(answer, name):
            yield decoded(item)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Returns the result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        coroutine.close()
    raise RuntimeError("a coroutine of a blocking client was suspended")


def iterate(source: AsyncIterator[T]) -> Iterator[T]:
    """Yields the items of an async generator that never suspends, and closes it at the end."""
    generator: Any = source
    try:
        while True:
            try:
                item = finish(generator.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        finish(generator.aclose())


class ServiceClient:
    """A blocking client of one service. Use as a context manager, or `close()` it."""

    service = "service"

    def __init__(self, target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> None:
        self._channel = connect(target, tls, key)
        self._peer = Peer(self.service, target, tls is not None)
        self._transport: Transport = BlockingTransport(self._peer)

    def _call(
        self, method: Callable[..., Any], request: Any, seconds: float = UNARY_SECONDS
    ) -> Any:
        """Returns the response of a call with one response."""
        return finish(self._transport.call(method, request, seconds))

    def _stream(
        self, method: Callable[..., Any], request: Any, seconds: float = STREAM_SECONDS
    ) -> Iterator[Any]:
        """Yields the responses of a call; closing the iterator early cancels the call."""
        return iterate(self._transport.stream(method, request, seconds))

    def close(self) -> None:
        """Closes the channel and ends running calls."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncServiceClient:
    """An asyncio client of one service. Use as an async context manager, or `close()` it."""

    service = "service"

    def __init__(self, target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> None:
        self._channel = connect_async(target, tls, key)
        self._transport: Transport = AsyncTransport(
            Peer(self.service, target, tls is not None), key
        )

    async def close(self) -> None:
        """Closes the channel and ends running calls."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class _Method:
    """A method of both clients: of an async one it is the function as it is written."""

    def __init__(self, function: Callable[..., Any], run: Callable[[Any], Any]) -> None:
        self._function = function
        self._blocking = _blocking(function, run)

    def _of(self, client: Any, owner: type) -> Any:
        function = self._blocking if issubclass(owner, ServiceClient) else self._function
        return function if client is None else function.__get__(client, owner)


def _blocking(function: Callable[..., Any], run: Callable[[Any], Any]) -> Callable[..., Any]:
    """Returns the blocking form of a coroutine function or of an async generator function."""

    @functools.wraps(function)
    def method(*args: Any, **kwargs: Any) -> Any:
        return run(function(*args, **kwargs))

    signature = inspect.signature(function)
    returned = str(signature.return_annotation).replace("AsyncIterator", "Iterator")
    method.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return method


class operation(_Method, Generic[C, P, T]):  # noqa: N801 -- a decorator
    """Makes a method of both clients of a coroutine function.

    Within such a function, another method is called through its class: `await
    Class.method(self, ...)` is the coroutine, whichever the client.
    """

    def __init__(self, function: Callable[Concatenate[C, P], Coroutine[Any, Any, T]]) -> None:
        super().__init__(function, finish)

    @overload
    def __get__(
        self, client: None, owner: type
    ) -> Callable[Concatenate[C, P], Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: ServiceClient, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, client: AsyncServiceClient, owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self._of(client, owner)


class listing(_Method, Generic[C, P, T]):  # noqa: N801 -- a decorator
    """Makes a method of both clients of an async generator function; see `operation`."""

    def __init__(self, function: Callable[Concatenate[C, P], AsyncIterator[T]]) -> None:
        super().__init__(function, iterate)

    @overload
    def __get__(
        self, client: None, owner: type
    ) -> Callable[Concatenate[C, P], AsyncIterator[T]]: ...
    @overload
    def __get__(self, client: ServiceClient, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncServiceClient, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self._of(client, owner)
