"""A disk cache of preprocessed images: the second model over a data set decodes nothing.

Each image and profile has one file, named by their digests and renamed when it is complete.
Processes share a directory without communicating: each reads what the others wrote, from the page
cache of the machine. Reading into the caller's memory took 21 microseconds for 196 KiB, mapping the
file 37, and a slot of one large mapped file 18: too small a gain for an index that a crash can
damage.

When the cache is full, random entries are evicted. A benchmark reads whole data sets repeatedly in
the same order; if a data set does not fit, the least recently used image is always the one needed
next.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np

from cxreval.imaging import decode
from cxreval.imaging.preprocess import Profile, Tensor

_CHECKSUM_BYTES = 4
_KEPT_SHARE = 0.9  # of `max_bytes`, after an eviction: one for each image would be expensive
_ABANDONED_SECONDS = 600.0
_LOCK_TRIES = 20
_LOCK_SECONDS = 0.001


def image_digest(data: bytes) -> str:
    """Returns the sha256 of an encoded image, as 64 hex characters."""
    return hashlib.sha256(data).hexdigest()


class ImageCache:
    """A directory of preprocessed images of at most `max_bytes`, shared by threads and processes.

    A damaged entry is never returned, not even after a crash or a power failure: an entry that is
    shorter than its tensor or does not match its checksum is removed and reported missing.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Raises `OSError` if the directory cannot be created or written."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self._size_file = os.open(directory / "size", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self, profile: Profile, image: str, out: Tensor) -> bool:
        """Fills `out` with the tensors of the image with this digest; False if they are missing.

        `out` must be contiguous. After False, its content is undefined.
        """
        path = self._path(profile, image)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        content, checksum = out.data.cast("B"), bytearray(_CHECKSUM_BYTES + 1)
        try:
            nbytes = os.preadv(file, [content, checksum], 0)
        finally:
            os.close(file)
        complete = nbytes == out.nbytes + _CHECKSUM_BYTES
        if complete and checksum[:_CHECKSUM_BYTES] == _checksum(content):
            return True
        path.unlink(missing_ok=True)
        return False

    def write(self, profile: Profile, image: str, tensor: Tensor) -> bool:
        """Stores the tensors of an image; False if there is no room, or a process is evicting.

        Raises:
            OSError: the directory cannot be written.
        """
        if not self._reserve(tensor.nbytes + _CHECKSUM_BYTES):
            return False
        path = self._path(profile, image)
        part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_native_id()}.part")
        content = np.ascontiguousarray(tensor).data.cast("B")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with part.open("wb", buffering=0) as file:
                written = os.writev(file.fileno(), [content, _checksum(content)])
            if written == content.nbytes + _CHECKSUM_BYTES:  # less where the disk is full
                part.replace(path)
                return True
        finally:
            part.unlink(missing_ok=True)
        return False

    def close(self) -> None:
        """Closes the cache; no read or write may follow."""
        os.close(self._size_file)

    def _path(self, profile: Profile, image: str) -> Path:
        return self._directory / f"{profile.digest}-{decode.REVISION}" / image[:2] / image

    def _reserve(self, nbytes: int) -> bool:
        """Adds an entry to the recorded size; False if there is no room for it.

        It is added before it is written, so after a crash the size may be too high, never too low.
        """
        if nbytes > self._max_bytes:
            return False
        with self._locked() as locked:
            if not locked:
                return False
            used = int.from_bytes(os.pread(self._size_file, 8, 0), "little")
            if used + nbytes > self._max_bytes:
                used = self._make_room(int(self._max_bytes * _KEPT_SHARE) - nbytes)
            os.pwrite(self._size_file, (used + nbytes).to_bytes(8, "little"), 0)
            return used + nbytes <= self._max_bytes

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Tries to lock the size file; yields whether it is locked.

        It gives up soon, so a process that stops while it holds the lock does not block the others.
        """
        with self._mutex:
            locked = self._try_lock()
            try:
                yield locked
            finally:
                if locked:
                    fcntl.flock(self._size_file, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        for _ in range(_LOCK_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._size_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            time.sleep(_LOCK_SECONDS)
        return False

    def _make_room(self, most: int) -> int:
        """Removes entries until at most `most` bytes are left; returns how many are left."""
        entries = list(self._entries())
        used = sum(size for _, size in entries)
        random.shuffle(entries)
        for path, size in entries:
            if used <= most:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used

    def _entries(self) -> Iterator[tuple[Path, int]]:
        """Yields every entry with its size; removes files that killed writers left behind."""
        abandoned = time.time() - _ABANDONED_SECONDS
        for path in self._directory.glob("*/*/*"):
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                status = path.stat()
                if path.suffix == ".part" and status.st_mtime < abandoned:
                    path.unlink()
                elif path.suffix != ".part":
                    yield path, status.st_size


def _checksum(content: memoryview) -> bytes:
    crc = imagecodecs.deflate_crc32(content)  # type: ignore[arg-type]  # it takes any buffer
    return int(crc).to_bytes(_CHECKSUM_BYTES, "little")
