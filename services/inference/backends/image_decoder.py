"""Starts an image decoder, and talks to it: a process that decodes one image after another."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cxreval.errors import (
    ImageTooLarge,
    ImageUnreadable,
    InvalidTensor,
)
from cxreval.imaging.decode import MAX_IMAGE_BYTES, check_bytes
from cxreval.imaging.preprocess import Profile
from services.inference.backends import decoder
from services.inference.backends.child import Child
from services.inference.backends.shared_memory import SharedImage, mapped

Array = npt.NDArray[np.float32]

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
            fd, memory = mapped(decoder.TENSOR_BYTES)
            descriptors.callback(os.close, fd)
            self._tensors = decoder.places(memory)
            shared = MAX_IMAGE_BYTES + decoder.TENSOR_BYTES
            self.lock_down(MEMORY_BYTES + shared, (self._image.fd, fd), gpu=False)
        self._prepared = True

    def decode(self, image: bytes, outs: Mapping[Profile, Array]) -> None:
        """Decodes an image and fills the array (crops, C, H, W) of each profile.

        Raises:
            ImageUnreadable, ImageTooLarge, InvalidTensor: as `decode` and `Profile.apply` raise.
            ImageUnreadable: the process ended, or took more than `DECODE_SECONDS`.
            ImageTooLarge: its memory does not suffice.
        """
        check_bytes(image)
        self._image.write(image)
        request = {"bytes": len(image), "profiles": [profile.name for profile in outs]}
        try:
            self._ask(request, DECODE_SECONDS, "decoding the image")
        finally:
            self._image.release(len(image))
        for profile, out in outs.items():
            out[...] = self._tensors[profile.name].reshape(out.shape)

    def _too_large(self, problem: str) -> ImageTooLarge:
        expected = f"at most {MEMORY_BYTES >> 20} MiB for decoding and preprocessing"
        return ImageTooLarge(f"{problem}; expected {expected}", field="image", expected=expected)
