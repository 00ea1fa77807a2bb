"""Computes the Brier score, the calibration error and the bins of the latter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15
_EDGES = np.linspace(0, 1, BINS + 1)


def brier(probabilities: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    """Returns the mean squared difference of probability and outcome; None without images.

    Brier, Monthly Weather Review 78, 1950.

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
    """Returns the expected calibration error over 15 equal bins; None without images.

    It is the mean over images of the distance between the mean probability and the share of
    positives in the image's bin (Guo et al., ICML 2017). Arguments as for `brier`.
    """
    if not positive.size:
        return None
    gaps = np.bincount(bins(probabilities), probabilities - positive.astype(np.float64), BINS)
    return float(np.abs(gaps).sum() / positive.size)


def bins(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the bin of each probability, 0 to 14.

    Bin k holds the probabilities in (k/15, (k+1)/15]; bin 0 also holds 0.
    """
    return np.maximum(np.searchsorted(_EDGES, probabilities.astype(np.float64)) - 1, 0)
