"""When a report may be recorded: it must be of the evaluation's own benchmark, complete, and hold only real numbers."""

from __future__ import annotations

import math

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import ReportMismatch
from cxreval.metrics.report import MetricValue, Report
from cxreval.resource_names import SHA256, BenchmarkName
from services.registry.domain.fields import refused

MAX_REASON_CHARACTERS = 100


def macro(report: Report, metric: str) -> float | None:
    """The macro mean of `metric` over the findings; None when it is undefined."""
    return next((value.value for value in report.metrics if (value.metric, value.finding) == (metric, "")), None)


def check_report(report: Report, spec: BenchmarkSpec) -> None:
    """Raises `ReportMismatch` naming the first field that is not the benchmark's."""
    same: list[tuple[str, object, object]] = [
        ("benchmark", report.benchmark, str(BenchmarkName(spec.name))),
        ("benchmark_digest", report.benchmark_digest, spec.digest),
        ("scorer_version", report.scorer_version, spec.scorer_version),
        ("image_count", report.image_count, spec.image_count),
        ("patient_count", report.patient_count, spec.patient_count),
    ]
    for field, found, expected in same:
        if found != expected:
            raise refused(f"report.{field}", found, str(expected), ReportMismatch)
    if not SHA256.fullmatch(report.predictions_sha256):
        expected = "64 lower-case hex characters"
        raise refused("report.predictions_sha256", report.predictions_sha256, expected, ReportMismatch)
    _check_metrics(report.metrics, spec)


def _check_metrics(values: tuple[MetricValue, ...], spec: BenchmarkSpec) -> None:
    pairs = [(metric, finding) for metric in spec.metrics for finding in (*spec.findings, "")]
    if [(value.metric, value.finding) for value in values] != pairs:
        order = "each metric of the benchmark for each finding in order, the macro mean last"
        raise refused("report.metrics", f"a list of {len(values)}", order, ReportMismatch)
    for index, value in enumerate(values):
        field = f"report.metrics[{index}]"
        if bool(value.undefined_reason) != (value.value is None) or len(value.undefined_reason) > MAX_REASON_CHARACTERS:
            expected = f"a reason of at most {MAX_REASON_CHARACTERS} characters exactly when the value is absent"
            raise refused(f"{field}.undefined_reason", value.undefined_reason, expected, ReportMismatch)
        if min(value.positive_images, value.negative_images, value.positive_patients) < 0:
            raise refused(field, "a negative count", "counts of 0 or more", ReportMismatch)
        if value.value is not None and not (math.isfinite(value.value) and 0 <= value.value <= 1):
            raise refused(f"{field}.value", value.value, "a finite number from 0 to 1", ReportMismatch)
