"""Starts an image decoder, and talks to it: a process that decodes one image after another."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cxreval.errors import (
    ImageTooLarge,
    ImageUnreadable,
    InvalidTensor,
)
from cxreval.imaging.decode import MAX_IMAGE_BYTES, check_bytes
from cxreval.imaging.preprocess import Profile, profile_of
from cxreval.model_interface import MAX_TENSOR_BYTES, ModelInterface
from cxreval.preprocessing import Preprocessing
from services.inference.backends import decoder
from services.inference.backends.child import Child
from services.inference.backends.shared_memory import SharedImage, SharedTensor

Images = npt.NDArray[Any]  # float32, float16 or uint8

MEMORY_BYTES = 2 << 30
"""Memory that a decoder may take beyond what it has after its start.

The largest image that is accepted takes 1.1 GiB: a PNG of 8000x8000, 16 bits, RGB and alpha.
"""

DECODE_SECONDS = 60.0
"""Time limit of an image. The slowest that is accepted takes 7 s of processor time for all
profiles."""


class ImageDecoder(Child):
    """A running decoder."""

    module = decoder.__name__
    field = "image"
    name = "decoder of images"
    expected = "an image whose decoder does not end"
    crash = ImageUnreadable
    slow = ImageUnreadable
    answers = (ImageUnreadable, ImageTooLarge, InvalidTensor)

    def __init__(self) -> None:
        """Starts the process, and does not wait for it."""
        super().__init__()
        self._prepared = False

    @property
    def ready(self) -> bool:
        """Whether it was prepared and has not ended."""
        return self._prepared and self._failure is None

    def prepare(self) -> None:
        """Waits until the process has its limits and the shared memory.

        Raises:
            ServiceUnavailable: it does not start, which is not the fault of an image.
        """
        with self.starting(), contextlib.ExitStack() as descriptors:
            self._image = SharedImage()
            descriptors.callback(os.close, self._image.fd)
            self._tensor = SharedTensor()
            descriptors.callback(os.close, self._tensor.fd)
            shared = MAX_IMAGE_BYTES + MAX_TENSOR_BYTES
            files = (self._image.fd, self._tensor.fd)
            self.lock_down(MEMORY_BYTES + shared, files, gpu=False)
        self._prepared = True

    def decode(self, image: bytes, outs: Mapping[Preprocessing, Images | None]) -> list[Images]:
        """Decodes an image and returns its tensors (crops, *shape), one for each preprocessing.

        They are written to the arrays of `outs`; for None, a new one is made.

        Raises:
            ImageUnreadable, ImageTooLarge, InvalidTensor: as `decode` and `tensor_of` raise.
            ImageUnreadable: the process ended, or took more than `DECODE_SECONDS`.
            ImageTooLarge: its memory does not suffice.
        """
        check_bytes(image)
        self._image.write(image)
        nbytes: int | None = len(image)
        tensors = []
        try:
            for preprocessing, out in outs.items():
                tensors.append(self._tensor_of(nbytes, preprocessing, out))
                nbytes = None  # the decoder has the image
        finally:
            self._image.release(len(image))
        return tensors

    def _tensor_of(
        self, nbytes: int | None, preprocessing: Preprocessing, out: Images | None
    ) -> Images:
        request = {"bytes": nbytes, "interface": _stated(preprocessing)}
        answer = self._ask(request, DECODE_SECONDS, "decoding the image")
        if out is None:
            profile = profile_of(preprocessing)
            try:
                shape = _checked_shape(answer["shape"], profile)
            except (KeyError, TypeError, ValueError):
                raise self._untrustworthy() from None
            out = np.empty(shape, profile.dtype)
        self._tensor.copy(out)
        return out

    def _too_large(self, problem: str) -> ImageTooLarge:
        expected = f"at most {MEMORY_BYTES >> 20} MiB for decoding and preprocessing"
        return ImageTooLarge(f"{problem}; expected {expected}", field="image", expected=expected)


@lru_cache
def _stated(preprocessing: Preprocessing) -> str:
    return ModelInterface(preprocessing).json


def _checked_shape(answered: Any, profile: Profile) -> tuple[int, ...]:
    """Returns the shape of the tensors of an image. Raises `ValueError` or `TypeError` if the
    profile makes no such tensors."""
    shape = tuple(answered)
    for size, want in zip(shape, profile.tensor_shape, strict=True):
        if type(size) is not int or size < 1 or want not in (None, size):
            raise ValueError(answered)
    if math.prod(shape) * profile.dtype.itemsize > MAX_TENSOR_BYTES:
        raise ValueError(answered)
    return shape
