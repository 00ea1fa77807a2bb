"""Checks that a report may be recorded: complete, with valid numbers, of the right benchmark.

Its evidence must be complete too, because the registry ranks boards by the stored replicates and
cannot compute them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import CxrevalError, ReportMismatch
from cxreval.fields import SHA256, SHA256_FORM, field_error, is_printable
from cxreval.metrics.calibration import BINS
from cxreval.metrics.cohort import MAX_SLICE_CHARACTERS
from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.registry import METRICS, Metric
from cxreval.metrics.report import (
    NOT_COVERED,
    Evidence,
    Interval,
    MetricValue,
    Replicates,
    Report,
    covered_findings,
)
from cxreval.metrics.scorers import SCORERS
from cxreval.resource_names import BenchmarkName

MAX_REASON_CHARACTERS = 100
MAX_CURVE_POINTS = 20_000
"""Maximum number of points of a finding's ROC curve."""


def check_report(report: Report, spec: BenchmarkSpec, named: Sequence[str] = ()) -> None:
    """Raises `ReportMismatch` for the first field that does not fit the benchmark.

    `named`: the findings that the report must cover, in the benchmark's order; empty if the
    manifest does not name them.
    """
    if spec.scorer_version not in SCORERS:
        known = f"one of {', '.join(SCORERS)}, the scorers that this registry has"
        raise _mismatch("scorer_version", spec.scorer_version, known)
    facts: list[tuple[str, object, object]] = [
        ("benchmark", report.benchmark, str(BenchmarkName(spec.name))),
        ("benchmark_digest", report.benchmark_digest, spec.digest),
        ("scorer_version", report.scorer_version, spec.scorer_version),
        ("image_count", report.image_count, spec.image_count),
        ("patient_count", report.patient_count, spec.patient_count),
        ("replicate_count", report.replicate_count, spec.replicates),
        ("seed", report.seed, spec.seed),
    ]
    for field, value, expected in facts:
        if value != expected:
            raise _mismatch(field, value, str(expected))
    if not SHA256.fullmatch(report.predictions_sha256):
        raise _mismatch("predictions_sha256", report.predictions_sha256, SHA256_FORM)
    covered = covered_findings(report.metrics)
    _check_metrics(report.metrics, spec)
    _check_coverage(report.metrics, covered, spec, named)
    if report.evidence is None:
        raise _mismatch("evidence", "absent", "replicates and curves")
    _check_evidence(report.evidence, report, spec, covered)


def _mismatch(field: str, value: object, expected: str) -> CxrevalError:
    return field_error(f"report.{field}", value, expected, ReportMismatch)


# --- figures --------------------------------------------------------------------------------------


def _check_metrics(values: Sequence[MetricValue], spec: BenchmarkSpec) -> None:
    scorer = SCORERS[spec.scorer_version]
    findings = (*spec.findings, "")
    overall = [(metric, finding, "") for metric in scorer.metrics for finding in findings]
    slices = [value.slice for value in values[len(overall) :: len(findings)]]
    sliced = [(scorer.sliced_metric, finding, name) for name in slices for finding in findings]
    if [(value.metric, value.finding, value.slice) for value in values] != overall + sliced:
        order = (
            f"{', '.join(scorer.metrics)} over all images, then {scorer.sliced_metric} slice by "
            "slice; findings in order, macro last"
        )
        raise _mismatch("metrics", f"a list of {len(values)}", order)
    _check_slices(slices, spec.slices)
    for index, value in enumerate(values):
        metric = scorer.metrics[value.metric]
        _check_value(f"metrics[{index}]", value, metric, len(spec.findings))


def _check_coverage(
    values: Sequence[MetricValue], covered: Sequence[str], spec: BenchmarkSpec, named: Sequence[str]
) -> None:
    """Raises `ReportMismatch` unless exactly the covered findings may have values.

    The macro mean over fewer findings than the benchmark has must be absent.
    """
    if not covered or (named and covered != named):
        expected = f"those that output_names names, {', '.join(named)}" if named else "at least one"
        raise _mismatch("metrics", f"a report that covers {', '.join(covered)}", expected)
    may_have_values = {*covered, *([""] if len(covered) == len(spec.findings) else [])}
    for index, value in enumerate(values):
        if (value.undefined_reason == NOT_COVERED) == (value.finding in may_have_values):
            expected = f"{NOT_COVERED} in each value of the same findings, and of the macro mean"
            field = f"metrics[{index}].undefined_reason"
            raise _mismatch(field, value.undefined_reason, expected)


def _check_slices(names: Sequence[str], dimensions: Sequence[str]) -> None:
    for name in names:
        dimension, _, value = name.partition("=")
        if len(name) > MAX_SLICE_CHARACTERS or not (value and is_printable(value)):
            expected = f"dimension=value of at most {MAX_SLICE_CHARACTERS} characters"
            raise _mismatch("metrics.slice", name, expected)
        if dimension not in dimensions:
            expected = f"a slice by one of {', '.join(dimensions)}" if dimensions else "no slice"
            raise _mismatch("metrics.slice", name, expected)
    if len(set(names)) < len(names):
        raise _mismatch("metrics.slice", "a repeated name", "each slice once")


