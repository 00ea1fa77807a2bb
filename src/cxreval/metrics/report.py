"""What a report holds: every metric of one complete set of predictions, its intervals and the
evidence behind them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.curves import Reliability, RocCurve

ONE_CLASS_ONLY = "ONE_CLASS_ONLY"
NO_LABELS = "NO_LABELS"
FINDING_UNDEFINED = "FINDING_UNDEFINED"
REPLICATES_UNDEFINED = "REPLICATES_UNDEFINED"

UNDEFINED_SHARE = 0.01
"""Replicates count for nothing when more than this share of them is undefined: too few patients
carry the figure."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What the bootstrap over patients says: the bounds of the 95 % interval and the standard
    error."""

    low: float
    high: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One metric of one finding; `finding` is empty for the macro mean, `slice` for all images.

    A `value` of None has its reason beside it, and so has an `interval` of None beside a value. The
    macro mean says over how many findings it could be taken and what it would be over those alone.
    `analytic_standard_error` comes from the clustered DeLong method; it is there for the AUROC over
    all images.
    """

    metric: str
    finding: str
    value: float | None
    undefined_reason: str = ""
    positive_images: int = 0
    negative_images: int = 0
    positive_patients: int = 0
    slice: str = ""
    interval: Interval | None = None
    interval_undefined_reason: str = ""
    analytic_standard_error: float | None = None
    defined_findings: int = 0
    defined_mean: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Replicates:
    """One metric of one finding, or of the macro mean, under every resample: shape (replicates,),
    NaN if undefined."""

    metric: str
    finding: str
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What stands behind a report: the AUROC's replicates, finding by finding and the macro last,
    and the curves."""

    replicates: tuple[Replicates, ...] = ()
    roc_curves: tuple[RocCurve, ...] = ()
    reliabilities: tuple[Reliability, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. Digests are 64 lower-case hex characters of a sha256.

    `evidence` is None where only the figures were asked for; two reports of the same figures are
    equal without it.
    """

    benchmark: str
    benchmark_digest: str
    scorer_version: str
    image_count: int
    patient_count: int
    metrics: tuple[MetricValue, ...]
    predictions_sha256: str
    replicate_count: int
    seed: int
    evidence: Evidence | None = field(default=None, compare=False, repr=False)
