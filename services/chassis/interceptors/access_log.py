"""Gives every rpc its request id and logs it once, when it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cxreval.wire import request_id
from services.chassis.interceptors import Call

_log = logging.getLogger("access")
_QUIET = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})


@asynccontextmanager
async def logged(call: Call) -> AsyncIterator[None]:
    """Takes the request id from the metadata, or makes one; logs method, code, peer and duration."""
    received = dict(call.context.invocation_metadata() or ()).get(request_id.METADATA_KEY)
    call.request_id = request_id.accept(received if isinstance(received, str) else None)
    token = request_id.current.set(call.request_id)
    peer = call.context.peer()
    start = time.perf_counter()
    try:
        yield
    finally:
        level = logging.DEBUG if call.service in _QUIET else logging.INFO
        _log.log(
            level,
            "%s/%s %s",
            call.service,
            call.method,
            call.code.name,
            extra={
                "code": call.code.name,
                "peer": peer,
                "seconds": round(time.perf_counter() - start, 6),
            },
        )
        request_id.current.reset(token)
