"""Converts reports and predictions to protobuf messages and back."""

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
    """Returns the message of a report, with its evidence if there is any."""
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
    """Returns the report in a message.

    Raises:
        ReportMismatch: it has too many values, or the bytes of replicates are incomplete.
    """
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
    """Returns the message of one metric; an undefined value is left out."""
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
    """Returns the metric in a message."""
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
    """Returns the message of an interval; None for None."""
    if interval is None:
        return None
    return report_pb2.Interval(
        low=interval.low, high=interval.high, standard_error=interval.standard_error
    )


def interval(message: report_pb2.Interval) -> Interval:
    """Returns the interval in a message."""
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
    """Returns the evidence in a message. Raises `ReportMismatch` for incomplete float64 values."""
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
    """Returns the values as bytes: float64, little-endian."""
    return values.astype("<f8", copy=False).tobytes()


def float64_array(values: bytes, field: str) -> NDArray[np.float64]:
    """Returns bytes as values, shape (values,). Raises `ReportMismatch`, which names `field`."""
    if len(values) % 8:
        expected = "float64 values of 8 bytes"
        raise ReportMismatch(
            f"{field} has {len(values)} bytes; expected {expected}", field=field, expected=expected
        )
    return np.frombuffer(values, "<f8").astype(np.float64, copy=False)


def batch_message(
    images: Sequence[str], probabilities: NDArray[np.float32]
) -> report_pb2.PredictionBatch:
    """Returns the message of predictions of shape (images, findings)."""
    return report_pb2.PredictionBatch(
        images=images, probabilities=probabilities.astype("<f4", copy=False).tobytes()
    )


def probabilities(
    message: report_pb2.PredictionBatch | report_pb2.PartialState,
) -> NDArray[np.float32]:
    """Returns the values of a batch in their order, float32 of shape (values,).

    The caller checks their number.

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
    """Returns the message of a partial state."""
    return report_pb2.PartialState(
        benchmark_digest=state.benchmark_digest,
        rows=state.rows.astype("<u4").tobytes(),
        probabilities=state.probabilities.astype("<f4", copy=False).tobytes(),
    )


def partial_state_rows(message: report_pb2.PartialState) -> NDArray[np.intp]:
    """Returns the row numbers of a partial state, shape (images,).

    Raises:
        MalformedBatch: the bytes are not whole rows, or the rows are not in ascending order.
    """
    expected = "ascending uint32 rows of 4 bytes"
    if len(message.rows) % 4:
        text = f"rows has {len(message.rows)} bytes; expected {expected}"
        raise MalformedBatch(text, field="rows", found=len(message.rows), expected=expected)
    rows = np.frombuffer(message.rows, "<u4").astype(np.intp)
    unordered = np.flatnonzero(np.diff(rows) <= 0)
    if unordered.size:
        before, row = rows[unordered[0]], rows[unordered[0] + 1]
        text = (
            f"row {row} follows row {before}, {unordered.size} rows are out of order; "
            f"expected {expected}"
        )
        raise MalformedBatch(text, field="rows", row=row, count=unordered.size, expected=expected)
    return rows
