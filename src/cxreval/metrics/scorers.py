"""The scorers by version: the rules that compute a report's figures from predictions.

A report names its scorer version. A version is never changed or removed, so that every report can
be read, verified and recomputed. New rules get a new version, which only new benchmarks name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.cohort import Cohort, Slice
from cxreval.metrics.curves import reliability, roc_curve
from cxreval.metrics.delong import covariance, macro_variance, placement_sums
from cxreval.metrics.registry import METRICS, Metric
from cxreval.metrics.report import (
    FINDING_UNDEFINED,
    NO_LABELS,
    NOT_COVERED,
    NOT_RESAMPLED,
    ONE_CLASS_ONLY,
    REPLICATES_UNDEFINED,
    UNDEFINED_SHARE,
    Evidence,
    Interval,
    MetricValue,
    Replicates,
)
from cxreval.metrics.resampling import CalibrationResampler, FindingResampler, patient_weights

INTERVAL_PERCENTILES = (2.5, 97.5)
"""Percentiles of the replicates that bound an interval."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """The rules of one scorer version.

    `metrics`: the metrics of a report over all images, by name, in the report's order.
    `sliced_metric`: the metric that the report also has for each slice.
    """

    metrics: Mapping[str, Metric]
    sliced_metric: str

    def score(
        self,
        cohort: Cohort,
        probabilities: NDArray[np.float32],
        seed: int,
        replicate_count: int,
        recorded: Sequence[str],
        covered: Sequence[str] = (),
    ) -> tuple[tuple[MetricValue, ...], Evidence]:
        """Returns the figures of a report and the evidence behind them.

        The figures are first, for each metric over all images, those of each finding and their
        macro mean; then the same of the sliced metric for each slice. A finding that is not covered
        has no value, and the macro mean has none either.

        Args:
            cohort: the labelled images.
            probabilities: shape (images, covered findings), within [0, 1], rows and columns in the
                cohort's order.
            seed: seed of the bootstrap, 0 to 2**64 - 1; submissions that are compared have the
                same.
            replicate_count: number of resamples, at least 1.
            recorded: the metrics whose replicates are part of the evidence.
            covered: the findings of the columns, in the cohort's order; empty for all findings.
        """
        columns = {finding: column for column, finding in enumerate(covered or cohort.findings)}
        overall = _Group(cohort, probabilities, columns, self.metrics)
        metrics = {self.sliced_metric: self.metrics[self.sliced_metric]}
        sliced = [_Group(cohort, probabilities, columns, metrics, part) for part in cohort.slices]
        for weights in patient_weights(seed, cohort.patient_count, replicate_count):
            for group in (overall, *sliced):
                group.resample(weights)
        values = tuple(value for group in (overall, *sliced) for value in group.values())
        return values, overall.evidence(recorded)

    def score_parts(
        self,
        cohort: Cohort,
        probabilities: NDArray[np.float32],
        seed: int,
        replicate_count: int,
        metrics: Sequence[str],
        parts: Sequence[Slice],
        covered: Sequence[str] = (),
    ) -> list[tuple[tuple[MetricValue, ...], tuple[Replicates, ...]]]:
        """Returns the figures of some metrics on parts of the images, each with its replicates.

        The resamples are those of `score`: of all patients, also those without an image in a part.
        Arguments as for `score`. For each metric, those of each finding come first, and the macro
        mean is last.
        """
        columns = {finding: column for column, finding in enumerate(covered or cohort.findings)}
        chosen = {name: self.metrics[name] for name in metrics}
        groups = [_Group(cohort, probabilities, columns, chosen, part) for part in parts]
        for weights in patient_weights(seed, cohort.patient_count, replicate_count):
            for group in groups:
                group.resample(weights)
        return [(tuple(group.values()), group.replicates(metrics)) for group in groups]


_VERSION_2 = (
    "auroc",
    "average_precision",
    "brier",
    "calibration_error",
    "sensitivity_at_90_specificity",
    "sensitivity_at_95_specificity",
)

SCORERS = {"2": Scorer({name: METRICS[name] for name in _VERSION_2}, sliced_metric="auroc")}
"""Every scorer by its version."""

LATEST_SCORER = "2"
"""Scorer version of new benchmarks."""


class _Column:
    """The images of a group whose label of one finding is known, and the finding's replicates.

    `scores` is empty for a finding that the predictions do not cover.
    """

    def __init__(
        self,
        finding: str,
        covered: bool,
        scores: NDArray[np.float32],
        positive: NDArray[np.bool_],
        patients: NDArray[np.int64],
    ) -> None:
        self.finding = finding
        self.covered = covered
        self.scores = scores
        self.positive = positive
        self.patients = patients
        self.replicates: dict[str, list[NDArray[np.float64]]] = {}

    def measured(self, metric: Metric) -> MetricValue:
        """Returns the value of a metric, without its interval."""
        value = metric.compute(self.scores, self.positive) if self.covered else None
        reason = "" if value is not None else ONE_CLASS_ONLY if self.positive.size else NO_LABELS
        reason = reason if self.covered else NOT_COVERED
        return _value(metric.name, self.finding, value, reason, self.positive, self.patients)


class _Group:
    """Computes metrics and replicates of the images of a cohort or of one of its slices."""

    def __init__(
        self,
        cohort: Cohort,
        probabilities: NDArray[np.float32],
        columns: Mapping[str, int],
        metrics: Mapping[str, Metric],
        part: Slice | None = None,
    ) -> None:
        self._cohort = cohort
        self._slice = part.name if part else ""
        self._metrics = metrics
        rows = part.rows if part else np.ones(cohort.patients.size, np.bool_)
        self._any = np.any((cohort.labels & cohort.known)[rows], axis=1)
        self._patients = cohort.patients[rows]
        self._columns = []
        for column, finding in enumerate(cohort.findings):
            known, covered = rows & cohort.known[:, column], finding in columns
            self._columns.append(
                _Column(
                    finding,
                    covered,
                    probabilities[known, columns[finding]] if covered else np.empty(0, np.float32),
                    cohort.labels[known, column],
                    cohort.patients[known],
                )
            )
        size = cohort.patient_count
        self._covered = [column for column in self._columns if column.covered]
        self._resamplers = [
            (column, FindingResampler(column.scores, column.positive, column.patients, size))
            for column in self._covered
        ]
        self._calibrations = [
            (column, CalibrationResampler(column.scores, column.positive, column.patients, size))
            for column in self._covered
            if not CalibrationResampler.METRICS.isdisjoint(metrics)
        ]

    def resample(self, weights: NDArray[np.float32]) -> None:
        """Computes and keeps more replicates; `weights` has shape (patients, replicates)."""
        for column, resampler in self._resamplers:
            _extend(column, resampler.replicates(weights, auroc_only=[*self._metrics] == ["auroc"]))
        for column, calibration in self._calibrations:
            _extend(column, calibration.replicates(weights))

    def values(self) -> Iterator[MetricValue]:
        """Yields, for each metric, the value of each finding in order and then the macro mean."""
        errors = self._analytic_errors() if not self._slice else {}
        for name, metric in self._metrics.items():
            measured = [column.measured(metric) for column in self._columns]
            values = [*measured, self._macro(name, measured)]
            vectors = self._vectors(name) if metric.resampled else [None] * len(values)
            for value, replicates in zip(values, vectors, strict=True):
                error = errors.get(value.finding) if name == "auroc" else None
                yield replace(
                    with_interval(value, replicates),
                    slice=self._slice,
                    analytic_standard_error=error,
                )

    def evidence(self, recorded: Sequence[str]) -> Evidence:
        """Returns the replicates of the `recorded` metrics, and the curves of each finding."""
        columns = self._covered
        curves = [roc_curve(column.finding, column.scores, column.positive) for column in columns]
        return Evidence(
            replicates=self.replicates(recorded),
            roc_curves=tuple(curve for curve in curves if curve is not None),
            reliabilities=tuple(
                reliability(column.finding, column.scores, column.positive) for column in columns
            ),
        )

    def replicates(self, metrics: Sequence[str]) -> tuple[Replicates, ...]:
        """Returns the replicates of some metrics; for each by finding, the macro mean last."""
        names = [column.finding for column in self._columns] + [""]
        return tuple(
            Replicates(metric, finding, vector)
            for metric in metrics
            for finding, vector in zip(names, self._vectors(metric), strict=True)
            if vector is not None
        )

    def _vectors(self, metric: str) -> list[NDArray[np.float64] | None]:
        """Returns the replicates of a metric: of each finding, then of the macro mean.

        A finding that is not covered has none, and the macro mean has none then. The macro mean is
        NaN where one finding is.
        """
        vectors = {
            column.finding: np.concatenate(column.replicates[metric]) for column in self._covered
        }
        complete = len(vectors) == len(self._columns)
        macro = np.mean([*vectors.values()], axis=0) if complete else None
        return [*(vectors.get(column.finding) for column in self._columns), macro]

    def _macro(self, metric: str, findings: Sequence[MetricValue]) -> MetricValue:
        """Returns the macro mean, without its interval; undefined if a finding is undefined."""
        defined = [finding.value for finding in findings if finding.value is not None]
        # np.mean sums pairwise, so the last bit is that of scikit-learn's macro average.
        mean = float(np.mean(defined)) if defined else None
        value, reason = (mean, "") if len(defined) == len(findings) else (None, FINDING_UNDEFINED)
        if len(self._covered) < len(findings):
            reason = NOT_COVERED
        macro = _value(metric, "", value, reason, self._any, self._patients)
        return replace(macro, defined_findings=len(defined), defined_mean=mean)

    def _analytic_errors(self) -> dict[str, float | None]:
        """Returns the standard error of each finding's AUROC, and of the macro mean as ""."""
        sums = {
            column.finding: placement_sums(
                column.scores, column.positive, column.patients, self._cohort.patient_count
            )
            for column in self._covered
        }
        defined = [finding_sums for finding_sums in sums.values() if finding_sums]
        variances = {
            finding: covariance(finding_sums, finding_sums) if finding_sums else None
            for finding, finding_sums in sums.items()
        }
        complete = len(defined) == len(self._columns)
        variances[""] = macro_variance(defined) if complete else None
        return {
            finding: None if variance is None else math.sqrt(max(variance, 0))
            for finding, variance in variances.items()
        }


