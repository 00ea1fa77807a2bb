"""A model host that was taken over: it answers the service what no host answers.

    python -m tests.support.lying_host SOCKET NUMBER

NUMBER is that of the lie in `OPENING` or, after them, in `RUNNING`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

SIGNATURE: dict[str, Any] = {
    "input_name": "image_tensor",
    "image_shape": [1, 224, 224],
    "batch": None,
    "output_name": "probabilities",
    "dtype": "<f4",
    "provider": "CPUExecutionProvider",
    "profile": "",
}
_ERROR: dict[str, Any] = {"reason": "MODEL_UNSUPPORTED", "message": "text", "metadata": {}}
_GENERAL: list[bytes] = [
    b"no message",
    b"\xff\xfe",
    b"[" * 60_000,
    b"[]",
    b"7",
    b"null",
    b"{}",
    b"1" * 60_000,
    b'{"shape": NaN}',
    *(
        json.dumps(_ERROR | change).encode()
        for change in (
            {"reason": "UNHEARD_OF"}, {"reason": "INTERNAL"}, {"reason": "LEASE_LOST"},
            {"reason": []}, {"reason": None}, {"message": None}, {"message": "x" * 50_000},
            {"message": "\ud800"}, {"metadata": None}, {"metadata": []},
            {"metadata": {"message": "x"}}, {"metadata": {"self": "x"}}, {"metadata": {"a": 1}},
            {"metadata": {"a": "\ud800"}}, {"metadata": {"a": "x" * 50_000}},
        )
    ),
    json.dumps({"reason": "MODEL_UNSUPPORTED"}).encode(),
]  # fmt: skip

OPENING: list[bytes] = _GENERAL + [
    json.dumps(SIGNATURE | change).encode()
    for change in (
        {"input_name": None}, {"input_name": "\ud800"}, {"output_name": "x" * 50_000},
        {"image_shape": None}, {"image_shape": []}, {"image_shape": [1, 224]},
        {"image_shape": [0, 224, 224]}, {"image_shape": [-1, -224, 224]},
        {"image_shape": [1, 1, 1]}, {"image_shape": [3, 224, 224]}, {"dtype": "|u1"},
        {"dtype": "<f2"}, {"image_shape": [1, None, None]}, {"image_shape": [1, 224, None]},
        {"batch": 4096}, {"image_shape": [1, 2**40, 2**40]}, {"image_shape": [True, 224, 224]},
        {"image_shape": [1.0, 224, 224]}, {"image_shape": ["1", "2", "3"]}, {"batch": 0},
        {"batch": 10**9}, {"batch": "N"}, {"dtype": "|O"}, {"dtype": "<f8"}, {"dtype": None},
        {"provider": "Magic"}, {"provider": []}, {"profile": []},
    )
]  # fmt: skip
"""Answers to the request to open the file."""

RUNNING: list[bytes] = _GENERAL + [
    json.dumps({"shape": shape}).encode()
    for shape in (
        None, 7, "", [], [1], [1, 2, 3], [2, 14], [0, 14], [1, 0], [1, -1], [1, 10**9], [1.0, 14],
        [True, 14], ["1", "14"], [[1], [14]], {"1": 14},
    )
]  # fmt: skip
"""Answers to the request to run an image."""


def main(fd: int, number: int) -> None:
    """Tells one lie, and stays until the service ends it."""
    service = socket.socket(fileno=fd)
    service.send(json.dumps({"pid": os.getpid()}).encode())
    service.recv(65536)
    service.send(b"{}")
    service.recv(65536)
    if number >= len(OPENING):
        service.send(json.dumps(SIGNATURE).encode())
        service.recv(65536)
        service.send(b"{}")
        service.recv(65536)
    service.send((OPENING + RUNNING)[number])
    service.recv(65536)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
