"""The repeat sample: images that a model predicts a second time, one by one, in another order.

The answers of a model that draws random numbers, or that mixes the images of a batch, differ then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import NotDeterministic
from cxreval.evaluation.resume import LeaseKeeper
from cxreval.evaluation.sources import Source
from cxreval.metrics.predictions import PredictionTable, image_rows

SAMPLE_IMAGES = 256
"""Number of images in the sample, if the benchmark has as many."""


def repeat_sample(digest: str, images: Sequence[str]) -> list[str]:
    """Returns the images of the sample, in the order in which they are predicted.

    They are the first `SAMPLE_IMAGES` by the sha256 of the benchmark's digest and the image's name,
    so they depend on the benchmark alone.
    """

    def draw(image: str) -> bytes:
        return hashlib.sha256(f"{digest} {image}".encode()).digest()

    return sorted(images, key=draw)[:SAMPLE_IMAGES]


def check_repeats(
    source: Source,
    benchmark: BenchmarkSpec,
    images: Sequence[str],
    table: PredictionTable,
    keeper: LeaseKeeper,
) -> dict[str, str]:
    """Predicts the sample again and returns the provenance of the comparison with `table`.

    It is empty if no model ran.

    Args:
        source: the source of the predictions.
        benchmark: the evaluation's benchmark.
        images: the benchmark's images, in the order of the table's rows.
        table: the predictions of all images.
        keeper: retries transient errors; images that were repeated before are not sent again.

    Raises:
        NotDeterministic: a repeated value differs by more than the source's tolerance.
        InvalidProbability: a repeated value is NaN, infinite or outside [0, 1].
    """
    tolerance = keeper.call(source.repeat_tolerance)
    if tolerance is None:
        return {}
    sample = repeat_sample(benchmark.digest, images)
    repeated = _predicted(source, sample, table.findings, keeper)
    rows = image_rows(images)
    recorded = table.probabilities[[rows[image] for image in sample]]
    differences = np.abs(repeated.astype(np.float64) - recorded)
    largest = float(differences.max())
    if largest > tolerance:
        row, column = np.unravel_index(differences.argmax(), differences.shape)
        raise _not_deterministic(
            sample[row],
            table.findings[column],
            (recorded[row, column], repeated[row, column]),
            differences,
            tolerance,
        )
    return {
        "repeat_images": str(len(sample)),
        "repeat_largest_difference": f"{largest:.3g}",
        "repeat_tolerance": f"{tolerance:g}",
    }


def _predicted(
    source: Source, sample: Sequence[str], findings: Sequence[str], keeper: LeaseKeeper
) -> NDArray[np.float32]:
    """Predicts the images one by one; returns probabilities, shape (images, covered findings)."""
    repeated = PredictionTable(image_rows(sample), findings)

    def predict() -> None:
        for image, row in source.rows(repeated.missing(), one_by_one=True):
            repeated.add([image], row)
            keeper.check()
            keeper.progressed()

    keeper.call(predict)
    return repeated.probabilities


def _not_deterministic(
    image: str,
    finding: str,
    values: tuple[np.float32, np.float32],
    differences: NDArray[np.float64],
    tolerance: float,
) -> NotDeterministic:
    """Returns the error that names the image and finding of the largest difference."""
    largest = float(differences.max())
    count = int((differences > tolerance).any(axis=1).sum())
    first, second = (f"{value:.9g}" for value in values)
    expected = f"a difference of at most {tolerance:g}"
    return NotDeterministic(
        f"probability of {finding} for image {image!r} was {first}, and {second} when the image "
        f"was predicted again; the difference is {largest:.3g}, expected {expected}; "
        f"{count} of {len(differences)} repeated images differ more",
        field="probabilities",
        expected=expected,
        image=image,
        finding=finding,
        recorded=first,
        repeated=second,
        difference=f"{largest:.3g}",
        tolerance=f"{tolerance:g}",
        count=count,
    )
