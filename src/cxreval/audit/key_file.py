"""Files of secret keys, made at their first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def key_in(file: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a key file. If there is none it is made, readable by its owner alone, of what `make` returns.

    Of two processes that make it at once, one wins and both get the winner's. Raises `OSError`.
    """
    if not file.exists():
        _write_once(file, make())
    return file.read_bytes()


def _write_once(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
