"""Turns a raised `CxrevalError` into a status with its reason, and anything else into INTERNAL with a fixed text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from cxreval import errors
from cxreval.wire import status
from services.chassis.interceptors import Call

_log = logging.getLogger(__name__)


@asynccontextmanager
async def mapped_errors(call: Call) -> AsyncIterator[None]:
    """The one place where an exception becomes a status. An unknown one goes to the log, never to the caller."""
    try:
        yield
    except errors.CxrevalError as error:
        await _abort(call, error)
    except DecodeError:
        expected = f"a message as {call.service}/{call.method} takes it"
        message = f"the request is not valid protobuf, or has text that is not UTF-8; expected {expected}"
        await _abort(call, errors.MalformedField(message, field="request", expected=expected))
    except grpc.aio.AbortError:
        call.code = call.context.code() or grpc.StatusCode.UNKNOWN
        raise
    except asyncio.CancelledError:
        left = call.context.time_remaining()
        expired = left is not None and left <= 0
        call.code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
        raise
    except Exception:  # noqa: BLE001 - logged in full; the caller gets a fixed text
        _log.exception("unexpected error in %s/%s", call.service, call.method)
        await _abort(
            call, errors.InternalError("internal error; the service's log has the cause under this request id")
        )


async def _abort(call: Call, error: errors.CxrevalError) -> None:
    call.code, message, details = status.to_status(error)
    await call.context.abort(call.code, message, trailing_metadata=((status.DETAILS_KEY, details),))
