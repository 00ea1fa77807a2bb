"""Predictions as they arrive: checked row by row, in any order and any batching, into one table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxreval.errors import (
    DuplicateImage,
    InvalidProbability,
    MalformedBatch,
    MissingImages,
    UnknownImage,
)

ROW_BYTES = 4 * 14 + 1
"""What a table keeps for an image of a benchmark with 14 findings; the names are shared by all
tables."""


@dataclass(frozen=True, slots=True, eq=False)
class PartialState:
    """What a table of predictions holds of some images, to be merged into another one with
    `add_rows`.

    `benchmark_digest`: of the benchmark that numbers the rows; `rows`: shape (images,), rising
    places in its sorted list; `probabilities`: shape (images, findings), float32.
    """

    benchmark_digest: str
    rows: NDArray[np.intp]
    probabilities: NDArray[np.float32]


class PredictionTable:
    """Probabilities of a benchmark's images, filled batch by batch.

    `probabilities` has shape (images, findings), float32, rows in the order of `rows`.
    """

    def __init__(self, rows: Mapping[str, int], findings: Sequence[str]) -> None:
        """`rows`: the row of each image, rising from 0; `image_rows` makes it, once for all tables
        of a benchmark."""
        self._rows = rows
        self._findings = findings
        self._seen = np.zeros(len(rows), dtype=np.bool_)
        self.probabilities: NDArray[np.float32] = np.zeros(
            (len(rows), len(findings)), dtype=np.float32
        )

    @property
    def image_count(self) -> int:
        """How many images have predictions."""
        return int(np.count_nonzero(self._seen))

    def add(self, images: Sequence[str], values: NDArray[np.float32]) -> None:
        """Takes a batch: `values` row-major, one row an image. Repeating a row with the same values
        is harmless.

        A batch with an error is refused as a whole; the error names the first offending image and
        counts all of them.

        Raises:
            MalformedBatch: the number of values is not images times findings.
            UnknownImage: an image is not in the benchmark.
            InvalidProbability: a value is NaN, infinite or outside [0, 1].
            DuplicateImage: an image comes again with other values.
        """
        rows = np.fromiter((self._rows.get(image, -1) for image in images), np.intp, len(images))
        unknown = np.flatnonzero(rows < 0)
        if unknown.size:
            image = images[unknown[0]]
            message = f"{_others(unknown)} not in the benchmark, the first is {image!r}"
            raise UnknownImage(message, field="images", image=image, count=unknown.size)
        self.add_rows(rows, values)

    def add_rows(self, rows: NDArray[np.intp], values: NDArray[np.float32]) -> None:
        """As `add`, for images named by their rows.

        Raises:
            UnknownImage: a row is outside the benchmark.
            MalformedBatch, InvalidProbability, DuplicateImage: as `add`.
        """
        expected = rows.size * len(self._findings)
        if values.size != expected:
            message = (
                f"batch has {values.size} probabilities for {rows.size} images; expected {expected}"
            )
            raise MalformedBatch(
                message, field="probabilities", found=values.size, expected=str(expected)
            )
        outside = np.flatnonzero((rows < 0) | (rows >= self._seen.size))
        if outside.size:
            row, size = int(rows[outside[0]]), self._seen.size
            message = f"{_others(outside)} not in the benchmark, the first is row {row} of {size}"
            raise UnknownImage(message, field="rows", row=row, count=outside.size)
        batch = values.reshape(rows.size, len(self._findings))
        self._check_range(rows, batch)
        self._check_repeated(rows, batch)
        # -0.0 is the same probability as 0.0, and must not make another digest by coming last.
        self.probabilities[rows] = batch + np.float32(0)
        self._seen[rows] = True

    def seen_rows(self) -> NDArray[np.intp]:
        """Rows of the images that have predictions, rising."""
        return np.flatnonzero(self._seen)

    def missing(self) -> list[str]:
        """The images that have no prediction yet, in order."""
        return [image for image, row in self._rows.items() if not self._seen[row]]

    def check_complete(self) -> None:
        """Raises `MissingImages` with the count and the first missing image."""
        missing = self.missing()
        if missing:
            message = f"{len(missing)} of {len(self._rows)} images have no prediction, the first is {missing[0]!r}"
            raise MissingImages(message, field="images", count=len(missing), image=missing[0])

    def sha256(self) -> str:
        """Digest over the image names in order, each followed by LF, then the little-endian float32
        rows."""
        digest = hashlib.sha256("".join(f"{image}\n" for image in self._rows).encode())
        digest.update(self.probabilities.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def _check_range(self, rows: NDArray[np.intp], batch: NDArray[np.float32]) -> None:
        good = (batch >= 0) & (batch <= 1)  # False for NaN
        if good.all():
            return
        wrong = np.flatnonzero(~good.all(axis=1))
        row, column = wrong[0], int(np.argmin(good[wrong[0]]))
        image, finding, value = self._image(rows[row]), self._findings[column], batch[row, column]
        expected = "a number within [0, 1]"
        raise InvalidProbability(
            f"probability of {finding} for image {image!r} is {value}; expected {expected}; {_others(wrong)} wrong",
            field="probabilities",
            image=image,
            finding=finding,
            value=value,
            expected=expected,
            count=wrong.size,
        )

    def _check_repeated(self, rows: NDArray[np.intp], batch: NDArray[np.float32]) -> None:
        differs = self._seen[rows]
        if differs.any():
            differs[differs] = (self.probabilities[rows[differs]] != batch[differs]).any(axis=1)
        if not (np.diff(rows) > 0).all():  # rows that rise are distinct
            _, first, place = np.unique(rows, return_index=True, return_inverse=True)
            differs |= (batch != batch[first[place]]).any(axis=1)
        wrong = np.flatnonzero(differs)
        if wrong.size:
            image = self._image(rows[wrong[0]])
            message = (
                f"{_others(wrong)} predicted twice with different values, the first is {image!r}"
            )
            raise DuplicateImage(message, field="images", image=image, count=wrong.size)

    def _image(self, row: np.intp) -> str:
        return next(image for image, place in self._rows.items() if place == row)


def image_rows(images: Sequence[str]) -> dict[str, int]:
    """The row of each image in a table whose rows follow `images`."""
    return {image: row for row, image in enumerate(images)}


def _others(wrong: NDArray[np.intp]) -> str:
    return "1 image is" if wrong.size == 1 else f"{wrong.size} images are"
