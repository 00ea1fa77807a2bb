"""The records of a report: figures, intervals, and the evidence for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxreval.extras import require_extra
from cxreval.metrics.curves import Reliability, RocCurve

if TYPE_CHECKING:
    import pandas

ONE_CLASS_ONLY = "ONE_CLASS_ONLY"
NO_LABELS = "NO_LABELS"
FINDING_UNDEFINED = "FINDING_UNDEFINED"
REPLICATES_UNDEFINED = "REPLICATES_UNDEFINED"
NOT_RESAMPLED = "NOT_RESAMPLED"
NOT_COVERED = "NOT_COVERED"
"""Why a finding has no value: the predictions do not have it. The macro mean has none then."""
NOT_RECORDED = "NOT_RECORDED"
"""Why a score has no rank or interval: the benchmark does not record the metric's replicates."""
NOT_CLAIMED = "NOT_CLAIMED"
"""Why a claim has no score: it does not state it."""

NO_MEMBERS = "NO_MEMBERS"
"""Why a membership signal has no value: no image of the benchmark is on the list."""
NO_OTHERS = "NO_OTHERS"
"""Why a membership signal has no value: every patient of the benchmark is on the list."""

CLEAN_SLICE = "training=clean"
"""The slice of the figures on the clean remainder."""

_ABSENT = {
    ONE_CLASS_ONLY: ("one class", "the images have only one class"),
    NO_LABELS: ("no labels", "no image has a label"),
    FINDING_UNDEFINED: ("a finding is undefined", "a finding has no value"),
    NOT_COVERED: ("not covered", "not covered by the model"),
    NOT_CLAIMED: ("not claimed", "not claimed"),
    NOT_RECORDED: ("not recorded", "the benchmark records no replicates of the metric"),
    NO_MEMBERS: ("not on the list", "no image is on the list"),
    NO_OTHERS: ("all on the list", "every patient is on the list"),
    NOT_RESAMPLED: ("not resampled", "the metric is not resampled"),
    REPLICATES_UNDEFINED: (
        "too few patients",
        "more than 1 % of the resamples have no value",
    ),
}

UNDEFINED_SHARE = 0.01
"""Maximum share of undefined replicates; with more, there are too few patients for a statement."""


def absence(reason: str) -> tuple[str, str]:
    """Returns why a value or interval is absent: in short, and as the end of a sentence.

    Both are the reason's own name if it is one of a newer version.
    """
    words = reason.lower().replace("_", " ")
    return _ABSENT.get(reason, (words, words))


@dataclass(frozen=True, slots=True)
class Interval:
    """The bounds of a 95 % interval and the standard error, from the bootstrap over patients."""

    low: float
    high: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class MetricValue:
    """The value of a metric for one finding and one slice.

    `finding` is empty for the macro mean, `slice` for all images. If `value` is None,
    `undefined_reason` is not empty; if only `interval` is None, `interval_undefined_reason` is not
    empty. `defined_findings` and `defined_mean` belong to the macro mean: the number of findings
    with a value, and the mean over them. `analytic_standard_error`, by the clustered DeLong method,
    is given for the AUROC over all images.
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


def macro(values: Sequence[MetricValue], metric: str) -> MetricValue | None:
    """Returns the macro mean of `metric` over all images; None if it is not among the values."""
    return next(
        (
            value
            for value in values
            if (value.metric, value.finding, value.slice) == (metric, "", "")
        ),
        None,
    )


def covered_findings(values: Sequence[MetricValue]) -> tuple[str, ...]:
    """Returns the findings that the predictions behind a report's values cover, in their order."""
    named = dict.fromkeys(
        value.finding for value in values if value.finding and value.undefined_reason != NOT_COVERED
    )
    return tuple(named)


