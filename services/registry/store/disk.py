"""The disk space that the registry has left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cxreval.errors import StorageFull
from cxreval.wire.limits import MIB


def storage_trouble(paths: Sequence[Path], reserve: int) -> StorageFull | None:
    """Returns the error of the first file or directory on whose disk nothing can be recorded.

    `reserve`: the free bytes that each disk must have.
    """
    for path in paths:
        try:
            disk = os.statvfs(path)
        except OSError as error:
            return StorageFull(f"{path} cannot be used: {error.strerror}")
        free = disk.f_bavail * disk.f_frsize
        if disk.f_flag & os.ST_RDONLY:
            return StorageFull(f"the disk of {path} is read-only")
        if free < reserve:
            return StorageFull(
                f"the disk of {path} has {free // MIB} MiB free; expected {reserve // MIB} MiB"
            )
        if disk.f_files and not disk.f_favail:
            return StorageFull(f"the disk of {path} can hold no more files")
    return None
