"""Artifacts in a local directory.

An artifact is the file `<first two hex characters>/<sha256>`, an upload the file
`uploads/<owner>-<sha256>`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from cxreval.errors import ArtifactNotFound, UploadBusy
from cxreval.fields import SHA256
from cxreval.files import disk_error, sync_directory
from cxreval.resource_names import ArtifactName
from services.registry.store.artifacts import UploadKey, busy, check_digest, check_offset, verified
from services.registry.store.disk import check_space

_log = logging.getLogger(__name__)
_READ_BYTES = 1 << 20
_SYNC_BYTES = 16 << 20  # written between two early syncs


class LocalArtifacts:
    """See `Artifacts`. Registries may share a directory if its file system has locks.

    Uploads leave `reserve` bytes of the disk free.
    """

    def __init__(self, directory: Path, reserve: int = 0) -> None:
        self._directory = directory
        self._reserve = reserve
        self._uploads = directory / "uploads"
        self._uploads.mkdir(parents=True, exist_ok=True)
        self._syncing = ThreadPoolExecutor(2, "artifact-sync")

    @contextmanager
    def receive(self, key: UploadKey) -> Iterator[_LocalUpload]:
        """See `Artifacts.receive`."""
        with _locked(self._part(key), key) as file:
            place = self._place(ArtifactName(key.sha256))
            yield _LocalUpload(file, key, self._part(key), place, self._syncing, self._reserve)

    def received(self, key: UploadKey) -> int:
        """See `Artifacts.received`."""
        try:
            file = self._part(key).open("rb")
        except FileNotFoundError:
            return 0
        with file, _usable():
            # The client will not send these bytes again, so they must survive a power loss.
            os.fsync(file.fileno())
            sync_directory(self._uploads)
            return os.fstat(file.fileno()).st_size

    def read(self, name: ArtifactName, chunk_bytes: int) -> Iterator[bytes]:
        """See `Artifacts.read`."""
        try:
            file = self._place(name).open("rb")
        except FileNotFoundError:
            raise ArtifactNotFound(f"the bytes of {name} are not stored here", name=name) from None
        with file, _usable():
            yield from verified(iter(lambda: file.read(chunk_bytes), b""), name)

    def stale_uploads(self, before: datetime) -> list[UploadKey]:
        """See `Artifacts.stale_uploads`."""
        keys = (UploadKey.parse(file.name) for file in _older(self._uploads, before))
        return [key for key in keys if key]

    def stale_artifacts(self, before: datetime) -> list[ArtifactName]:
        """See `Artifacts.stale_artifacts`."""
        directories = [
            entry for entry in self._directory.iterdir() if len(entry.name) == 2 and entry.is_dir()
        ]
        files = (file for directory in directories for file in _older(directory, before))
        return [ArtifactName(file.name) for file in files if SHA256.fullmatch(file.name)]

    def remove_upload(self, key: UploadKey) -> bool:
        """See `Artifacts.remove_upload`."""
        if not self._part(key).exists():
            return False
        try:
            with _locked(self._part(key), key):
                self._part(key).unlink()
        except UploadBusy:
            return False
        return True

    def remove(self, name: ArtifactName) -> None:
        """See `Artifacts.remove`."""
        self._place(name).unlink(missing_ok=True)

    def _part(self, key: UploadKey) -> Path:
        return self._uploads / str(key)

    def _place(self, name: ArtifactName) -> Path:
        return self._directory / name.sha256[:2] / name.sha256


class _LocalUpload:
    """See `Upload`. Holds the lock on its file, so no other call appends to it or removes it."""

    def __init__(
        self,
        file: BinaryIO,
        key: UploadKey,
        part: Path,
        place: Path,
        syncing: Executor,
        reserve: int,
    ) -> None:
        self._file = file
        self._key = key
        self._part = part
        self._place = place
        self._syncing = syncing
        self._reserve = reserve
        self._unsynced = 0
        self._digest = hashlib.sha256()

    def begin(self, offset: int, missing_bytes: int = 0) -> None:
        check_offset(offset, os.fstat(self._file.fileno()).st_size)
        with _usable():
            check_space(self._part, missing_bytes, self._reserve)
            self._file.seek(0)
            while chunk := self._file.read(_READ_BYTES):
                self._digest.update(chunk)

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        with _usable():
            # Uploads that run at the same time may need more together than was free.
            check_space(self._part, len(chunk), self._reserve)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._unsynced += len(chunk)
        if self._unsynced >= _SYNC_BYTES:
            self._unsynced = 0
            self._syncing.submit(_begin_to_sync, self._part)
        self._digest.update(chunk)

    def suspend(self) -> None:
        """Nothing to do: the file stays."""

    def discard(self) -> None:
        if _is_at(self._part, self._file):  # false after `place`
            self._part.unlink()

    def store(self) -> None:
        check_digest(self._digest.hexdigest(), self._key)
        with _usable():
            os.fsync(self._file.fileno())
            # The file's age counts from now: the search for orphans skips young files.
            os.utime(self._file.fileno())

    def place(self) -> None:
        with _usable():
            self._place.parent.mkdir(exist_ok=True)
            self._part.replace(self._place)
            sync_directory(self._place.parent)
            sync_directory(self._place.parent.parent)


@contextmanager
def _locked(part: Path, key: UploadKey) -> Iterator[BinaryIO]:
    """Opens and locks the file of an upload, creating it if needed. The kernel releases the lock
    when the process ends. Raises `UploadBusy`."""
    while True:
        # Unbuffered: written bytes are in the kernel and survive the process.
        with _usable():
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy(key) from None
            if not _is_at(part, file):
                continue  # another call ended the upload between opening and locking
            try:
                yield file
            finally:
                if _is_at(part, file) and os.fstat(file.fileno()).st_size == 0:
                    part.unlink()
            return


def _is_at(part: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(part.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _older(directory: Path, before: datetime) -> Iterator[Path]:
    for file in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if datetime.fromtimestamp(file.stat().st_mtime, UTC) < before:
                yield file


@contextmanager
def _usable() -> Iterator[None]:
    """Raises `StorageFull` for a full disk, and `ServiceUnavailable` for another failure of the
    disk, such as a lost mount."""
    try:
        yield
    except OSError as error:
        _log.error("the artifact store cannot be used", exc_info=error)
        raise disk_error(error, "artifacts") from error


def _begin_to_sync(part: Path) -> None:
    """Starts writing to disk while more is received. Errors are ignored: `store` syncs again."""
    with contextlib.suppress(OSError), part.open("rb") as file:
        os.fdatasync(file.fileno())
