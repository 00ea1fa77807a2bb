"""Where checkpoints are kept: by the sha256 of their bytes, complete or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from cxreval.errors import ArtifactCorrupt, ArtifactNotFound, DigestMismatch
from cxreval.resource_names import ArtifactName

_log = logging.getLogger(__name__)
_UPLOAD_PREFIX = ".upload-"


class Incoming(Protocol):
    """An artifact that is being received."""

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes."""

    def verify(self) -> None:
        """Raises `DigestMismatch` unless the bytes so far have the artifact's digest."""

    def keep(self) -> None:
        """Puts the bytes in their place, durably. Call after `verify`."""


class Artifacts(Protocol):
    """A store of artifacts."""

    def receive(self, name: ArtifactName) -> AbstractContextManager[Incoming]:
        """Begins to receive an artifact. Unless it was kept, nothing remains of it after the block."""

    def read(self, name: ArtifactName, chunk_bytes: int) -> Iterator[bytes]:
        """The bytes, the last chunk only after the digest of all of them was verified.

        Raises:
            ArtifactNotFound: it is not stored.
            ArtifactCorrupt: the stored bytes no longer have their digest.
        """


class LocalArtifacts:
    """Artifacts in a local directory, at `<first two hex characters>/<sha256>`."""

    def __init__(self, directory: Path) -> None:
        """Makes the directory and removes what uploads that were killed left in it."""
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob(f"*/{_UPLOAD_PREFIX}*"):
            _remove_if_stale(stale)

    @contextmanager
    def receive(self, name: ArtifactName) -> Iterator[_IncomingFile]:
        """See `Artifacts.receive`."""
        place = self._place(name)
        place.parent.mkdir(exist_ok=True)
        incoming = _IncomingFile(name, place)
        try:
            yield incoming
        finally:
            incoming.close()

    def read(self, name: ArtifactName, chunk_bytes: int) -> Iterator[bytes]:
        """See `Artifacts.read`."""
        digest = hashlib.sha256()
        try:
            file = self._place(name).open("rb")
        except FileNotFoundError:
            raise ArtifactNotFound(f"the bytes of {name} are not stored here", name=name) from None
        with file:
            held_back = b""
            while chunk := file.read(chunk_bytes):
                digest.update(chunk)
                if held_back:
                    yield held_back
                held_back = chunk
        if digest.hexdigest() != name.sha256:
            _log.error("artifact is corrupt", extra={"artifact": name.sha256, "found": digest.hexdigest()})
            raise ArtifactCorrupt(f"the stored bytes of {name} have another digest now", name=name)
        yield held_back

    def _place(self, name: ArtifactName) -> Path:
        return self._directory / name.sha256[:2] / name.sha256


class _IncomingFile:
    """A temporary file beside its future place. It is locked while its process lives: see `_remove_if_stale`."""

    def __init__(self, name: ArtifactName, place: Path) -> None:
        self._name = name
        self._place = place
        self._digest = hashlib.sha256()
        descriptor, path = tempfile.mkstemp(prefix=_UPLOAD_PREFIX, dir=place.parent)
        self._path = Path(path)
        self._file = os.fdopen(descriptor, "wb")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)

    def verify(self) -> None:
        found = self._digest.hexdigest()
        if found != self._name.sha256:
            message = f"the bytes have sha256 {found}; the manifest declares {self._name.sha256}"
            field = "manifest.artifact_sha256"
            raise DigestMismatch(message, field=field, found=found, expected=self._name.sha256)

    def keep(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.replace(self._place)
        _sync_directory(self._place.parent)
        _sync_directory(self._place.parent.parent)

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def _remove_if_stale(file: Path) -> None:
    # Another registry on the same directory may be receiving it: the kernel drops the lock only when that one is gone.
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink(missing_ok=True)
    except (BlockingIOError, FileNotFoundError):
        return
    _log.info("removed an unfinished upload", extra={"file": file.name})


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
