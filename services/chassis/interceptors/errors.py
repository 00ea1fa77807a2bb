"""Ends a failed call with the status of its error, or with INTERNAL for unknown exceptions."""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from cxreval import errors
from cxreval.wire import status
from services.chassis.interceptors.call import Call

_log = logging.getLogger(__name__)

_STATUS_SECONDS = 2.0
"""How long a call waits until its status is sent."""


async def end_with(call: Call, error: BaseException) -> NoReturn:
    """Aborts the call with the status of an error; an unknown exception is only logged."""
    if isinstance(error, grpc.aio.AbortError):
        call.code = call.context.code() or grpc.StatusCode.UNKNOWN
        raise error
    if isinstance(error, asyncio.CancelledError):
        left = call.context.time_remaining()
        expired = left is not None and left <= 0
        call.code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
        raise error
    if not isinstance(error, Exception):
        raise error
    if isinstance(error, DecodeError):
        expected = f"the request message of {call.service}/{call.method}"
        message = f"the request is not valid protobuf or not UTF-8; expected {expected}"
        error = errors.MalformedField(message, field="request", expected=expected)
    elif not isinstance(error, errors.CxrevalError):
        _log.error("unexpected error in %s/%s", call.service, call.method, exc_info=error)
        error = errors.InternalError(
            "internal error; the service's log has the cause, under the call's request id"
        )
    call.code, message, details = status.to_status(error)
    trailing = ((status.DETAILS_KEY, details),)
    try:
        async with asyncio.timeout(_STATUS_SECONDS):
            await call.context.abort(call.code, message, trailing_metadata=trailing)
    except TimeoutError:
        # The client reads nothing. gRPC sends the status if it ever reads what was sent before.
        raise asyncio.CancelledError from None
    raise AssertionError("abort always raises")
