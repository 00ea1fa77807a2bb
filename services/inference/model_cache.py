"""Model files on the local disk, named by their sha256, fetched when missing and verified whenever
they are opened."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cxreval.errors import ArtifactCorrupt, ArtifactTooLarge
from cxreval.files import durable_file, file_sha256
from services.inference.backends.onnx import MAX_MODEL_BYTES

_log = logging.getLogger(__name__)

Fetch = Callable[[str], Iterator[bytes]]
"""Gives the bytes of the artifact with this sha256, in pieces; blocks. Raises `CxrevalError`."""


class ModelCache:
    """A directory of `<sha256>.onnx` files, of one process. Blocking; its threads may share it."""

    def __init__(self, directory: Path, max_bytes: int, fetch: Fetch) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for part in directory.glob("*.part"):
            part.unlink()  # of a download that a killed process left behind
        self._directory = directory
        self._max_bytes = max_bytes
        self._fetch = fetch
        self._removing = threading.Lock()

    def file(self, digest: str) -> Path:
        """The model's file, with the bytes that its digest says.

        Raises:
            ArtifactCorrupt: the bytes that were fetched have another digest.
            ArtifactTooLarge: they are more than a model may have.
            CxrevalError: whatever `fetch` raises.
        """
        file = self._directory / f"{digest}.onnx"
        if file.exists():
            if file_sha256(file) == digest:
                os.utime(file)  # what was used last is removed last
                return file
            _log.warning("cached model is corrupt, fetching it again", extra={"model": digest})
        self._download(digest, file)
        with self._removing:
            self._remove_oldest(keep=file)
        return file

    def add(self, file: Path) -> str:
        """Copies a file into the directory; its digest. Raises `OSError`."""
        digest = file_sha256(file)
        kept = self._directory / f"{digest}.onnx"
        if not kept.exists():
            part = kept.with_suffix(".part")
            shutil.copyfile(file, part)
            part.replace(kept)
        return digest

    def _download(self, digest: str, file: Path) -> None:
        with durable_file(file) as content:
            found = self._copy(digest, content.write)
            if found != digest:
                raise ArtifactCorrupt(
                    f"fetched model has sha256 {found}; expected {digest}",
                    field="model_name",
                    expected=digest,
                    found=found,
                )

    def _copy(self, digest: str, write: Callable[[bytes], object]) -> str:
        """Writes the artifact; returns the sha256 of what came."""
        sha256, size = hashlib.sha256(), 0
        for piece in self._fetch(digest):
            size += len(piece)
            if size > MAX_MODEL_BYTES:
                expected = f"at most {MAX_MODEL_BYTES} bytes"
                raise ArtifactTooLarge(
                    f"model is larger than a model may be; expected {expected}", expected=expected
                )
            sha256.update(piece)
            write(piece)
        return sha256.hexdigest()

    def _remove_oldest(self, keep: Path) -> None:
        """Removes files until the rest fit the limit. An open session keeps its file's contents all
        the same."""
        used = sorted(
            (path.stat().st_mtime, path.stat().st_size, path)
            for path in self._directory.glob("*.onnx")
        )
        total = sum(size for _, size, _ in used)
        for _, size, path in used:
            if total <= self._max_bytes:
                return
            if path != keep:
                path.unlink()
                total -= size
