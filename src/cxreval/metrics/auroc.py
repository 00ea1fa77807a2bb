"""Computes the area under the ROC curve, exactly, with ties.

It is the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982): the share of pairs of a
positive and a negative in which the positive scores higher; a tie counts half. Twice the number of
such pairs is an integer, so the division is the only rounding, and the value does not depend on the
order of the rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxreval.errors import InvalidProbability, MalformedField


def auroc(
    scores: NDArray[np.floating],
    positive: NDArray[np.bool_],
    weights: NDArray[np.number] | None = None,
) -> float | None:
    """Returns the area under the ROC curve of one finding; None when only one class is present.

    Args:
        scores: shape (n,), float32 or float64, finite, of any range; they are only compared.
        positive: shape (n,), bool, True where the finding is present.
        weights: shape (n,), 0 or more; a row of weight 0 counts as absent. With integers the value
            is exact; with floats the order of the rows may change it by a rounding error.

    Raises:
        InvalidProbability: a score is NaN or infinite.
        MalformedField: labels are not boolean, a weight is negative or not finite, or the lengths
            differ.
    """
    scores = scores + 0  # a contiguous copy, in which -0.0 is 0.0
    _check(scores, positive, weights)
    if weights is not None:
        return _weighted(scores[weights > 0], positive[weights > 0], weights[weights > 0])
    keys = _codes(scores)
    # With the label in the lowest bit, one sort of integers puts negatives before the positives
    # with the same score.
    keys <<= 1
    keys |= positive
    keys.sort()
    positions = np.flatnonzero((keys.astype(np.uint8) & 1).view(np.bool_))
    positives, negatives = positions.size, keys.size - positions.size
    if not positives or not negatives:
        return None
    # The k-th positive, at position i, has i - k negatives at or below it.
    not_above = int(positions.sum(dtype=np.int64)) - positives * (positives - 1) // 2
    return (2 * not_above - _tied_pairs(keys, positions)) / (2 * positives * negatives)


def _tied_pairs(keys: NDArray[np.uint32], positions: NDArray[np.intp]) -> int:
    """Returns the number of pairs of a positive and a negative with the same score.

    `positions`: indices of the positives in the sorted `keys`.
    """
    positive_keys = keys[positions]
    # A tie starts at a positive whose predecessor is a negative with the same score. Index -1, the
    # predecessor of the first key, is the largest key, which is never equal.
    first = np.flatnonzero(keys[positions - 1] == positive_keys - 1)
    tied = positive_keys[first]
    positives = np.searchsorted(positive_keys, tied, side="right") - first
    negatives = positions[first] - np.searchsorted(keys, tied - 1)
    return int(positives @ negatives)


def _codes(scores: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Returns integers below 2**31 in the order of the scores, equal for equal scores.

    They may share the memory of `scores`.
    """
    if scores.dtype == np.float32 and scores.min(initial=0) >= 0:
        # The bits of floats that are not negative have the order of the floats.
        codes: NDArray[np.uint32] = scores.view(np.uint32)
    else:
        codes = np.unique(scores, return_inverse=True)[1].astype(np.uint32)
    return codes


def _weighted(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.number]
) -> float | None:
    """Returns the area with weights, all above 0; None when only one class is present."""
    if not positive.any() or positive.all():
        return None
    distinct, code = np.unique(scores, return_inverse=True)
    # Python's integers hold products of any size; floats are scaled so that their products neither
    # vanish nor overflow.
    exact = np.issubdtype(weights.dtype, np.integer)
    scaled = weights.astype(object) if exact else weights.astype(np.float64) / weights.max()
    # The weight of the positives and of the negatives with each distinct score.
    high, low = np.zeros(distinct.size, scaled.dtype), np.zeros(distinct.size, scaled.dtype)
    np.add.at(high, code[positive], scaled[positive])
    np.add.at(low, code[~positive], scaled[~positive])
    return float(np.sum(high * (2 * np.cumsum(low) - low)) / (2 * high.sum() * low.sum()))


def _check(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.number] | None
) -> None:
    """Raises the errors of `auroc`."""
    if positive.dtype != np.bool_:
        message = f"labels are {positive.dtype}; expected bool; leave out unknown labels"
        raise MalformedField(message, field="labels", expected="bool")
    if positive.ndim != 1 or any(
        part is not None and part.shape != positive.shape for part in (scores, weights)
    ):
        raise MalformedField(
            "scores, labels and weights have different lengths",
            field="scores",
            expected="one for each row",
        )
    if not np.isfinite(
        (scores.min(initial=0), scores.max(initial=0))
    ).all():  # NaN passes through both
        row = int(np.argmin(np.isfinite(scores)))
        message = f"score of row {row} is {scores[row]}; expected a finite number"
        raise InvalidProbability(message, field="scores", row=row, expected="a finite number")
    if weights is not None and not np.all(np.isfinite(weights) & (weights >= 0)):
        raise MalformedField(
            "a weight is negative or not finite", field="weights", expected="0 or more"
        )
