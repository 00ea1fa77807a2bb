"""The disk space that the registry has left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cxreval.files import no_space_left
from cxreval.wire.limits import MIB
from services.chassis.health import Unhealthy

STORAGE_FULL = "storage_full"
STORAGE_UNUSABLE = "storage_unusable"

_LEAST_BYTES = MIB


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
        if _lacks_inodes(disk):
            raise Unhealthy(STORAGE_FULL, f"the disk of {path} can hold no more files")


def check_space(path: Path, size: int, reserve: int) -> None:
    """Raises `StorageFull` if the disk of `path` would have less than `reserve` bytes free after
    `size` more were written."""
    if _free_bytes(os.statvfs(path)) - size < reserve:
        raise no_space_left(f"{size} more bytes of artifacts")


def is_full(directory: Path) -> bool:
    """Returns whether SQLite cannot create the files that it keeps beside a database."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return _free_bytes(disk) < _LEAST_BYTES or _lacks_inodes(disk)


def _lacks_inodes(disk: os.statvfs_result) -> bool:
    return disk.f_files > 0 and not disk.f_favail


def _free_bytes(disk: os.statvfs_result) -> int:
    return disk.f_bavail * disk.f_frsize
