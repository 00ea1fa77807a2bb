"""Files of secret keys, created at first use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from cxreval.files import durable_file


def key_in(file: Path, make: Callable[[], bytes]) -> bytes:
    """Returns the content of a key file; a missing one is created with what `make` returns.

    Only the owner can read the file. If two processes create it at once, both get the content of
    the one that was first. Raises `OSError`.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            contextlib.suppress(FileExistsError),
            durable_file(file, overwrite=False) as content,
        ):
            content.write(make())
    return file.read_bytes()
