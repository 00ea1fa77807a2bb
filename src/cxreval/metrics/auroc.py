"""The area under the ROC curve, exact with ties."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auroc(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of one finding; None when only one class is present.

    It is the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982): the share of pairs of a positive and a
    negative in which the positive scores higher, a tie counting half. Twice the number of such pairs is an integer, so
    the value is rounded once, by the division.

    Args:
        scores: shape (n,), finite.
        positive: shape (n,), True where the finding is present.
    """
    negatives = np.sort(scores[~positive])
    # Sorted needles walk the haystack in order, which the cache rewards.
    positives = np.sort(scores[positive])
    if not negatives.size or not positives.size:
        return None
    below = np.searchsorted(negatives, positives, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(negatives, positives, side="right").sum(dtype=np.int64)
    return int(below + not_above) / (2 * positives.size * negatives.size)
