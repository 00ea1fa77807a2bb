"""Protobuf messages of the scoring service to the library's types and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cxreval.api.scoring.v1 import report_pb2, scoring_service_pb2
from cxreval.metrics.ranking import Entry, Ranked
from cxreval.metrics.report import Report


def probabilities(batch: report_pb2.PredictionBatch) -> NDArray[np.float32]:
    """The batch's values, shape (n,), float32."""
    return np.fromiter(batch.probabilities, dtype=np.float32, count=len(batch.probabilities))


def report_message(report: Report) -> report_pb2.Report:
    """The report as it travels."""
    return report_pb2.Report(
        benchmark=report.benchmark,
        benchmark_digest=report.benchmark_digest,
        scorer_version=report.scorer_version,
        image_count=report.image_count,
        patient_count=report.patient_count,
        predictions_sha256=report.predictions_sha256,
        metrics=[
            report_pb2.MetricValue(
                metric=value.metric,
                finding=value.finding,
                value=value.value,
                undefined_reason=value.undefined_reason,
                positive_images=value.positive_images,
                negative_images=value.negative_images,
                positive_patients=value.positive_patients,
            )
            for value in report.metrics
        ],
    )


def entries(messages: Iterable[scoring_service_pb2.RankedEntry]) -> list[Entry]:
    """The entries to rank."""
    return [
        Entry(message.id, message.score if message.HasField("score") else None, message.submitted_date)
        for message in messages
    ]


def rank_message(ranked: Ranked) -> scoring_service_pb2.Rank:
    """One rank as it travels."""
    return scoring_service_pb2.Rank(id=ranked.id, rank=ranked.rank, sota_step=ranked.sota_step)
