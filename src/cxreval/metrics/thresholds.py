"""Metrics that walk along the thresholds: average precision and sensitivity at a given specificity.

A threshold t calls an image positive when its score is at least t. Images of one score pass it
together, so ties need no rule.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    """Precision at each threshold, weighted by the step in recall, without interpolation; None with
    one class only.

    The step sum of scikit-learn's `average_precision_score`. Arguments as for `auroc`.
    """
    hits, false_alarms = _counts(scores, positive)
    if not hits.size or not hits[0] or not false_alarms[0]:
        return None
    steps = -np.diff(hits, append=0)
    return float(np.sum(steps * (hits / (hits + false_alarms))) / hits[0])


def sensitivity_at(
    specificity: Fraction, scores: NDArray[np.float32], positive: NDArray[np.bool_]
) -> float | None:
    """The highest sensitivity of a threshold whose specificity is at least `specificity`; None with
    one class only.

    0.0 when only the threshold above every score is that specific.
    """
    hits, false_alarms = _counts(scores, positive)
    if not hits.size or not hits[0] or not false_alarms[0]:
        return None
    allowed = false_alarms[0] - required_negatives(specificity, false_alarms[0])
    return float(np.max(hits, where=false_alarms <= allowed, initial=0) / hits[0])


def required_negatives(specificity: Fraction, negatives: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of so many negatives must lie below the threshold; in integers, because 0.9 is not a
    float."""
    return -(-specificity.numerator * negatives // specificity.denominator)


def _counts(
    scores: NDArray[np.float32], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positives and the negatives at or above each distinct score, from the lowest score up."""
    distinct, code = np.unique(scores, return_inverse=True)
    hits = np.bincount(code[positive], minlength=distinct.size)
    false_alarms = np.bincount(code[~positive], minlength=distinct.size)
    return np.cumsum(hits[::-1])[::-1], np.cumsum(false_alarms[::-1])[::-1]
