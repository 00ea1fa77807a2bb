"""The child's end of the socket between the service and a child process: JSON, one packet each."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

from cxreval.errors import CxrevalError

MESSAGE_BYTES = 65536
NO_MEMORY = ""
"""In place of a reason: the child had no memory."""

_MOST_DESCRIPTORS = 2
_TEXT = 2000  # characters of a text in an error, which may repeat names from the file

Message = dict[str, Any]


def connect(fd: int) -> socket.socket:
    """Returns the inherited socket; says which process this is, as it numbers itself."""
    service = socket.socket(fileno=fd)
    answer(service, {"pid": os.getpid()})
    return service


def answer(service: socket.socket, message: Mapping[str, Any]) -> None:
    """Sends a message."""
    service.send(json.dumps(message).encode())


def receive(service: socket.socket) -> Message:
    """Returns the next message; empty when the other end is closed."""
    return receive_with_descriptors(service)[0]


def receive_with_descriptors(service: socket.socket) -> tuple[Message, list[int]]:
    """Returns the next message and the descriptors that came with it."""
    content, descriptors, _, _ = socket.recv_fds(service, MESSAGE_BYTES, _MOST_DESCRIPTORS)
    return (json.loads(content) if content else {}), descriptors


def refuse(service: socket.socket, error: CxrevalError | MemoryError) -> None:
    """Sends an error."""
    if isinstance(error, MemoryError):
        return answer(service, {"reason": NO_MEMORY})
    metadata = {key: value[:_TEXT] for key, value in error.metadata.items()}
    message = {"reason": error.reason, "message": error.message[:_TEXT], "metadata": metadata}
    return answer(service, message)
