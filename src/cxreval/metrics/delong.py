"""Computes the analytic standard error of an AUROC whose images are clustered by patient.

The method is Obuchowski's (Biometrics 53, 1997). With one image for each patient it is that of
DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988). It is a check of the bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class PlacementSums:
    """The placement values of one finding, less the AUROC and summed by patient.

    `of_positives`, `of_negatives`: shape (patients,), the sums over the patient's positive and
    negative images. `positives`, `negatives`: number of images of each class; `positive_patients`,
    `negative_patients`: number of patients with such an image; `patients`: number of patients with
    any image.
    """

    of_positives: NDArray[np.float64]
    of_negatives: NDArray[np.float64]
    positives: int
    negatives: int
    positive_patients: int
    negative_patients: int
    patients: int

    @property
    def influence(self) -> NDArray[np.float64]:
        """First-order effect of each patient on the AUROC, shape (patients,)."""
        return self.of_positives / self.positives + self.of_negatives / self.negatives


def placement_sums(
    scores: NDArray[np.float32],
    positive: NDArray[np.bool_],
    patients: NDArray[np.int64],
    patient_count: int,
) -> PlacementSums | None:
    """Returns the placement values of a finding by patient; None when only one class is present.

    Arguments as for `FindingResampler`.
    """
    high, low = scores[positive], scores[~positive]
    if not high.size or not low.size:
        return None
    # The placement value of an image is the share of the other class that is ranked on the correct
    # side of it; ties count half.
    of_high = _share_below(high, np.sort(low))
    of_low = 1 - _share_below(low, np.sort(high))
    area = float(np.mean(of_high))
    return PlacementSums(
        of_positives=_by_patient(patients[positive], of_high - area, patient_count),
        of_negatives=_by_patient(patients[~positive], of_low - area, patient_count),
        positives=high.size,
        negatives=low.size,
        positive_patients=np.unique(patients[positive]).size,
        negative_patients=np.unique(patients[~positive]).size,
        patients=np.unique(patients).size,
    )


def covariance(first: PlacementSums, second: PlacementSums) -> float | None:
    """Returns the covariance of two AUROCs of the same images and labels.

    The covariance of an AUROC with itself is its variance. Obuchowski's equations 3 to 6. None when
    a class has fewer than 2 patients.
    """
    if first.positive_patients < 2 or first.negative_patients < 2:
        return None
    positives = (
        first.positive_patients
        / (first.positive_patients - 1)
        * _dot(first.of_positives, second.of_positives)
    )
    negatives = (
        first.negative_patients
        / (first.negative_patients - 1)
        * _dot(first.of_negatives, second.of_negatives)
    )
    both = _dot(first.of_positives, second.of_negatives) + _dot(
        second.of_positives, first.of_negatives
    )
    return float(
        positives / first.positives**2
        + negatives / first.negatives**2
        + first.patients / (first.patients - 1) * both / (first.positives * first.negatives)
    )


def macro_variance(findings: list[PlacementSums]) -> float | None:
    """Returns the variance of the mean of AUROCs of the same patients; None below 2 patients.

    It is computed from each patient's mean influence, which includes the covariances of the
    findings.
    """
    mean = np.mean([finding.influence for finding in findings], axis=0)
    return float(mean.size / (mean.size - 1) * _dot(mean, mean)) if mean.size > 1 else None


def _dot(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Returns the sum of the products, the same on every machine.

    The order in which BLAS adds depends on the processor, and so do its last bits.
    """
    return math.fsum((first * second).tolist())


def _by_patient(
    patients: NDArray[np.int64], values: NDArray[np.float64], patient_count: int
) -> NDArray[np.float64]:
    """Returns the sum of the values of each patient, shape (patient_count,)."""
    return np.bincount(patients, values, patient_count).astype(np.float64, copy=False)


def _share_below(scores: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the share of the sorted `others` below each score; ties count half."""
    below = np.searchsorted(others, scores, side="left")
    not_above = np.searchsorted(others, scores, side="right")
    return (below + not_above) / (2 * others.size)
