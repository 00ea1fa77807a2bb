"""The scoring rpcs: convert, compute, convert."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio
from prometheus_client import CollectorRegistry, Counter, Histogram

from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.api.scoring.v1 import scoring_service_pb2_grpc
from cxreval.datasets.truth import Truth
from cxreval.errors import (
    BenchmarkDigestMismatch,
    EmptyStream,
    MalformedBatch,
    MalformedField,
    MalformedStream,
    TruthNotFound,
)
from cxreval.metrics.predictions import PredictionTable
from cxreval.metrics.ranking import rank
from cxreval.metrics.report import Report, auroc_values
from cxreval.resource_names import BenchmarkName
from cxreval.wire import reports
from cxreval.wire.limits import MAX_BATCH_IMAGES
from services.scoring import convert

MAX_RANKED_ENTRIES = 10_000


class ScoringServicer(scoring_service_pb2_grpc.ScoringServiceServicer):
    """Scores streams of predictions against the truths it was given, by benchmark."""

    def __init__(self, truths: Mapping[str, Truth], max_concurrent: int, metrics: CollectorRegistry) -> None:
        self._truths = truths
        self._slots = asyncio.Semaphore(max_concurrent)
        self._rows = Counter("cxreval_scoring_predictions_total", "Images whose predictions came in.", registry=metrics)
        self._seconds = Histogram("cxreval_scoring_report_seconds", "Time from last row to report.", registry=metrics)

    async def ListTruths(self, request: pb.ListTruthsRequest, context: Any) -> pb.ListTruthsResponse:
        """The benchmarks that can be scored here."""
        return pb.ListTruthsResponse(
            truths=[
                pb.Truth(
                    benchmark=str(BenchmarkName(name)),
                    benchmark_digest=truth.spec.digest,
                    image_count=truth.spec.image_count,
                    patient_count=truth.spec.patient_count,
                )
                for name, truth in self._truths.items()
            ]
        )

    async def ScorePredictions(
        self, request_iterator: AsyncIterator[pb.ScorePredictionsRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ScorePredictionsResponse:
        """One complete set of predictions in, its report out."""
        truth, table = None, None
        async for message in request_iterator:
            if message.HasField("header"):
                if truth is not None:
                    raise MalformedStream("a second header came; expected batches", field="header")
                truth = self._truth(message.header)
                table = PredictionTable(truth.images, truth.spec.findings)
            elif table is None:
                raise MalformedStream("a batch came before the header", field="header", expected="a header first")
            else:
                self._add(table, message)
        if truth is None or table is None:
            raise EmptyStream("the stream ended before its header", field="header")
        table.check_complete()
        # Only now: a caller that stops sending half-way must not keep the others from being scored.
        async with self._slots:
            with self._seconds.time():
                report = await asyncio.to_thread(_report, truth, table)
        return pb.ScorePredictionsResponse(report=reports.report_message(report))

    async def RankEntries(self, request: pb.RankEntriesRequest, context: Any) -> pb.RankEntriesResponse:
        """Ranks what the caller brings."""
        if len(request.entries) > MAX_RANKED_ENTRIES:
            message = f"{len(request.entries)} entries; at most {MAX_RANKED_ENTRIES} are ranked at once"
            raise MalformedField(message, field="entries", expected=f"at most {MAX_RANKED_ENTRIES}")
        entries = convert.entries(request.entries)
        if len({entry.id for entry in entries}) != len(entries):
            raise MalformedField("two entries have the same id", field="entries.id", expected="unique ids")
        if not all(entry.score is None or math.isfinite(entry.score) for entry in entries):
            raise MalformedField("a score is not finite", field="entries.score", expected="a finite number or none")
        return pb.RankEntriesResponse(ranks=[convert.rank_message(ranked) for ranked in rank(entries)])

    def _truth(self, header: pb.ScorePredictionsHeader) -> Truth:
        name = BenchmarkName.parse(header.benchmark, "header.benchmark").benchmark
        truth = self._truths.get(name)
        if truth is None:
            raise TruthNotFound(f"no truth for {header.benchmark} here", field="header.benchmark", value=name)
        if header.benchmark_digest not in ("", truth.spec.digest):
            raise BenchmarkDigestMismatch(
                f"{header.benchmark} has digest {truth.spec.digest} here; the caller means {header.benchmark_digest}",
                field="header.benchmark_digest",
                found=header.benchmark_digest,
                expected=truth.spec.digest,
            )
        return truth

    def _add(self, table: PredictionTable, message: pb.ScorePredictionsRequest) -> None:
        if not message.HasField("batch"):
            raise MalformedStream("a message has no batch; expected only batches after the header", field="batch")
        images = message.batch.images
        if len(images) > MAX_BATCH_IMAGES:
            text = f"batch has {len(images)} images; expected at most {MAX_BATCH_IMAGES}"
            raise MalformedBatch(text, field="batch.images", expected=f"at most {MAX_BATCH_IMAGES}")
        table.add(images, reports.probabilities(message.batch))
        self._rows.inc(len(images))


def _report(truth: Truth, table: PredictionTable) -> Report:
    spec = truth.spec
    return Report(
        benchmark=str(BenchmarkName(spec.name)),
        benchmark_digest=spec.digest,
        scorer_version=spec.scorer_version,
        image_count=spec.image_count,
        patient_count=spec.patient_count,
        metrics=auroc_values(table.probabilities, truth.labels, truth.patients, spec.findings),
        predictions_sha256=table.sha256(),
    )