@dataclass(frozen=True, slots=True, eq=False)
class Replicates:
    """The replicates of a metric of one finding, or of the macro mean, whose `finding` is empty.

    `values`: shape (replicates,), NaN where the metric is undefined.
    """

    metric: str
    finding: str
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The evidence for a report: replicates and curves.

    `replicates`: those of the benchmark's metrics; for each metric by finding, the macro mean last.
    Findings that the predictions do not cover have no evidence, and the macro mean has none then.
    """

    replicates: tuple[Replicates, ...] = ()
    roc_curves: tuple[RocCurve, ...] = ()
    reliabilities: tuple[Reliability, ...] = ()


class TrainingVerdict(StrEnum):
    """Whether a model was trained on images or patients of its benchmark, as declared."""

    CLEAN = "clean"
    OVERLAP = "overlap"
    UNDECLARED = "undeclared"


@dataclass(frozen=True, slots=True)
class Contamination:
    """The declared training data among the images of a benchmark.

    `images`: number of its images that were trained on. `patients`: number of its patients that
    were trained on: by one of these images, by an image outside the benchmark, or because they are
    declared themselves. `clean_images`, `clean_patients`: numbers of the other patients and their
    images, the clean remainder. `clean_metrics`: the benchmark's metrics on the remainder; empty
    unless there is an overlap. `unmatched`: no identifier of the declared list is in the label
    table, so the list may have other identifiers than the data set.
    """

    verdict: TrainingVerdict
    images: int
    patients: int
    clean_images: int
    clean_patients: int
    clean_metrics: tuple[MetricValue, ...] = ()
    unmatched: bool = False


@dataclass(frozen=True, slots=True)
class MembershipSignal:
    """How much better predictions are on the images of a public training list than on the others.

    `list`: the operator's name of the list; `list_sha256`: digest of its file. Members are the
    benchmark's images on the list, others the images of patients without one. `findings`: those
    whose AUROC is compared, because it is defined on both in 99 % of the resamples. `member_score`,
    `other_score`: their mean AUROC; `difference`: the first less the second. If nothing is
    compared, the three are None, and `undefined_reason` says why.
    """

    list: str
    list_sha256: str
    member_images: int
    member_patients: int
    other_images: int
    other_patients: int
    findings: tuple[str, ...] = ()
    member_score: float | None = None
    other_score: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    undefined_reason: str = ""

    @property
    def signals(self) -> bool:
        """Whether the interval of the difference lies above 0."""
        return self.interval is not None and self.interval.low > 0


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one evaluation; digests are the sha256 as 64 lower-case hex characters.

    `evidence` is None in a report that was read without it. Comparison of reports ignores it.
    `contamination`: None if the submitter declares nothing. `membership`: one signal for each
    public training list of the benchmark.
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
    contamination: Contamination | None = None
    membership: tuple[MembershipSignal, ...] = ()

    @property
    def training_verdict(self) -> TrainingVerdict:
        """Whether the model was trained on images or patients of the benchmark, as declared."""
        return self.contamination.verdict if self.contamination else TrainingVerdict.UNDECLARED

    def values(self, metric: str) -> dict[str, float | None]:
        """Returns the value of a metric for each finding, over all images; None if undefined.

        Empty if the report does not have the metric.
        """
        return {
            value.finding: value.value
            for value in self.metrics
            if value.metric == metric and value.finding and not value.slice
        }

    @property
    def auroc(self) -> dict[str, float | None]:
        """The AUROC of each finding, over all images; None if undefined."""
        return self.values("auroc")

    @property
    def macro(self) -> float | None:
        """The macro mean of the AUROC, over all images; None if undefined."""
        mean = macro(self.metrics, "auroc")
        return mean.value if mean else None

    def to_frame(self) -> pandas.DataFrame:
        """Returns all figures as a pandas DataFrame, one row for each `MetricValue`.

        The columns are those of `MetricValue`; `low`, `high` and `standard_error` stand for its
        `interval`.

        Raises:
            ExtraMissing: pandas is not installed.
        """
        require_extra("pandas", "Report.to_frame", "pandas")
        import pandas  # noqa: PLC0415 -- needs the extra

        rows = []
        for value in self.metrics:
            row = {item.name: getattr(value, item.name) for item in fields(value)}
            interval = row.pop("interval")
            bounds = {item.name: getattr(interval, item.name, None) for item in fields(Interval)}
            rows.append(row | bounds)
        return pandas.DataFrame(rows)
