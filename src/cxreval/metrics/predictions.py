"""Predictions as they arrive: checked row by row, in any order and any batching, into one table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxreval.errors import DuplicateImage, InvalidProbability, MalformedBatch, MissingImages, UnknownImage


class PredictionTable:
    """Probabilities of a benchmark's images, filled batch by batch.

    `probabilities` has shape (images, findings), float32, rows in the order of `images`.
    """

    def __init__(self, images: Sequence[str], findings: Sequence[str]) -> None:
        self._images = images
        self._findings = findings
        self._row = {image: row for row, image in enumerate(images)}
        self._seen = np.zeros(len(images), dtype=np.bool_)
        self.probabilities: NDArray[np.float32] = np.zeros((len(images), len(findings)), dtype=np.float32)

    def add(self, images: Sequence[str], values: NDArray[np.float32]) -> None:
        """Takes a batch: `values` row-major, one row an image. Repeating a row with the same values is harmless.

        Raises:
            MalformedBatch: the number of values is not images times findings.
            UnknownImage: an image is not in the benchmark.
            InvalidProbability: a value is NaN, infinite or outside [0, 1].
            DuplicateImage: an image comes again with other values.
        """
        expected = len(images) * len(self._findings)
        if values.size != expected:
            message = f"batch has {values.size} probabilities for {len(images)} images; expected {expected}"
            raise MalformedBatch(message, field="probabilities", found=values.size, expected=str(expected))
        batch = values.reshape(len(images), len(self._findings))
        self._check_range(images, batch)
        for image, probabilities in zip(images, batch, strict=True):
            row = self._row.get(image)
            if row is None:
                raise UnknownImage(f"image {image!r} is not in the benchmark", field="images", image=image)
            if self._seen[row] and not np.array_equal(self.probabilities[row], probabilities):
                message = f"image {image!r} is predicted twice with different values"
                raise DuplicateImage(message, field="images", image=image)
            self.probabilities[row] = probabilities
            self._seen[row] = True

    def missing(self) -> list[str]:
        """The images that have no prediction yet, in order."""
        return [image for image, seen in zip(self._images, self._seen, strict=True) if not seen]

    def check_complete(self) -> None:
        """Raises `MissingImages` with the count and the first missing image."""
        missing = self.missing()
        if missing:
            message = f"{len(missing)} of {len(self._images)} images have no prediction, the first is {missing[0]!r}"
            raise MissingImages(message, field="images", count=len(missing), image=missing[0])

    def sha256(self) -> str:
        """Digest over the image names in order, each followed by LF, then the little-endian float32 rows."""
        digest = hashlib.sha256("".join(f"{image}\n" for image in self._images).encode())
        digest.update(self.probabilities.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def _check_range(self, images: Sequence[str], batch: NDArray[np.float32]) -> None:
        good = (batch >= 0) & (batch <= 1)  # False for NaN
        if good.all():
            return
        row, column = (int(index) for index in np.argwhere(~good)[0])
        value, finding, expected = batch[row, column], self._findings[column], "a number within [0, 1]"
        raise InvalidProbability(
            f"probability of {finding} for image {images[row]!r} is {value}; expected {expected}",
            field="probabilities",
            image=images[row],
            finding=finding,
            value=value,
            expected=expected,
        )
