"""Makes calls: sends the request id, sets the deadline, raises the service's named error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import grpc

from cxreval.wire import request_id
from cxreval.wire.channel import ApiKey, TlsFiles, connect
from cxreval.wire.status import from_rpc_error

UNARY_SECONDS = 60.0
STREAM_SECONDS = 3600.0
RETRY_SECONDS = 120.0
"""Longest time without progress before an upload or a watcher gives up."""


@contextmanager
def translated() -> Iterator[None]:
    """Raises the `CxrevalError` of a failed call instead of gRPC's error."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


def call(method: Callable[..., Any], request: Any, seconds: float = UNARY_SECONDS) -> Any:
    """Returns the response of a unary call."""
    with translated():
        return method(request, timeout=seconds, metadata=request_id.outgoing())


def stream(
    method: Callable[..., Any], request: Any, seconds: float = STREAM_SECONDS
) -> Iterator[Any]:
    """Yields the responses of a streaming call; closing the iterator early cancels the call."""
    with translated():
        answers = method(request, timeout=seconds, metadata=request_id.outgoing())
        try:
            yield from answers
        finally:
            answers.cancel()


def pages(method: Callable[..., Any], request: Any) -> Iterator[Any]:
    """Yields every page of a list."""
    while True:
        answer = call(method, request)
        yield answer
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def items(method: Callable[..., Any], request: Any, name: str) -> Iterator[Any]:
    """Yields every item of a list, page by page; `name` is the field that holds the items."""
    for answer in pages(method, request):
        yield from getattr(answer, name)


class ServiceClient:
    """A channel to one service. Use as a context manager, or `close()` it."""

    def __init__(self, target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> None:
        self._channel = connect(target, tls, key)

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
