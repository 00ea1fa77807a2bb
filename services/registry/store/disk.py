"""Disk space of the registry: what it has left, and what an error of the disk means."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from cxreval.errors import CxrevalError, ServiceUnavailable, StorageFull
from cxreval.wire.limits import MIB

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def storage_error(error: OSError, content: str) -> CxrevalError:
    """Returns the named error for an error of the disk that stores `content`."""
    if error.errno in _FULL:
        message = f"the registry has no disk space for {content} ({error.strerror}); "
        return StorageFull(message + "retry when the operator has made room")
    return ServiceUnavailable(
        f"the registry's disk for {content} cannot be used at the moment; retry later"
    )


def storage_trouble(paths: Sequence[Path], reserve: int) -> CxrevalError | None:
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
