"""Files of secret keys, made at their first use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def key_in(file: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a key file. If there is none it is made, readable by its owner alone, of what
    `make` returns.

    Of two processes that make it at once, one wins and both get the winner's. Raises `OSError`.
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
