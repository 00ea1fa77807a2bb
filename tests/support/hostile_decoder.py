"""A decoder to which an image can be a command, in place of files that crash real codecs.

Limits, sandbox and messages are those of the service. An image that is no command is decoded.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cxreval.imaging.decode import decode as decode_image
from services.inference.backends import decoder

SOCKET = int(sys.argv[1]) if __name__ == "__main__" else -1


def take_memory() -> None:
    np.ones(8 << 30, np.uint8)


def fail_to_allocate() -> None:
    """Ends as C++ code does that gets no memory."""
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def answered(content: bytes) -> Callable[[], object]:
    return lambda: os.write(SOCKET, content)


COMMANDS: dict[bytes, Callable[[], object]] = {
    b"SIGSEGV": lambda: signal.raise_signal(signal.SIGSEGV),
    b"SIGFPE": lambda: signal.raise_signal(signal.SIGFPE),
    b"abort": os.abort,
    b"exit": lambda: os._exit(7),
    b"exception": lambda: 1 // 0,
    b"memory": take_memory,
    b"bad_alloc": fail_to_allocate,
    b"endless": lambda: time.sleep(600),
    b"no JSON": answered(b"\xff\xd8\xff"),
    b"no object": answered(b"[[[7]]]"),
    b"deep": answered(b"[" * 60_000),
    b"no text": answered(b'{"reason": "IMAGE_UNREADABLE"}'),
    b"no metadata": answered(b'{"reason": "IMAGE_UNREADABLE", "message": "m", "metadata": 7}'),
    b"unknown reason": answered(b'{"reason": "X", "message": "m", "metadata": {}}'),
    b"another reason": answered(b'{"reason": "INTERNAL", "message": "m", "metadata": {}}'),
}


def decode(data: bytes) -> Any:
    COMMANDS.get(data, lambda: None)()
    return decode_image(data)


if __name__ == "__main__":
    decoder.decode = decode  # type: ignore[attr-defined,assignment]
    decoder.main(SOCKET)
