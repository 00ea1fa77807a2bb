"""Collects predictions in one table and checks them; rows come in any order, in any batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
"""Bytes of a table for each image of a benchmark with 14 findings; tables share the names."""


_ROUNDING = 2e-3  # as much as half precision


@dataclass(frozen=True, slots=True, eq=False)
class PartialState:
    """The predictions of some images, which `add_rows` merges into another table.

    `benchmark_digest`: digest of the benchmark that numbers the rows. `rows`: shape (images,),
    indices into its sorted image list, ascending. `probabilities`: shape (images, findings),
    float32. `findings`: those of the columns, in the benchmark's order; empty for all of them.
    """

    benchmark_digest: str
    rows: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    findings: tuple[str, ...] = ()


class PredictionTable:
    """A table of probabilities of a benchmark's images, filled batch by batch.

    `findings`: the findings that the predictions cover, in the benchmark's order. `probabilities`
    has shape (images, covered findings), float32, rows in the order of `rows`.
    """

    def __init__(
        self, rows: Mapping[str, int], findings: Sequence[str], covered: Sequence[str] = ()
    ) -> None:
        """Creates an empty table.

        `rows`: row number by image, ascending from 0, as `image_rows` returns it; the tables of a
        benchmark share it. `findings`: all of the benchmark. `covered`: those that the predictions
        have, in the same order; empty for all.
        """
        self._rows = rows
        self.findings = tuple(covered or findings)
        self._complete = len(self.findings) == len(findings)
        self._seen = np.zeros(len(rows), dtype=np.bool_)
        self.probabilities: NDArray[np.float32] = np.zeros(
            (len(rows), len(self.findings)), dtype=np.float32
        )

    @property
    def image_count(self) -> int:
        """Number of images that have predictions."""
        return int(np.count_nonzero(self._seen))

    def add(self, images: Sequence[str], values: NDArray[np.float32]) -> None:
        """Adds a batch; `values` has one row for each image, row-major. A repeated row is ignored.

        A batch with an error is refused as a whole; the error names the first invalid image and
        counts all of them.

        Raises:
            MalformedBatch: the number of values is not images times findings.
            UnknownImage: an image is not in the benchmark.
            InvalidProbability: a value is NaN, infinite or outside [0, 1].
            DuplicateImage: an image is repeated with other values.
        """
        rows = np.fromiter((self._rows.get(image, -1) for image in images), np.intp, len(images))
        unknown = np.flatnonzero(rows < 0)
        if unknown.size:
            image = images[unknown[0]]
            message = f"{_others(unknown)} not in the benchmark, the first is {image!r}"
            raise UnknownImage(message, field="images", image=image, count=unknown.size)
        self.add_rows(rows, values)

    def add_rows(self, rows: NDArray[np.intp], values: NDArray[np.float32]) -> None:
        """Adds a batch as `add` does, with images named by their rows.

        Raises:
            UnknownImage: a row is outside the benchmark.
            MalformedBatch, InvalidProbability, DuplicateImage: as `add`.
        """
        expected = rows.size * len(self.findings)
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
        batch = values.reshape(rows.size, len(self.findings))
        self._check_range(rows, batch)
        self._check_repeated(rows, batch)
        # Adding 0 turns -0.0 into 0.0, so that equal probabilities have the same digest.
        self.probabilities[rows] = batch + np.float32(0)
        self._seen[rows] = True

    def seen_rows(self) -> NDArray[np.intp]:
        """Returns the rows of the images that have predictions, ascending."""
        return np.flatnonzero(self._seen)

    def missing(self) -> list[str]:
        """Returns the images that have no prediction yet, in order."""
        return [image for image, row in self._rows.items() if not self._seen[row]]

    def check_complete(self) -> None:
        """Raises `MissingImages` if images have no prediction; it counts them."""
        missing = self.missing()
        if missing:
            message = (
                f"{len(missing)} of {len(self._rows)} images have no prediction, "
                f"the first is {missing[0]!r}"
            )
            raise MissingImages(message, field="images", count=len(missing), image=missing[0])

    def sha256(self) -> str:
        """Returns the digest of the table, as 64 hex characters.

        It is the sha256 of the image names in order, each followed by LF, and then of the rows as
        little-endian float32. If the table does not cover all findings, the names of those that it
        covers, each followed by LF, come before the images: rows alone would not say which they
        are.
        """
        findings = () if self._complete else self.findings
        names = "".join(f"{name}\n" for name in (*findings, *self._rows))
        digest = hashlib.sha256(names.encode())
        digest.update(self.probabilities.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def _check_range(self, rows: NDArray[np.intp], batch: NDArray[np.float32]) -> None:
        """Raises `InvalidProbability` for a value outside [0, 1]."""
        good = (batch >= 0) & (batch <= 1)  # False for NaN
        if not good.all():
            wrong = np.flatnonzero(~good.all(axis=1))
            image = self._image(rows[wrong[0]])
            raise invalid_probability(image, self.findings, batch[wrong], wrong.size)

    def _check_repeated(self, rows: NDArray[np.intp], batch: NDArray[np.float32]) -> None:
        """Raises `DuplicateImage` for a repeated image with other values than before."""
        differs = self._seen[rows]
        if differs.any():
            differs[differs] = (self.probabilities[rows[differs]] != batch[differs]).any(axis=1)
        if not (np.diff(rows) > 0).all():  # ascending rows are distinct
            _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
            differs |= (batch != batch[first[inverse]]).any(axis=1)
        wrong = np.flatnonzero(differs)
        if wrong.size:
            image = self._image(rows[wrong[0]])
            message = (
                f"{_others(wrong)} predicted twice with different values, the first is {image!r}"
            )
            raise DuplicateImage(message, field="images", image=image, count=wrong.size)

    def _image(self, row: np.intp) -> str:
        """Returns the image of a row."""
        return next(image for image, number in self._rows.items() if number == row)


def image_rows(images: Sequence[str]) -> dict[str, int]:
    """Returns the row number of each image in a table with rows in the order of `images`."""
    return {image: row for row, image in enumerate(images)}


def invalid_probability(
    image: str, findings: Sequence[str], rows: NDArray[np.float32], count: int = 1
) -> InvalidProbability:
    """Returns the error of images with values outside [0, 1]; it names the likely cause.

    Args:
        image: the first of them.
        findings: the finding of each column.
        rows: shape (n, findings), that of `image` first.
        count: number of images.
    """
    column = int(np.argmin((rows[0] >= 0) & (rows[0] <= 1)))
    finding, value = findings[column], rows[0, column]
    expected = "a number within [0, 1]"
    return InvalidProbability(
        f"probability of {finding} for image {image!r} is {value}; expected {expected}; "
        f"{_number(count)} wrong; {likely_cause(rows)}",
        field="probabilities",
        image=image,
        finding=finding,
        value=value,
        expected=expected,
        count=count,
    )


def likely_cause(values: NDArray[np.floating[Any]]) -> str:
    """Returns why values outside [0, 1] are probably there, and what to do, as part of a message.

    `values` has any shape, and may hold others.
    """
    if not np.isfinite(values).all():
        return (
            "a value that is not a finite number comes from the model: look for a division by 0, "
            "an overflow of float16, or weights that are not finite"
        )
    low, high = float(values.min()), float(values.max())
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return "this looks like rounding: clip the values to 0 and 1"
    logits = "logits: set outputs.activation: sigmoid, or apply a sigmoid to a table's values"
    if low >= 0 and high <= 100:
        return f"these look like percentages, to be divided by 100, or like {logits}"
    return f"these look like {logits}"


def _others(wrong: NDArray[np.intp]) -> str:
    """Returns the number of images with a verb, as the start of a message."""
    return _number(wrong.size)


def _number(count: int) -> str:
    return "1 image is" if count == 1 else f"{count} images are"
