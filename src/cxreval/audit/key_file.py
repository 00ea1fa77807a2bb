"""Files with secret keys, created on first use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def key_in(file: Path, make: Callable[[], bytes]) -> bytes:
    """Returns the content of a key file; creates the file from `make()` if it does not exist.

    Only the file's owner can read it. Two processes that create it at the same time return the
    same key. Raises `OSError`.
    """
    if not file.exists():
        _write_once(file, make())
    return file.read_bytes()


def _write_once(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)  # noqa: PTH108 -- as mkstemp names it
