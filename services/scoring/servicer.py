"""Implements the rpcs of the scoring service."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc.aio
from prometheus_client import CollectorRegistry, Counter, Histogram

from cxreval.api.scoring.v1 import report_pb2, scoring_service_pb2_grpc
from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.datasets.training_list import unpacked
from cxreval.datasets.truth import Truth
from cxreval.errors import (
    BenchmarkDigestMismatch,
    EmptyStream,
    MalformedBatch,
    MalformedStream,
    TruthNotFound,
)
from cxreval.fields import field_error
from cxreval.metrics.contamination import Exposure
from cxreval.metrics.predictions import PredictionTable
from cxreval.resource_names import BenchmarkName
from cxreval.wire import reports
from cxreval.wire.limits import MAX_BATCH_IMAGES
from services.chassis.health import Unhealthy
from services.chassis.principal import stream_caller
from services.scoring import convert
from services.scoring.streams import Streams

PROGRESS_IMAGES = 4096
"""Number of images after which a stream sends its progress."""

_HUNG_SECONDS = 300.0
"""How long a no-op may wait for a report thread."""

TRUTH_INCOMPLETE = "truth_incomplete"
THREADS_HUNG = "threads_hung"
UNHEALTHY = (TRUTH_INCOMPLETE, THREADS_HUNG)
"""The reasons for which scoring is not healthy."""

_SESSION = re.compile(r"[0-9a-f]{32}")


class ScoringServicer(scoring_service_pb2_grpc.ScoringServiceServicer):
    """Scores streams of predictions against ground truths.

    `truths`: the ground truths by the benchmark's identifier. `max_concurrent`: maximum number of
    reports computed at once. `max_streams`: maximum number of tables in memory, of open streams and
    of interrupted ones.
    """

    def __init__(
        self,
        truths: Mapping[str, Truth],
        max_concurrent: int,
        max_streams: int,
        metrics: CollectorRegistry,
    ) -> None:
        self._truths = truths
        self._streams = Streams(max_streams, metrics)
        # A thread pool and not a semaphore, because the report of a cancelled call occupies its
        # thread until it is computed.
        self._threads = ThreadPoolExecutor(max_concurrent, "report")
        self._probe: Future[float] | None = None
        self._probe_start = 0.0
        self._rows = Counter(
            "cxreval_scoring_predictions_total",
            "Images whose predictions were received.",
            registry=metrics,
        )
        self._seconds = Histogram(
            "cxreval_scoring_report_seconds", "Time to compute a report.", registry=metrics
        )

    def check_health(self) -> bool:
        """Returns whether every truth is complete and the report threads still take work. Raises
        `Unhealthy`.

        A busy service is healthy: the threads are not only if they are all occupied for five
        minutes.
        """
        now = time.monotonic()
        if self._probe is None or self._probe.done():
            self._probe, self._probe_start = self._threads.submit(time.monotonic), now
        if not self._truths:
            raise Unhealthy(TRUTH_INCOMPLETE, "no benchmark has a ground truth; set `data`")
        for name, truth in self._truths.items():
            if len(truth.rows) != truth.spec.image_count:
                rows = f"{len(truth.rows)} of {truth.spec.image_count} images"
                raise Unhealthy(TRUTH_INCOMPLETE, f"the ground truth of {name} has {rows}")
        if now - self._probe_start >= _HUNG_SECONDS:
            raise Unhealthy(THREADS_HUNG, "every thread that computes reports hangs; restart")
        return True

    async def ListTruths(
        self, request: pb.ListTruthsRequest, context: Any
    ) -> pb.ListTruthsResponse:
        """Returns the benchmarks that this service can score."""
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
        self,
        request_iterator: AsyncIterator[pb.ScorePredictionsRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.ScorePredictionsResponse]:
        """Receives predictions; yields progress, then the report or the partial state.

        A message is accepted or refused as a whole. If the stream ends before its last response,
        with an error or without, another stream of the session can resume it.
        """
        header = await _header(request_iterator)
        truth = self._truth(header)
        covered = truth.spec.chosen(header.findings, "header.findings")
        exposure = await asyncio.to_thread(_exposure, truth, header)
        streams = self._streams.open(truth, header.session, stream_caller(), covered)
        with streams as (stream, slot):
            yield convert.progress_answer(stream)
            reported = stream.table.image_count
            async for message in request_iterator:
                self._add(truth, stream.table, message)
                slot.touch()
                stream.message_count += 1
                if stream.table.image_count >= reported + PROGRESS_IMAGES:
                    yield convert.progress_answer(stream)
                    reported = stream.table.image_count
            yield convert.progress_answer(stream)
            if header.export_partial_state:
                for answer in convert.partial_state_answers(stream, truth.spec):
                    yield answer
            else:
                stream.table.check_complete()
                report = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._report, truth, stream.table, exposure
                )
                yield pb.ScorePredictionsResponse(report=report)
            stream.finished = True

    def _truth(self, header: pb.ScorePredictionsHeader) -> Truth:
        """Returns the ground truth that a header names.

        Raises:
            MalformedField: the benchmark's name or the session is malformed.
            TruthNotFound: the service does not have the benchmark.
            BenchmarkDigestMismatch: its benchmark has another digest.
        """
        name = BenchmarkName.parse(header.benchmark, "header.benchmark").benchmark
        if header.session and not _SESSION.fullmatch(header.session):
            expected = "32 lower-case hex characters, or nothing"
            raise field_error("header.session", header.session, expected)
        truth = self._truths.get(name)
        if truth is None:
            raise TruthNotFound(
                f"this service has no ground truth for {header.benchmark}",
                field="header.benchmark",
                value=name,
            )
        if header.benchmark_digest:
            _check_digest(header.benchmark_digest, truth, "header.benchmark_digest")
        return truth

    def _add(
        self, truth: Truth, table: PredictionTable, message: pb.ScorePredictionsRequest
    ) -> None:
        """Adds the predictions of a message to a table.

        Raises:
            MalformedStream: the message is empty or a second header.
            BenchmarkDigestMismatch: a partial state is of another benchmark.
            UnknownFinding: it is of a finding that the benchmark does not have.
            MalformedBatch, UnknownImage, InvalidProbability, DuplicateImage: as
                `PredictionTable.add`, or there are too many images, or the findings of a partial
                state are not those of the stream.
        """
        match message.WhichOneof("content"):
            case "batch":
                images = message.batch.images
                _check_size(len(images), "batch.images")
                table.add(images, reports.probabilities(message.batch))
                self._rows.inc(len(images))
            case "partial_state":
                state = message.partial_state
                _check_digest(state.benchmark_digest, truth, "partial_state.benchmark_digest")
                _check_size(len(state.rows) // 4, "partial_state.rows")
                _check_findings(state, truth, table)
                rows = reports.partial_state_rows(state)
                table.add_rows(rows, reports.probabilities(state))
                self._rows.inc(rows.size)
            case "header":
                raise MalformedStream(
                    "the stream has a second header; expected batches or partial states",
                    field="header",
                )
            case _:
                expected = "a batch or a partial state"
                raise MalformedStream(
                    f"a message is empty; expected {expected}", field="content", expected=expected
                )

    def _report(
        self, truth: Truth, table: PredictionTable, exposure: Exposure | None
    ) -> report_pb2.Report:
        """Returns the report of a complete table, as a message."""
        with self._seconds.time():
            return reports.report_message(truth.report(table, exposure))


async def _header(messages: AsyncIterator[pb.ScorePredictionsRequest]) -> pb.ScorePredictionsHeader:
    """Returns the header, which is the first message. Raises `EmptyStream`, `MalformedStream`."""
    async for message in messages:
        if not message.HasField("header"):
            raise MalformedStream(
                "the stream has predictions before the header",
                field="header",
                expected="a header first",
            )
        return message.header
    raise EmptyStream("the stream ended before its header", field="header")


def _exposure(truth: Truth, header: pb.ScorePredictionsHeader) -> Exposure | None:
    """Returns what the declared training data of a header covers; None if nothing is declared.

    Raises:
        MissingField, UnknownValue: the declaration says not which images were used.
        TrainingListInvalid, DigestMismatch, TrainingListUnavailable: as `unpacked` and `exposure`.
    """
    if not header.HasField("training_data") or truth.training is None:
        return None
    data = reports.training_data(header.training_data)
    return truth.training.exposure(data, unpacked(header.training_list, data))


def _check_digest(digest: str, truth: Truth, field: str) -> None:
    """Raises `BenchmarkDigestMismatch` if a digest is not that of the benchmark."""
    expected = truth.spec.digest
    if digest != expected:
        message = (
            f"{field} is {digest[:80]!r}; expected {expected}, the digest of {truth.spec.name} here"
        )
        raise BenchmarkDigestMismatch(message, field=field, found=digest[:80], expected=expected)


def _check_findings(state: report_pb2.PartialState, truth: Truth, table: PredictionTable) -> None:
    """Raises `UnknownFinding` or `MalformedBatch` unless a state covers the stream's findings."""
    field = "partial_state.findings"
    findings = truth.spec.chosen(state.findings, field) or truth.spec.findings
    if findings != table.findings:
        expected = f"{', '.join(table.findings)}, the findings of the stream"
        raise field_error(field, ", ".join(findings), expected, MalformedBatch)


def _check_size(images: int, field: str) -> None:
    """Raises `MalformedBatch` if a message has too many images."""
    if images > MAX_BATCH_IMAGES:
        expected = f"at most {MAX_BATCH_IMAGES}"
        raise MalformedBatch(
            f"{field} has {images} images; expected {expected}", field=field, expected=expected
        )
