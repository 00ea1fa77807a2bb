"""Curves to look at: the ROC curve, thinned for plotting, and the reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.calibration import BINS, bins

AREA_TOLERANCE = 1e-6
"""How much the area under a thinned curve may differ from the exact one."""

_FEWEST_POINTS = 100
"""A picture of a curve needs no fewer points, and no finer a choice of their number."""


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Points of one finding's ROC curve from (0, 0) to (1, 1): false positive rate and
    sensitivity."""

    finding: str
    false_positive_rates: tuple[float, ...]
    sensitivities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reliability:
    """One finding's 15 bins of probability: images, their mean probability and the positives among
    them."""

    finding: str
    images: tuple[int, ...]
    mean_probabilities: tuple[float, ...]
    positives: tuple[int, ...]


def roc_curve(
    finding: str, scores: NDArray[np.float32], positive: NDArray[np.bool_]
) -> RocCurve | None:
    """The curve with as few points as leave its area within 1e-6; None when only one class is
    present.

    Arguments as for `auroc`.
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
    """The bins behind the calibration error; a bin without images has a mean of 0. Arguments as for
    `brier`."""
    place = bins(probabilities)
    images = np.bincount(place, minlength=BINS)
    means = np.bincount(place, probabilities.astype(np.float64), BINS) / np.maximum(images, 1)
    positives = np.bincount(place[positive], minlength=BINS)
    return Reliability(
        finding, tuple(images.tolist()), tuple(means.tolist()), tuple(positives.tolist())
    )


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
    """Places of the points to keep: as few evenly spaced ones as the area allows, at most all
    corners."""
    turn = np.diff(x[:-1]) * np.diff(y[1:]) - np.diff(x[1:]) * np.diff(y[:-1])
    corners = np.concatenate(([0], 1 + np.flatnonzero(turn), [x.size - 1]))
    area = float(np.trapezoid(y, x))
    # Every n-th corner would cut all steps on the same side; points between the corners cut on
    # both.
    for count in range(_FEWEST_POINTS, corners.size, _FEWEST_POINTS):
        kept = np.linspace(0, x.size - 1, count).astype(np.intp)
        if abs(float(np.trapezoid(y[kept], x[kept])) - area) <= AREA_TOLERANCE:
            return kept
    return corners
