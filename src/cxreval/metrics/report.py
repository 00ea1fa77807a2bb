"""The report: every metric of one complete set of predictions against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.auroc import auroc

ONE_CLASS_ONLY = "ONE_CLASS_ONLY"
FINDING_UNDEFINED = "FINDING_UNDEFINED"


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One metric of one finding; `finding` is empty for the macro mean. A `value` of None has its reason beside it."""

    metric: str
    finding: str
    value: float | None
    undefined_reason: str = ""
    positive_images: int = 0
    negative_images: int = 0
    positive_patients: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. Digests are 64 lower-case hex characters of a sha256."""

    benchmark: str
    benchmark_digest: str
    scorer_version: str
    image_count: int
    patient_count: int
    metrics: tuple[MetricValue, ...]
    predictions_sha256: str


def auroc_values(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.bool_],
    patients: NDArray[np.int64],
    findings: Sequence[str],
) -> tuple[MetricValue, ...]:
    """AUROC of each finding in order, then their macro mean: the plain mean, undefined if one of them is.

    Args:
        probabilities: shape (images, findings), finite.
        labels: shape (images, findings), True where the finding is present.
        patients: shape (images,), an identifier of each image's patient.
        findings: names of the columns.
    """
    values = tuple(
        _measured(finding, auroc(probabilities[:, column], labels[:, column]), labels[:, column], patients)
        for column, finding in enumerate(findings)
    )
    return (*values, _macro(values, np.any(labels, axis=1), patients))


def _macro(values: Sequence[MetricValue], any_finding: NDArray[np.bool_], patients: NDArray[np.int64]) -> MetricValue:
    defined = [value.value for value in values if value.value is not None]
    # np.mean, as scikit-learn's macro average: pairwise summation gives the same last bit.
    mean = float(np.mean(defined)) if len(defined) == len(values) else None
    return _measured("", mean, any_finding, patients, FINDING_UNDEFINED)


def _measured(
    finding: str,
    value: float | None,
    positive: NDArray[np.bool_],
    patients: NDArray[np.int64],
    reason: str = ONE_CLASS_ONLY,
) -> MetricValue:
    count = int(positive.sum())
    return MetricValue(
        metric="auroc",
        finding=finding,
        value=value,
        undefined_reason=reason if value is None else "",
        positive_images=count,
        negative_images=positive.size - count,
        positive_patients=int(np.unique(patients[positive]).size),
    )
