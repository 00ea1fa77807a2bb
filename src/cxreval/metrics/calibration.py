"""Whether the probabilities mean what they say: Brier score, calibration error and the bins behind
it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15
_EDGES = np.linspace(0, 1, BINS + 1)


def brier(probabilities: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    """Mean squared difference of probability and outcome (Brier, Monthly Weather Review 78, 1950);
    None without images.

    Args:
        probabilities: shape (n,), within [0, 1].
        positive: shape (n,), True where the finding is present.
    """
    return (
        float(np.mean(np.square(probabilities - positive.astype(np.float64))))
        if positive.size
        else None
    )


def calibration_error(
    probabilities: NDArray[np.float32], positive: NDArray[np.bool_]
) -> float | None:
    """Expected calibration error over 15 equal bins (Guo et al., ICML 2017); None without images.
    As for `brier`.

    The mean over images of the distance between the mean probability and the share of positives of
    an image's bin.
    """
    if not positive.size:
        return None
    gaps = np.bincount(bins(probabilities), probabilities - positive.astype(np.float64), BINS)
    return float(np.abs(gaps).sum() / positive.size)


def bins(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each probability, 0 to 14: bin k holds those above k/15 up to (k+1)/15, the first
    one also 0."""
    return np.maximum(np.searchsorted(_EDGES, probabilities.astype(np.float64)) - 1, 0)
