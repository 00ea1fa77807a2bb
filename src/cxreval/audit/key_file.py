"""Files with secret keys, created on first use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from cxreval.files import durable_file


def key_in(file: Path, make: Callable[[], bytes]) -> bytes:
    """Returns the content of a key file; creates the file from `make()` if it does not exist.

    Only the owner of the file can read it. Two processes that create the file at the same time
    return the same key. Raises `OSError`.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            contextlib.suppress(FileExistsError),
            durable_file(file, overwrite=False) as content,
        ):
            content.write(make())
    return file.read_bytes()
