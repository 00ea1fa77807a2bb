"""Sets the request id of every rpc and logs the rpc when it ends."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from types import TracebackType

import grpc

from cxreval.wire import request_id
from services.chassis.interceptors.access import OPEN_SERVICES
from services.chassis.interceptors.call import Call

_log = logging.getLogger("access")
_QUIET_WHEN_OK = frozenset({"ModelInfer"})  # thousands per second; metrics count them


class Logged(AbstractContextManager[None]):
    """Sets the request id from the metadata; logs method, code, peer, caller and duration."""

    __slots__ = ("_call", "_start", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        call = self._call
        received = dict(call.context.invocation_metadata() or ()).get(request_id.METADATA_KEY)
        call.request_id = request_id.accept(received if isinstance(received, str) else None)
        self._token = request_id.current.set(call.request_id)
        self._start = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        call = self._call
        quiet = call.service in OPEN_SERVICES or (
            call.method in _QUIET_WHEN_OK and call.code is grpc.StatusCode.OK
        )
        level = logging.DEBUG if quiet else logging.INFO
        if _log.isEnabledFor(level):
            extra = {
                "code": call.code.name,
                "peer": call.context.peer(),
                "principal": call.principal.name if call.principal else "",
                "seconds": round(time.perf_counter() - self._start, 6),
            }
            _log.log(level, "%s/%s %s", call.service, call.method, call.code.name, extra=extra)
        request_id.current.reset(self._token)
