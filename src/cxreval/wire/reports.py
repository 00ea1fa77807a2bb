"""Converts reports and predictions to protobuf messages and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxreval.api.scoring.v1 import report_pb2
from cxreval.datasets.benchmark import MAX_FINDINGS
from cxreval.datasets.training_list import TrainingData
from cxreval.errors import MalformedBatch, ReportMismatch
from cxreval.metrics.cohort import MAX_SLICES
from cxreval.metrics.predictions import PartialState
from cxreval.metrics.report import Evidence, Interval, MetricValue, Replicates, Report
from cxreval.metrics.scorers import SCORERS
from cxreval.wire.codec import Decoder, Encoder

MAX_REPORT_VALUES = (max(len(scorer.metrics) for scorer in SCORERS.values()) + MAX_SLICES) * (
    MAX_FINDINGS + 1
)
"""Maximum number of values in one report: what the largest benchmark can have."""


def report(message: report_pb2.Report) -> Report:
    """Returns the report in a message.

    Raises:
        ReportMismatch: it has too many values, or the bytes of replicates are incomplete.
    """
    for field, values in (
        ("report.metrics", message.metrics),
        ("report.contamination.clean_metrics", message.contamination.clean_metrics),
        ("report.membership", message.membership),
    ):
        if len(values) > MAX_REPORT_VALUES:
            expected = f"at most {MAX_REPORT_VALUES} values"
            text = f"{field} has {len(values)} values; expected {expected}"
            raise ReportMismatch(text, field=field, expected=expected)
    return _report(message)


def float64_bytes(values: NDArray[np.float64]) -> bytes:
    """Returns the values as bytes: float64, little-endian."""
    return values.astype("<f8", copy=False).tobytes()


def float64_array(values: bytes, field: str) -> NDArray[np.float64]:
    """Returns the float64 values in little-endian bytes, shape (values,).

    Raises:
        ReportMismatch: the bytes are not a multiple of 8; the error names `field`.
    """
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
        MalformedBatch: the bytes are not a multiple of 4.
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
        findings=state.findings,
    )


def partial_state_rows(message: report_pb2.PartialState) -> NDArray[np.intp]:
    """Returns the row numbers of a partial state, shape (images,).

    Raises:
        MalformedBatch: the bytes are not a multiple of 4, or the rows are not in ascending order.
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


evidence_message = Encoder(
    Evidence,
    report_pb2.Evidence,
    nested=[
        Encoder(
            Replicates,
            report_pb2.Replicates,
            computed={"values": lambda replicates: float64_bytes(replicates.values)},
        )
    ],
)
evidence = Decoder(
    Evidence,
    report_pb2.Evidence,
    nested=[
        Decoder(
            Replicates,
            report_pb2.Replicates,
            computed={
                "values": lambda message: float64_array(
                    message.values, "report.evidence.replicates"
                )
            },
        )
    ],
)
"""Decodes evidence; raises `ReportMismatch` if the bytes of replicates are incomplete."""

training_data_message = Encoder(TrainingData, report_pb2.TrainingData)
training_data = Decoder(TrainingData, report_pb2.TrainingData)
interval_message = Encoder(Interval, report_pb2.Interval)
metric_value_message = Encoder(MetricValue, report_pb2.MetricValue)
report_message = Encoder(Report, report_pb2.Report, nested=[evidence_message])
_report = Decoder(Report, report_pb2.Report, nested=[evidence])
