"""Digests of files, and writes that survive a crash of the process or the machine."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cxreval.errors import ServiceUnavailable, StorageFull

MAX_FILE_BYTES = 2**31 - 1
"""Maximum size of an artifact that is one file, a download and a model file.

A protobuf message, and so an ONNX file without external data, must be smaller than 2 GiB.
"""

MAX_ARTIFACT_BYTES = 2**33
"""Maximum size of an artifact: the archive of a submission's files (see `bundle`)."""


DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of the errors of a write for which a disk, a quota or a file's limit has no room."""


_WORK = "cxreval-work-"
_NEW_WORK = "cxreval-new-"  # before it is locked


def no_space_left(content: str) -> StorageFull:
    """Returns the error for a service's disk without room for `content`."""
    return StorageFull(
        f"no space left on the service's disk for {content}; its operator must make room"
    )


def disk_error(error: OSError, content: str) -> ServiceUnavailable:
    """Returns the named error for an error of the disk that stores `content` for a service."""
    if error.errno in DISK_FULL:
        return no_space_left(content)
    return ServiceUnavailable(
        f"the service's disk for {content} cannot be used at the moment; retry later"
    )


def file_sha256(file: Path | str) -> str:
    """Returns the sha256 of a file as 64 lower-case hex characters."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sync_directory(directory: Path) -> None:
    """Writes a directory's entries to disk: a file created or renamed in it is there after a crash.

    The content of the file must be synced by itself.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def durable_file(file: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Opens a temporary file that becomes `file`, synced to disk, when the block ends.

    After an error in the block, `file` is as it was. The file is readable by its owner only.

    Raises:
        FileExistsError: `file` exists and `overwrite` is false.
    """
    descriptor, name = tempfile.mkstemp(
        dir=file.parent, prefix=f".{file.name[:12]}-", suffix=".part"
    )
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as content:
            yield content
            content.flush()
            os.fsync(descriptor)
        if overwrite:
            part.replace(file)
        else:
            os.link(part, file)
        sync_directory(file.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def work_directory() -> Iterator[Path]:
    """Yields an empty directory for temporary files, which is removed when the block ends.

    What a process has left that was killed is removed by the next call on this machine: each
    directory is locked while its process runs.
    """
    parent = Path(tempfile.gettempdir()).resolve()
    for left in parent.glob(f"{_WORK}*"):
        with suppress(OSError), _locked(left) as owner:
            if owner == os.geteuid():
                delete_tree(left)
    new = Path(tempfile.mkdtemp(prefix=_NEW_WORK, dir=parent))
    with _locked(new):
        directory = new.rename(parent / f"{_WORK}{new.name.removeprefix(_NEW_WORK)}")
        try:
            yield directory
        finally:
            delete_tree(directory)


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """Locks a directory and yields its owner. Raises `OSError` if another process has the lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def delete_tree(directory: Path) -> None:
    """Deletes a directory and its read-only folders; another process may be doing the same."""
    for parent, _, _ in os.walk(directory):
        with suppress(OSError):
            Path(parent).chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
