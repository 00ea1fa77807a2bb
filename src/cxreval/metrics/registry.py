"""The table of metrics: direction, range, definition, reference and function of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.auroc import auroc
from cxreval.metrics.calibration import brier, calibration_error
from cxreval.metrics.thresholds import average_precision, sensitivity_at

SPECIFICITIES = {
    "sensitivity_at_90_specificity": Fraction(9, 10),
    "sensitivity_at_95_specificity": Fraction(19, 20),
}


class Direction(StrEnum):
    """Which values of a metric are better."""

    HIGHER_IS_BETTER = "higher"
    LOWER_IS_BETTER = "lower"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: how it is computed, what it means and how it is shown.

    `label`: short name in tables. `compute`: takes the scores, shape (n,), float32, and the labels,
    shape (n,), bool; returns the value, within [`low`, `high`], or None if it is undefined.
    `ranks_only`: the value depends only on the order of the scores, so that no increasing map of
    them changes it. `resampled`: the bootstrap computes the metric, so that it has intervals.
    """

    name: str
    label: str
    direction: Direction
    definition: str
    reference: str
    ranks_only: bool
    compute: Callable[[NDArray[np.float32], NDArray[np.bool_]], float | None]
    low: float = 0.0
    high: float = 1.0
    resampled: bool = True

    @property
    def rankable(self) -> bool:
        """Whether a board can rank by the metric; the paired test needs its replicates."""
        return self.resampled


_SENSITIVITY = (
    "Highest sensitivity of a threshold whose specificity is at least {:.0%}; "
    "scores of at least it are positive."
)
_SENSITIVITY_REFERENCE = (
    "Pepe, The Statistical Evaluation of Medical Tests for Classification and Prediction, 2003"
)

METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "auroc",
            "AUROC",
            Direction.HIGHER_IS_BETTER,
            "Share of pairs of a positive and a negative image in which the positive scores "
            "higher; ties count half.",
            "Hanley and McNeil, Radiology 143, 1982",
            True,
            auroc,
        ),
        Metric(
            "average_precision",
            "AP",
            Direction.HIGHER_IS_BETTER,
            "Precision at each threshold, weighted by the step in recall, without interpolation.",
            "scikit-learn, average_precision_score",
            True,
            average_precision,
        ),
        Metric(
            "brier",
            "Brier",
            Direction.LOWER_IS_BETTER,
            "Mean squared difference of probability and outcome.",
            "Brier, Monthly Weather Review 78, 1950",
            False,
            brier,
        ),
        Metric(
            "calibration_error",
            "ECE",
            Direction.LOWER_IS_BETTER,
            "Mean over images of the distance between mean probability and share of positives in "
            "the image's bin, of 15 equal bins (lo, hi], the first one with 0.",
            "Guo et al., On Calibration of Modern Neural Networks, ICML 2017",
            False,
            calibration_error,
        ),
        *(
            Metric(
                name,
                f"sens. at {float(specificity):.0%}",
                Direction.HIGHER_IS_BETTER,
                _SENSITIVITY.format(float(specificity)),
                _SENSITIVITY_REFERENCE,
                True,
                partial(sensitivity_at, specificity),
            )
            for name, specificity in SPECIFICITIES.items()
        ),
    )
}
"""Every metric by name; the macro mean of each is the unweighted mean over the findings."""