def _check_value(field: str, value: MetricValue, metric: Metric, findings: int) -> None:
    if (
        bool(value.undefined_reason) != (value.value is None)
        or len(value.undefined_reason) > MAX_REASON_CHARACTERS
    ):
        expected = (
            f"a reason of at most {MAX_REASON_CHARACTERS} characters "
            "exactly when the value is absent"
        )
        raise _mismatch(f"{field}.undefined_reason", value.undefined_reason, expected)
    if min(value.positive_images, value.negative_images, value.positive_patients) < 0:
        raise _mismatch(field, "a negative count", "counts of 0 or more")
    if value.value is not None and not metric.low <= value.value <= metric.high:
        raise _mismatch(f"{field}.value", value.value, _number(metric))
    _check_interval(field, value, metric)
    error = value.analytic_standard_error
    if error is not None and not 0 <= error < math.inf:
        raise _mismatch(
            f"{field}.analytic_standard_error", error, "absent, or a finite number of 0 or more"
        )
    if not 0 <= value.defined_findings <= findings:
        raise _mismatch(f"{field}.defined_findings", value.defined_findings, f"0 to {findings}")
    mean = value.defined_mean
    if (mean is None) != (value.defined_findings == 0) or not (
        mean is None or metric.low <= mean <= metric.high
    ):
        expected = f"{_number(metric)}, exactly when findings are defined"
        raise _mismatch(f"{field}.defined_mean", mean, expected)


def _number(metric: Metric) -> str:
    return f"a finite number from {metric.low:g} to {metric.high:g}"


def _check_interval(field: str, value: MetricValue, metric: Metric) -> None:
    reason = value.interval_undefined_reason
    needs_reason = value.value is not None and value.interval is None
    if bool(reason) != needs_reason or len(reason) > MAX_REASON_CHARACTERS:
        expected = (
            f"a reason of at most {MAX_REASON_CHARACTERS} characters exactly when a value has no "
            "interval"
        )
        raise _mismatch(f"{field}.interval_undefined_reason", reason, expected)
    if value.interval is None:
        return
    if value.value is None or not _is_interval(value.interval, metric):
        expected = (
            f"{metric.low:g} <= low <= high <= {metric.high:g} and a finite standard error of 0 or "
            "more, beside a value"
        )
        raise _mismatch(f"{field}.interval", value.interval, expected)


def _is_interval(interval: Interval, metric: Metric) -> bool:
    in_range = metric.low <= interval.low <= interval.high <= metric.high
    return in_range and 0 <= interval.standard_error < math.inf


# --- evidence -------------------------------------------------------------------------------------


def _check_evidence(
    evidence: Evidence, report: Report, spec: BenchmarkSpec, covered: Sequence[str]
) -> None:
    findings = (*covered, *([""] if len(covered) == len(spec.findings) else []))
    recorded = [(item.metric, item.finding) for item in evidence.replicates]
    if recorded != [(metric, finding) for metric in spec.metric_names for finding in findings]:
        expected = (
            f"{', '.join(spec.metric_names)} of each covered finding in order, then of the macro "
            "mean if all are covered"
        )
        raise _mismatch("evidence.replicates", f"a list of {len(recorded)}", expected)
    for index, replicates in enumerate(evidence.replicates):
        _check_replicates(f"evidence.replicates[{index}].values", replicates, spec.replicates)
    # A ROC curve exists exactly when its area does.
    defined = [
        value.finding
        for value in report.metrics
        if (value.metric, value.slice) == ("auroc", "")
        and value.finding
        and value.value is not None
    ]
    _check_findings("evidence.roc_curves", evidence.roc_curves, defined)
    for index, curve in enumerate(evidence.roc_curves):
        _check_curve(f"evidence.roc_curves[{index}]", curve)
    _check_findings("evidence.reliabilities", evidence.reliabilities, covered)
    for index, reliability in enumerate(evidence.reliabilities):
        _check_reliability(f"evidence.reliabilities[{index}]", reliability)


def _check_findings(
    field: str, curves: Sequence[RocCurve | Reliability], expected: Sequence[str]
) -> None:
    if [curve.finding for curve in curves] != list(expected):
        text = f"one for each of {', '.join(expected)}, in this order" if expected else "none"
        raise _mismatch(field, ", ".join(curve.finding for curve in curves), text)


def _check_replicates(field: str, replicates: Replicates, count: int) -> None:
    if replicates.values.size != count:
        raise _mismatch(field, f"{replicates.values.size} values", f"{count} values")
    metric = METRICS[replicates.metric]
    defined = replicates.values[~np.isnan(replicates.values)]
    if not np.all((defined >= metric.low) & (defined <= metric.high)):
        expected = f"{_number(metric)} under each resample, NaN where it is undefined"
        raise _mismatch(field, "a vector with an invalid value", expected)


def _check_curve(field: str, curve: RocCurve) -> None:
    axes = curve.false_positive_rates, curve.sensitivities
    sizes = {len(axis) for axis in axes}
    if len(sizes) != 1 or not 2 <= min(sizes) <= MAX_CURVE_POINTS:
        raise _mismatch(
            field, f"{[len(axis) for axis in axes]} points", f"2 to {MAX_CURVE_POINTS} of both axes"
        )
    if not all(_rises(axis) for axis in axes):
        expected = "points that rise from (0, 0) to (1, 1)"
        raise _mismatch(field, "a curve that falls or has other end points", expected)


def _rises(axis: Sequence[float]) -> bool:
    return (axis[0], axis[-1]) == (0, 1) and bool(np.all(np.diff(axis) >= 0))


def _check_reliability(field: str, reliability: Reliability) -> None:
    columns: Iterable[Sequence[float]] = (
        reliability.images,
        reliability.mean_probabilities,
        reliability.positives,
    )
    if any(len(column) != BINS for column in columns):
        raise _mismatch(field, "another number of bins", f"{BINS} bins")
    bins = zip(*columns, strict=True)
    if not all(0 <= positives <= images and 0 <= mean <= 1 for images, mean, positives in bins):
        expected = "in each bin, positives from 0 to the number of images and a mean from 0 to 1"
        raise _mismatch(field, "an invalid bin", expected)
