"""Reports and predictions as they travel: the one place where the library's types meet their messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxreval.api.scoring.v1 import report_pb2
from cxreval.errors import ReportMismatch
from cxreval.metrics.report import MetricValue, Report
from cxreval.wire.limits import MAX_REPORT_METRICS


def report_message(report: Report) -> report_pb2.Report:
    """A report as a message."""
    return report_pb2.Report(
        benchmark=report.benchmark,
        benchmark_digest=report.benchmark_digest,
        scorer_version=report.scorer_version,
        image_count=report.image_count,
        patient_count=report.patient_count,
        metrics=[metric_value_message(value) for value in report.metrics],
        predictions_sha256=report.predictions_sha256,
    )


def report(message: report_pb2.Report) -> Report:
    """A message as a report. Raises `ReportMismatch` when it has more values than any report."""
    if len(message.metrics) > MAX_REPORT_METRICS:
        expected = f"at most {MAX_REPORT_METRICS} values"
        text = f"report.metrics is a list of {len(message.metrics)}; expected {expected}"
        raise ReportMismatch(text, field="report.metrics", expected=expected)
    return Report(
        benchmark=message.benchmark,
        benchmark_digest=message.benchmark_digest,
        scorer_version=message.scorer_version,
        image_count=message.image_count,
        patient_count=message.patient_count,
        metrics=tuple(metric_value(value) for value in message.metrics),
        predictions_sha256=message.predictions_sha256,
    )


def metric_value_message(value: MetricValue) -> report_pb2.MetricValue:
    """One metric as a message; an undefined value stays absent."""
    return report_pb2.MetricValue(
        metric=value.metric,
        finding=value.finding,
        value=value.value,
        undefined_reason=value.undefined_reason,
        positive_images=value.positive_images,
        negative_images=value.negative_images,
        positive_patients=value.positive_patients,
    )


def metric_value(message: report_pb2.MetricValue) -> MetricValue:
    """A message as one metric."""
    return MetricValue(
        metric=message.metric,
        finding=message.finding,
        value=message.value if message.HasField("value") else None,
        undefined_reason=message.undefined_reason,
        positive_images=message.positive_images,
        negative_images=message.negative_images,
        positive_patients=message.positive_patients,
    )


def batch_message(images: Sequence[str], probabilities: NDArray[np.float32]) -> report_pb2.PredictionBatch:
    """Predictions of some images, shape (images, findings), as a message."""
    return report_pb2.PredictionBatch(images=images, probabilities=probabilities.ravel())


def probabilities(message: report_pb2.PredictionBatch) -> NDArray[np.float32]:
    """A batch's values in the order they came, shape (values,), float32; the caller checks how many there must be."""
    return np.fromiter(message.probabilities, dtype=np.float32, count=len(message.probabilities))
