"""A disk cache of model files: fetched when missing, verified each time they are opened."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cxreval.errors import ArtifactCorrupt, ArtifactTooLarge
from cxreval.files import MAX_ARTIFACT_BYTES, disk_error, durable_file, file_sha256

_log = logging.getLogger(__name__)

Fetch = Callable[[str], Iterator[bytes]]
"""Yields the bytes of the artifact with this sha256; blocks. Raises `CxrevalError`."""


class ModelCache:
    """A directory of `<sha256>.onnx` files, models or archives of their files, for one process.

    Thread-safe; its methods block.
    """

    def __init__(self, directory: Path, max_bytes: int, fetch: Fetch) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for part in directory.glob("*.part"):
            part.unlink()  # an unfinished download of a killed process
        self._directory = directory
        self._max_bytes = max_bytes
        self._fetch = fetch
        self._removing = threading.Lock()
        self._used: Counter[Path] = Counter()

    def is_writable(self) -> bool:
        """Whether a model could be fetched into the directory."""
        return os.access(self._directory, os.W_OK | os.X_OK)

    @contextlib.contextmanager
    def file(self, digest: str) -> Iterator[Path]:
        """Yields the model's file, fetched if needed and verified against its digest.

        It stays in the directory while the context lasts.

        Raises:
            ArtifactCorrupt: the fetched bytes have another digest.
            ArtifactTooLarge: the model is larger than the limit.
            StorageFull: the disk is full.
            CxrevalError: as `fetch` raises.
        """
        file = self._directory / f"{digest}.onnx"
        with self._removing:
            self._used[file] += 1
        try:
            self._provide(digest, file)
            yield file
        finally:
            with self._removing:
                self._used[file] -= 1
                if not self._used[file]:
                    del self._used[file]

    def _provide(self, digest: str, file: Path) -> None:
        if file.exists():
            if file_sha256(file) == digest:
                os.utime(file)  # for the eviction of the least recently used
                return
            _log.warning("cached model is corrupt; fetching it again", extra={"model": digest})
        try:
            self._download(digest, file)
        except OSError as error:
            _log.error("the model cache cannot be written", exc_info=error)
            raise disk_error(error, "models") from error
        with self._removing:
            self._remove_oldest()

    def add(self, file: Path) -> str:
        """Copies a file into the directory; returns its digest. Raises `OSError`."""
        digest = file_sha256(file)
        kept = self._directory / f"{digest}.onnx"
        if not kept.exists():
            part = kept.with_suffix(".part")
            shutil.copyfile(file, part)
            part.replace(kept)
        return digest

    def _download(self, digest: str, file: Path) -> None:
        with durable_file(file) as content:
            actual = self._copy(digest, content.write)
            if actual != digest:
                raise ArtifactCorrupt(
                    f"fetched model has sha256 {actual}; expected {digest}",
                    field="model_name",
                    expected=digest,
                    found=actual,
                )

    def _copy(self, digest: str, write: Callable[[bytes], object]) -> str:
        """Fetches and writes the artifact; returns the sha256 of its bytes."""
        sha256, size = hashlib.sha256(), 0
        for piece in self._fetch(digest):
            size += len(piece)
            if size > MAX_ARTIFACT_BYTES:
                expected = f"at most {MAX_ARTIFACT_BYTES} bytes"
                raise ArtifactTooLarge(
                    f"model is too large; expected {expected}", expected=expected
                )
            sha256.update(piece)
            write(piece)
        return sha256.hexdigest()

    def _remove_oldest(self) -> None:
        """Removes the least recently used files, but for those that are used now."""
        used = sorted(
            (path.stat().st_mtime, path.stat().st_size, path)
            for path in self._directory.glob("*.onnx")
        )
        total = sum(size for _, size, _ in used)
        for _, size, path in used:
            if total <= self._max_bytes:
                return
            if not self._used[path]:
                path.unlink()
                total -= size
