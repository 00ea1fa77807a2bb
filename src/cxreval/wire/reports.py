"""Reports and predictions as they travel: the one place where the library's types meet their
messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxreval.api.scoring.v1 import report_pb2
from cxreval.errors import MalformedBatch, ReportMismatch
from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.predictions import PartialState
from cxreval.metrics.report import Evidence, Interval, MetricValue, Replicates, Report
from cxreval.wire.limits import MAX_REPORT_METRICS


def report_message(report: Report) -> report_pb2.Report:
    """A report as a message, with its evidence if it has it."""
    return report_pb2.Report(
        benchmark=report.benchmark,
        benchmark_digest=report.benchmark_digest,
        scorer_version=report.scorer_version,
        image_count=report.image_count,
        patient_count=report.patient_count,
        metrics=[metric_value_message(value) for value in report.metrics],
        predictions_sha256=report.predictions_sha256,
        replicate_count=report.replicate_count,
        seed=report.seed,
        evidence=evidence_message(report.evidence) if report.evidence else None,
    )


def report(message: report_pb2.Report) -> Report:
    """A message as a report. Raises `ReportMismatch` when it has more values than any report, or
    torn replicates."""
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
        replicate_count=message.replicate_count,
        seed=message.seed,
        evidence=evidence(message.evidence) if message.HasField("evidence") else None,
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
        slice=value.slice,
        interval=interval_message(value.interval),
        interval_undefined_reason=value.interval_undefined_reason,
        analytic_standard_error=value.analytic_standard_error,
        defined_findings=value.defined_findings,
        defined_mean=value.defined_mean,
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
        slice=message.slice,
        interval=interval(message.interval) if message.HasField("interval") else None,
        interval_undefined_reason=message.interval_undefined_reason,
        analytic_standard_error=message.analytic_standard_error
        if message.HasField("analytic_standard_error")
        else None,
        defined_findings=message.defined_findings,
        defined_mean=message.defined_mean if message.HasField("defined_mean") else None,
    )


def interval_message(interval: Interval | None) -> report_pb2.Interval | None:
    """An interval as a message; None stays unset."""
    if interval is None:
        return None
    return report_pb2.Interval(
        low=interval.low, high=interval.high, standard_error=interval.standard_error
    )


def interval(message: report_pb2.Interval) -> Interval:
    """A message as an interval."""
    return Interval(message.low, message.high, message.standard_error)


def evidence_message(evidence: Evidence) -> report_pb2.Evidence:
    """Evidence as a message."""
    return report_pb2.Evidence(
        replicates=[
            report_pb2.Replicates(
                metric=item.metric, finding=item.finding, values=float64_bytes(item.values)
            )
            for item in evidence.replicates
        ],
        roc_curves=[
            report_pb2.RocCurve(
                finding=curve.finding,
                false_positive_rates=curve.false_positive_rates,
                sensitivities=curve.sensitivities,
            )
            for curve in evidence.roc_curves
        ],
        reliabilities=[
            report_pb2.Reliability(
                finding=item.finding,
                images=item.images,
                mean_probabilities=item.mean_probabilities,
                positives=item.positives,
            )
            for item in evidence.reliabilities
        ],
    )


def evidence(message: report_pb2.Evidence) -> Evidence:
    """A message as evidence. Raises `ReportMismatch` for replicates that are not whole numbers of
    float64."""
    return Evidence(
        replicates=tuple(
            Replicates(
                item.metric, item.finding, float64_array(item.values, "report.evidence.replicates")
            )
            for item in message.replicates
        ),
        roc_curves=tuple(
            RocCurve(curve.finding, tuple(curve.false_positive_rates), tuple(curve.sensitivities))
            for curve in message.roc_curves
        ),
        reliabilities=tuple(
            Reliability(
                item.finding,
                tuple(item.images),
                tuple(item.mean_probabilities),
                tuple(item.positives),
            )
            for item in message.reliabilities
        ),
    )


def float64_bytes(values: NDArray[np.float64]) -> bytes:
    """Values as they travel: float64 little-endian."""
    return values.astype("<f8", copy=False).tobytes()


def float64_array(values: bytes, field: str) -> NDArray[np.float64]:
    """Bytes as values, shape (values,). Raises `ReportMismatch` naming `field`."""
    if len(values) % 8:
        expected = "float64 values of 8 bytes"
        raise ReportMismatch(
            f"{field} has {len(values)} bytes; expected {expected}", field=field, expected=expected
        )
    return np.frombuffer(values, "<f8").astype(np.float64, copy=False)


def batch_message(
    images: Sequence[str], probabilities: NDArray[np.float32]
) -> report_pb2.PredictionBatch:
    """Predictions of some images, shape (images, findings), as a message."""
    return report_pb2.PredictionBatch(
        images=images, probabilities=probabilities.astype("<f4", copy=False).tobytes()
    )


def probabilities(
    message: report_pb2.PredictionBatch | report_pb2.PartialState,
) -> NDArray[np.float32]:
    """A batch's values in the order they came, shape (values,), float32; the caller checks how many
    there must be.

    Raises:
        MalformedBatch: the bytes are not whole values.
    """
    if len(message.probabilities) % 4:
        expected = "float32 values of 4 bytes"
        text = f"probabilities has {len(message.probabilities)} bytes; expected {expected}"
        raise MalformedBatch(
            text, field="probabilities", found=len(message.probabilities), expected=expected
        )
    return np.frombuffer(message.probabilities, "<f4").astype(np.float32, copy=False)


def partial_state_message(state: PartialState) -> report_pb2.PartialState:
    """A partial state as a message."""
    return report_pb2.PartialState(
        benchmark_digest=state.benchmark_digest,
        rows=state.rows.astype("<u4").tobytes(),
        probabilities=state.probabilities.astype("<f4", copy=False).tobytes(),
    )


def partial_state_rows(message: report_pb2.PartialState) -> NDArray[np.intp]:
    """The rows of a partial state, shape (images,).

    Raises:
        MalformedBatch: the bytes are not whole rows, or the rows do not rise.
    """
    expected = "rising uint32 rows of 4 bytes"
    if len(message.rows) % 4:
        text = f"rows has {len(message.rows)} bytes; expected {expected}"
        raise MalformedBatch(text, field="rows", found=len(message.rows), expected=expected)
    rows = np.frombuffer(message.rows, "<u4").astype(np.intp)
    fallen = np.flatnonzero(np.diff(rows) <= 0)
    if fallen.size:
        before, found = rows[fallen[0]], rows[fallen[0] + 1]
        text = f"row {found} comes after row {before}, {fallen.size} rows do not rise; expected {expected}"
        raise MalformedBatch(text, field="rows", row=found, count=fallen.size, expected=expected)
    return rows
