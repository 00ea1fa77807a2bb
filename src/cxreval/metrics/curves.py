"""Computes the curves of a report: the ROC curve, thinned, and the reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.calibration import BINS, bins

AREA_TOLERANCE = 1e-6
"""Maximum difference of the area under a thinned curve from the exact area."""

_FEWEST_POINTS = 100
"""Minimum number of points of a thinned curve, and the step by which it is raised."""


@dataclass(frozen=True, slots=True)
class RocCurve:
    """The points of one finding's ROC curve, from (0, 0) to (1, 1)."""

    finding: str
    false_positive_rates: tuple[float, ...]
    sensitivities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reliability:
    """The reliability diagram of one finding: 15 bins of equal width, from probability 0 to 1.

    For each bin: number of `images`, their mean probability, and number of `positives`.
    """

    finding: str
    images: tuple[int, ...]
    mean_probabilities: tuple[float, ...]
    positives: tuple[int, ...]


def roc_curve(
    finding: str, scores: NDArray[np.float32], positive: NDArray[np.bool_]
) -> RocCurve | None:
    """Returns the ROC curve, thinned; None when only one class is present.

    Thinning changes the area by at most `AREA_TOLERANCE`. Arguments as for `auroc`.
    """
    distinct, code = np.unique(scores, return_inverse=True)
    hits = np.bincount(code[positive], minlength=distinct.size)[::-1]
    false_alarms = np.bincount(code[~positive], minlength=distinct.size)[::-1]
    if not hits.any() or not false_alarms.any():
        return None
    x = np.concatenate(([0], np.cumsum(false_alarms))) / false_alarms.sum()
    y = np.concatenate(([0], np.cumsum(hits))) / hits.sum()
    kept = _thinned(x, y)
    return RocCurve(finding, tuple(x[kept].tolist()), tuple(y[kept].tolist()))


def reliability(
    finding: str, probabilities: NDArray[np.float32], positive: NDArray[np.bool_]
) -> Reliability:
    """Returns the bins of the calibration error; a bin without images has a mean of 0.

    Arguments as for `brier`.
    """
    image_bins = bins(probabilities)
    images = np.bincount(image_bins, minlength=BINS)
    means = np.bincount(image_bins, probabilities.astype(np.float64), BINS) / np.maximum(images, 1)
    positives = np.bincount(image_bins[positive], minlength=BINS)
    return Reliability(
        finding, tuple(images.tolist()), tuple(means.tolist()), tuple(positives.tolist())
    )


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
    """Returns the indices of the points to keep.

    They are evenly spaced, and as few as keep the area within `AREA_TOLERANCE`; where that takes as
    many points as the curve has corners, they are the corners.
    """
    turn = np.diff(x[:-1]) * np.diff(y[1:]) - np.diff(x[1:]) * np.diff(y[:-1])
    corners = np.concatenate(([0], 1 + np.flatnonzero(turn), [x.size - 1]))
    area = float(np.trapezoid(y, x))
    # Evenly spaced points cut the curve's steps on both sides, so their errors cancel; every n-th
    # corner would cut all of them on one side.
    for count in range(_FEWEST_POINTS, corners.size, _FEWEST_POINTS):
        kept = np.linspace(0, x.size - 1, count).astype(np.intp)
        if abs(float(np.trapezoid(y[kept], x[kept])) - area) <= AREA_TOLERANCE:
            return kept
    return corners
