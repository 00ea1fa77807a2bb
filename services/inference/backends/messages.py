"""The child's end of the socket between the service and a child process: JSON, one packet each."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

from cxreval.errors import CxrevalError
from services.inference.backends.lockdown import lock_down

MESSAGE_BYTES = 65536
NO_MEMORY = ""
"""In place of a reason: the child had no memory."""

MOST_TEXT = 1000
"""Most characters of a text in a message; an error may repeat names from the file."""

_MOST_DESCRIPTORS = 2

Message = dict[str, Any]


def enter(fd: int) -> tuple[socket.socket, list[int]]:
    """Locks this process down, as the service asks; returns the inherited socket, and the
    descriptors that came with the request."""
    service = socket.socket(fileno=fd)
    answer(service, {"pid": os.getpid()})
    request, descriptors = receive_with_descriptors(service)
    program = bytes.fromhex(request["filter"])
    lock_down(request["memory_bytes"], program, gpu=request["gpu"])
    answer(service, {})
    return service, descriptors


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
    metadata = {key: value[:MOST_TEXT] for key, value in error.metadata.items()}
    message = {"reason": error.reason, "message": error.message[:MOST_TEXT], "metadata": metadata}
    return answer(service, message)
