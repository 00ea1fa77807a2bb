"""Memory that the service shares with one model host or with one decoder."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cxreval.imaging.decode import MAX_IMAGE_BYTES
from cxreval.model_interface import MAX_COLUMNS, MAX_TENSOR_BYTES
from cxreval.onnx_file.signature import MAX_RUN_BYTES, Signature

Images = npt.NDArray[Any]  # float32, float16 or uint8
Array = npt.NDArray[np.float32]

_POOL_BYTES = 64 << 20
_MOST_PLACES = 4096
_KEPT_BYTES = 8 << 20  # of a decoder's image or tensor; most have less
_F_SEAL_FUTURE_WRITE = 0x10  # absent from fcntl
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

SHARED_BYTES = MAX_RUN_BYTES + _POOL_BYTES
"""Largest size of the images' memory."""


class SharedImages:
    """The images that a host is to run; the host can only read them.

    The first part holds one batch and is written just before it is run. In the rest, `empty`
    gives requests room, so that their images need not be copied when they are run. Pages that
    were never used take no memory.
    """

    def __init__(self, max_batch: int, signature: Signature) -> None:
        """Makes room for a batch of `max_batch` images and for the images of requests.

        Images whose sizes differ have room in the batch only.
        """
        self._image_shape = tuple(size or 0 for size in signature.image_shape)
        self._dtype = signature.dtype
        self._image_bytes = signature.image_bytes
        self._batch_bytes = max_batch * self._image_bytes
        places = min(_MOST_PLACES, _POOL_BYTES // self._image_bytes)
        if signature.sizes_differ:
            places = 0
        self._free = bytearray(places)  # 1 for a place in use
        self._lock = threading.RLock()  # a block may be released while another is taken
        self.nbytes = self._batch_bytes + len(self._free) * self._image_bytes
        self.fd, self._memory = mapped(self.nbytes, _F_SEAL_FUTURE_WRITE)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._start = self._bytes.ctypes.data

    def empty(self, count: int) -> Images:
        """Returns an array for images (count, C, H, W) of one size, in shared memory if it fits.

        Its memory is free again when nothing refers to the array or a part of it any more.
        """
        with self._lock:
            place = self._free.find(bytes(count))
            if not count or place < 0:
                return np.empty((count, *self._image_shape), self._dtype)
            self._free[place : place + count] = b"\1" * count
        interface = {
            "version": 3,
            "shape": (count, *self._image_shape),
            "typestr": self._dtype.str,
            "data": (self._start + self._batch_bytes + place * self._image_bytes, False),
        }
        return np.asarray(_Block(interface, partial(self._release, place, count)))

    def place(self, pieces: Sequence[Images]) -> list[tuple[int, tuple[int, ...]]]:
        """Returns offset and shape of each piece; copies those that are not shared."""
        places, used = [], 0
        for piece in pieces:
            offset = piece.ctypes.data - self._start
            shared = self._batch_bytes <= offset < self.nbytes and piece.flags.c_contiguous
            if not shared:
                offset, nbytes = used, piece.size * self._dtype.itemsize
                room = self._bytes[offset : offset + nbytes].view(self._dtype)
                room.reshape(piece.shape)[...] = piece
                used += nbytes
            places.append((offset, piece.shape))
        return places

    def _release(self, place: int, count: int) -> None:
        with self._lock:
            self._free[place : place + count] = bytes(count)


class _Block:
    """Room for images; an array made of it keeps it alive, and `release` is called at its end."""

    def __init__(self, interface: dict[str, Any], release: Callable[[], None]) -> None:
        self.__array_interface__ = interface
        self._release = release

    def __del__(self) -> None:
        self._release()


class SharedRows:
    """The rows that a host answers."""

    def __init__(self, max_batch: int) -> None:
        """Makes room for the rows of a batch."""
        self.nbytes = max_batch * MAX_COLUMNS * np.dtype(np.float32).itemsize
        self.fd, self._memory = mapped(self.nbytes)

    def copy(self, count: int, columns: int) -> Array:
        """Returns a copy of the rows (count, columns)."""
        return np.frombuffer(self._memory, np.float32, count * columns).reshape(count, -1).copy()


class SharedImage:
    """The encoded image that a decoder is to decode; the decoder can only read it."""

    def __init__(self) -> None:
        """Makes room for an image of `MAX_IMAGE_BYTES`; what was never used takes no memory."""
        fd, self._memory = mapped(MAX_IMAGE_BYTES)
        self.fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(fd)

    def write(self, image: bytes) -> None:
        """Writes an image of at most `MAX_IMAGE_BYTES`."""
        self._memory[: len(image)] = image

    def release(self, nbytes: int) -> None:
        """Gives back what only an image as large as this one takes."""
        _release(self._memory, nbytes)


class SharedTensor:
    """What a decoder makes of an image, for one preprocessing."""

    def __init__(self) -> None:
        """Makes room for `MAX_TENSOR_BYTES`; what was never used takes no memory."""
        self.fd, self._memory = mapped(MAX_TENSOR_BYTES)

    def copy(self, out: Images) -> None:
        """Copies the tensor into `out`, which has at most `MAX_TENSOR_BYTES`.

        Then it frees the pages of the shared memory that only a large tensor needs.
        """
        out[...] = np.frombuffer(self._memory, out.dtype, out.size).reshape(out.shape)
        _release(self._memory, out.nbytes)


def _release(memory: mmap.mmap, nbytes: int) -> None:
    if nbytes > _KEPT_BYTES:
        memory.madvise(mmap.MADV_REMOVE, _KEPT_BYTES)


def mapped(nbytes: int, seals: int = 0) -> tuple[int, mmap.mmap]:
    """Returns the descriptor and a writable mapping of new shared memory of a fixed size."""
    fd = os.memfd_create("cxreval", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, nbytes)
    memory = mmap.mmap(fd, nbytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | seals)
    return fd, memory
