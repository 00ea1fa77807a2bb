"""The disk space that the registry has left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cxreval.errors import StorageFull
from cxreval.wire.limits import MIB
from services.chassis.health import Unhealthy

STORAGE_FULL = "storage_full"
STORAGE_UNUSABLE = "storage_unusable"


def check_disks(paths: Sequence[Path], reserve: int) -> None:
    """Raises `Unhealthy` for the first file or directory on whose disk nothing can be recorded.

    `reserve`: the free bytes that each disk must have.
    """
    for path in paths:
        try:
            disk = os.statvfs(path)
        except OSError as error:
            raise Unhealthy(STORAGE_UNUSABLE, f"{path} cannot be used: {error.strerror}") from None
        free = _free_bytes(disk)
        if disk.f_flag & os.ST_RDONLY:
            raise Unhealthy(STORAGE_UNUSABLE, f"the disk of {path} is read-only")
        if free < reserve:
            found, expected = f"{free // MIB} MiB free", f"{reserve // MIB} MiB"
            raise Unhealthy(STORAGE_FULL, f"the disk of {path} has {found}; expected {expected}")
        if disk.f_files and not disk.f_favail:
            raise Unhealthy(STORAGE_FULL, f"the disk of {path} can hold no more files")


def check_space(path: Path, size: int, reserve: int) -> None:
    """Raises `StorageFull` if the disk of `path` would have less than `reserve` bytes free after
    `size` more were written."""
    if _free_bytes(os.statvfs(path)) - size < reserve:
        raise StorageFull(
            f"the service has no disk space for {size} more bytes of artifacts; retry when the "
            "operator has made room"
        )


def _free_bytes(disk: os.statvfs_result) -> int:
    return disk.f_bavail * disk.f_frsize
