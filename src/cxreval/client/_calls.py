"""How every call is made: request id along, deadline set, the service's error raised under its own class."""

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


@contextmanager
def translated() -> Iterator[None]:
    """Raises the `CxrevalError` that a failed call stands for."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


def call(method: Callable[..., Any], request: Any, seconds: float = UNARY_SECONDS) -> Any:
    """Calls an rpc that answers once."""
    with translated():
        return method(request, timeout=seconds, metadata=request_id.outgoing())


def stream(method: Callable[..., Any], request: Any, seconds: float = STREAM_SECONDS) -> Iterator[Any]:
    """Calls an rpc that answers with a stream; leaving the iterator early cancels the call."""
    with translated():
        answers = method(request, timeout=seconds, metadata=request_id.outgoing())
        try:
            yield from answers
        finally:
            answers.cancel()


def pages(method: Callable[..., Any], request: Any, items: str) -> Iterator[Any]:
    """Every item of a list, page by page."""
    while True:
        answer = call(method, request)
        yield from getattr(answer, items)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


class ServiceClient:
    """A channel to one service. Use as a context manager, or `close()` it."""

    def __init__(self, target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> None:
        self._channel = connect(target, tls, key)

    def close(self) -> None:
        """Closes the channel; running calls end."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
