"""The analytic standard error of an AUROC when images of one patient are alike.

DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988) for independent images; Obuchowski
(Biometrics 53, 1997) for clusters of them, of which the former is the case of one image a cluster.
It is the check beside the bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class PlacementSums:
    """One finding's placement values, summed by patient and centred.

    `of_positives`, `of_negatives`: shape (patients,), the sum over the patient's images of their
    placement value less
    the AUROC. `positives`, `negatives`: how many images there are of each kind;
    `positive_patients`,
    `negative_patients`: how many patients have one; `patients`: how many have either.
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
        """Shape (patients,): how far each patient moves the AUROC, to first order."""
        return self.of_positives / self.positives + self.of_negatives / self.negatives


def placement_sums(
    scores: NDArray[np.float32],
    positive: NDArray[np.bool_],
    patients: NDArray[np.int64],
    patient_count: int,
) -> PlacementSums | None:
    """None when only one class is present. Arguments as for `FindingResampler`."""
    high, low = scores[positive], scores[~positive]
    if not high.size or not low.size:
        return None
    # The placement of an image: the share of the other class that it is on the right side of, ties
    # counting half.
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
    """Covariance of two AUROCs measured on the same images with the same labels; of one with
    itself, its variance.

    Obuchowski's equations 3 to 6. None when a class has fewer than 2 patients.
    """
    if first.positive_patients < 2 or first.negative_patients < 2:
        return None
    positives = (
        first.positive_patients
        / (first.positive_patients - 1)
        * (first.of_positives @ second.of_positives)
    )
    negatives = (
        first.negative_patients
        / (first.negative_patients - 1)
        * (first.of_negatives @ second.of_negatives)
    )
    both = first.of_positives @ second.of_negatives + second.of_positives @ first.of_negatives
    return float(
        positives / first.positives**2
        + negatives / first.negatives**2
        + first.patients / (first.patients - 1) * both / (first.positives * first.negatives)
    )


def macro_variance(findings: list[PlacementSums]) -> float | None:
    """Variance of the mean of several AUROCs measured on the same patients; None with fewer than 2
    patients.

    The variance of the mean influence over patients, which carries the covariances between findings
    with it.
    """
    mean = np.mean([finding.influence for finding in findings], axis=0)
    return float(mean.size / (mean.size - 1) * (mean @ mean)) if mean.size > 1 else None


def _by_patient(
    patients: NDArray[np.int64], values: NDArray[np.float64], patient_count: int
) -> NDArray[np.float64]:
    return np.bincount(patients, values, patient_count).astype(np.float64, copy=False)


def _share_below(scores: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the sorted `others` below each score, ties counting half."""
    below = np.searchsorted(others, scores, side="left")
    not_above = np.searchsorted(others, scores, side="right")
    return (below + not_above) / (2 * others.size)
