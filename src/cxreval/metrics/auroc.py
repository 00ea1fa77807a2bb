"""The area under the ROC curve, exact with ties.

It is the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982): the share of pairs of a
positive and a negative in which the positive scores higher, a tie counting half. Twice the number
of such pairs is an integer, so the value is rounded once, by the division, and does not depend on
the order of the rows.
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
    """Area under the ROC curve of one finding; None when only one class is present.

    Args:
        scores: shape (n,), float32 or float64, finite, compared as they are: never transformed,
            whatever their range.
        positive: shape (n,), True where the finding is present.
        weights: shape (n,), 0 or more; a row of weight 0 counts as absent. Integers keep the value
            exact; with floats it depends on the order of the rows by a rounding error.

    Raises:
        InvalidProbability: a score is NaN or infinite.
        MalformedField: labels are not boolean, a weight is negative or not finite, or the lengths
            differ.
    """
    scores = scores + 0  # a contiguous copy of our own, in which -0.0 has become 0.0
    _check(scores, positive, weights)
    if weights is not None:
        return _weighted(scores[weights > 0], positive[weights > 0], weights[weights > 0])
    keys = _codes(scores)
    # The label takes the lowest bit: one sort of plain integers, negatives before the positives
    # they are tied with.
    keys <<= 1
    keys |= positive
    keys.sort()
    places = np.flatnonzero((keys.astype(np.uint8) & 1).view(np.bool_))
    positives, negatives = places.size, keys.size - places.size
    if not positives or not negatives:
        return None
    # The k-th positive at place i has i - k negatives at or below it.
    not_above = int(places.sum(dtype=np.int64)) - positives * (positives - 1) // 2
    return (2 * not_above - _tied_pairs(keys, places)) / (2 * positives * negatives)


def aurocs(probabilities: NDArray[np.float32], labels: NDArray[np.bool_]) -> list[float | None]:
    """`auroc` of each column; both arguments have shape (images, findings)."""
    return [
        auroc(scores, positive) for scores, positive in zip(probabilities.T, labels.T, strict=True)
    ]


def _tied_pairs(keys: NDArray[np.uint32], places: NDArray[np.intp]) -> int:
    """Pairs of a positive and a negative with the same score; `places` of the positives in the
    sorted `keys`."""
    of_positives = keys[places]
    # The first positive of a score that negatives have, too; place -1 is the largest key: never the
    # wanted one.
    first = np.flatnonzero(keys[places - 1] == of_positives - 1)
    tied = of_positives[first]
    positives = np.searchsorted(of_positives, tied, side="right") - first
    negatives = places[first] - np.searchsorted(keys, tied - 1)
    return int(positives @ negatives)


def _codes(scores: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Integers below 2**31 in the order of the scores, equal for equal scores; they may take the
    scores' place."""
    if scores.dtype == np.float32 and scores.min(initial=0) >= 0:
        # The bits of a float that is not negative are in its order.
        codes: NDArray[np.uint32] = scores.view(np.uint32)
    else:
        codes = np.unique(scores, return_inverse=True)[1].astype(np.uint32)
    return codes


def _weighted(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.number]
) -> float | None:
    if not positive.any() or positive.all():
        return None
    distinct, code = np.unique(scores, return_inverse=True)
    # Python's integers hold products of any size; floats are scaled so that their products neither
    # vanish nor overflow.
    exact = np.issubdtype(weights.dtype, np.integer)
    scaled = weights.astype(object) if exact else weights.astype(np.float64) / weights.max()
    heavy, light = np.zeros(distinct.size, scaled.dtype), np.zeros(distinct.size, scaled.dtype)
    np.add.at(heavy, code[positive], scaled[positive])
    np.add.at(light, code[~positive], scaled[~positive])
    return float(np.sum(heavy * (2 * np.cumsum(light) - light)) / (2 * heavy.sum() * light.sum()))


def _check(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.number] | None
) -> None:
    if positive.dtype != np.bool_:
        message = f"labels are {positive.dtype}; expected bool, and unknown labels left out"
        raise MalformedField(message, field="labels", expected="bool")
    if positive.ndim != 1 or any(
        part is not None and part.shape != positive.shape for part in (scores, weights)
    ):
        raise MalformedField(
            "scores, labels and weights have different lengths",
            field="scores",
            expected="one a row",
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
