"""The request id of a call, passed on to every service that the call involves.

A server reads it from the call's metadata or creates one; clients send `outgoing()` as metadata.
"""

import random
import re
from contextvars import ContextVar

METADATA_KEY = "x-request-id"

current: ContextVar[str] = ContextVar("cxreval_request_id", default="")

_PRINTABLE = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


def accept(received: str | None) -> str:
    """Returns the received id if it is safe in a log line, else a new one."""
    if received and _PRINTABLE.fullmatch(received):
        return received
    # Unique, not secret: the system's random source would take 20 microseconds.
    return f"{random.getrandbits(128):032x}"


def outgoing() -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a call that belongs to the current request, or to a new one."""
    return ((METADATA_KEY, accept(current.get())),)
