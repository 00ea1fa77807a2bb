"""The request id that follows one call through every service it touches.

A server takes it from the call's metadata, or makes one; every client sends `outgoing()` with its
calls.
"""

import random
import re
from contextvars import ContextVar

METADATA_KEY = "x-request-id"

current: ContextVar[str] = ContextVar("cxreval_request_id", default="")

_PRINTABLE = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


def accept(received: str | None) -> str:
    """The received id if it is fit for a log line, else a new one."""
    if received and _PRINTABLE.fullmatch(received):
        return received
    return f"{random.getrandbits(128):032x}"  # unique, not secret: system randomness takes 20 microseconds


def outgoing() -> tuple[tuple[str, str], ...]:
    """Metadata for a call made on behalf of the current request, or of a new one."""
    return ((METADATA_KEY, accept(current.get())),)