def _extend(column: _Column, replicates: dict[str, NDArray[np.float64]]) -> None:
    """Appends replicates to those of a column."""
    for metric, values in replicates.items():
        column.replicates.setdefault(metric, []).append(values)


def with_interval(value: MetricValue, replicates: NDArray[np.float64] | None) -> MetricValue:
    """Returns a value with the interval of its replicates, shape (replicates,), or the reason.

    A value that is None has neither.
    """
    if value.value is None:
        return value
    if replicates is None:
        return replace(value, interval_undefined_reason=NOT_RESAMPLED)
    defined = replicates[~np.isnan(replicates)]
    if defined.size < max(2, (1 - UNDEFINED_SHARE) * replicates.size):
        return replace(value, interval_undefined_reason=REPLICATES_UNDEFINED)
    low, high = np.percentile(defined, INTERVAL_PERCENTILES)
    interval = Interval(float(low), float(high), float(np.std(defined, ddof=1)))
    return replace(value, interval=interval)


def _value(
    metric: str,
    finding: str,
    value: float | None,
    reason: str,
    positive: NDArray[np.bool_],
    patients: NDArray[np.int64],
) -> MetricValue:
    """Returns a value with the counts of its images and patients."""
    count = int(positive.sum())
    return MetricValue(
        metric=metric,
        finding=finding,
        value=value,
        undefined_reason=reason,
        positive_images=count,
        negative_images=positive.size - count,
        positive_patients=int(np.unique(patients[positive]).size),
    )
