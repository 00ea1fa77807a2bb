"""How every call is made: request id along, deadline set, the service's error raised under its own
class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from cxreval.errors import CxrevalError, DeadlineExceeded, ServiceOverloaded, ServiceUnavailable
from cxreval.wire import request_id
from cxreval.wire.channel import ApiKey, TlsFiles, connect
from cxreval.wire.status import from_rpc_error

UNARY_SECONDS = 60.0
STREAM_SECONDS = 3600.0
PATIENCE_SECONDS = 120.0
"""How long a service may be away, or get nowhere, before a client that waits for it gives up."""

PASSING = (ServiceUnavailable, ServiceOverloaded, DeadlineExceeded)
_PAUSES = (0.2, 5.0)

T = TypeVar("T")


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


def stream(
    method: Callable[..., Any], request: Any, seconds: float = STREAM_SECONDS
) -> Iterator[Any]:
    """Calls an rpc that answers with a stream; leaving the iterator early cancels the call."""
    with translated():
        answers = method(request, timeout=seconds, metadata=request_id.outgoing())
        try:
            yield from answers
        finally:
            answers.cancel()


def pages(method: Callable[..., Any], request: Any) -> Iterator[Any]:
    """Every page of a list."""
    while True:
        answer = call(method, request)
        yield answer
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def items(method: Callable[..., Any], request: Any, name: str) -> Iterator[Any]:
    """Every item of a list, page by page; `name`: of the field that holds them."""
    for answer in pages(method, request):
        yield from getattr(answer, name)


class Patience:
    """How long to go on with what fails again and again for a passing reason: `seconds`, from the
    first failure on.

    `on_failure` hears each failure.
    """

    def __init__(self, seconds: float, on_failure: Callable[[CxrevalError], None]) -> None:
        self._seconds = seconds
        self._on_failure = on_failure
        self.begin()

    def begin(self) -> None:
        """Something got on: patience begins anew."""
        self._give_up, self._pause = 0.0, _PAUSES[0]

    def wait(self, error: CxrevalError) -> None:
        """Pauses. Raises the error when patience is at its end."""
        now = time.monotonic()
        self._give_up = self._give_up or now + self._seconds
        if now + self._pause > self._give_up:
            raise error
        self._on_failure(error)
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _PAUSES[1])

    def call(self, step: Callable[[], T]) -> T:
        """What `step` returns, as soon as it does not fail for a passing reason."""
        while True:
            try:
                return step()
            except PASSING as error:
                self.wait(error)


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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
