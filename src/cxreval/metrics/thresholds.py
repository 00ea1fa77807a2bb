"""Computes the metrics over all thresholds: average precision and sensitivity at a specificity.

An image is positive at a threshold t if its score is at least t. Images with equal scores are
positive at the same thresholds, so that ties need no rule.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    """Returns the average precision of one finding; None when only one class is present.

    It is the precision at each threshold, weighted by the step in recall, without interpolation, as
    scikit-learn's `average_precision_score` computes it. Arguments as for `auroc`.
    """
    hits, false_alarms = _counts(scores, positive)
    if not hits.size or not hits[0] or not false_alarms[0]:
        return None
    steps = -np.diff(hits, append=0)
    return float(np.sum(steps * (hits / (hits + false_alarms))) / hits[0])


def sensitivity_at(
    specificity: Fraction, scores: NDArray[np.float32], positive: NDArray[np.bool_]
) -> float | None:
    """Returns the highest sensitivity at a given specificity; None when only one class is present.

    It is the highest over the thresholds whose specificity is at least `specificity`; 0.0 if the
    only such threshold is above every score. Other arguments as for `auroc`.
    """
    hits, false_alarms = _counts(scores, positive)
    if not hits.size or not hits[0] or not false_alarms[0]:
        return None
    allowed = false_alarms[0] - required_negatives(specificity, false_alarms[0])
    return float(np.max(hits, where=false_alarms <= allowed, initial=0) / hits[0])


def required_negatives(specificity: Fraction, negatives: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns how many of the negatives must be below a threshold for a specificity.

    It is computed in integers, because no float is exactly 0.9.
    """
    return -(-specificity.numerator * negatives // specificity.denominator)


def _counts(
    scores: NDArray[np.float32], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the numbers of positives and negatives at or above each distinct score, ascending."""
    distinct, code = np.unique(scores, return_inverse=True)
    hits = np.bincount(code[positive], minlength=distinct.size)
    false_alarms = np.bincount(code[~positive], minlength=distinct.size)
    return np.cumsum(hits[::-1])[::-1], np.cumsum(false_alarms[::-1])[::-1]
