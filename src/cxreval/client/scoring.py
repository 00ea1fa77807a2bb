"""The client of the scoring service."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from queue import SimpleQueue
from typing import Any

from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.api.scoring.v1 import scoring_service_pb2_grpc
from cxreval.client._calls import ServiceClient
from cxreval.client.models import Predictions, TruthInfo
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.training_list import TrainingData
from cxreval.errors import (
    BenchmarkDigestMismatch,
    InternalError,
    ServiceOverloaded,
    ServiceUnavailable,
    StreamIdle,
    TruthNotFound,
)
from cxreval.metrics.predictions import PartialState
from cxreval.metrics.report import Report
from cxreval.resource_names import BenchmarkName
from cxreval.retry import Backoff, RetryPolicy
from cxreval.wire import reports
from cxreval.wire.channel import TlsFiles

# Overloaded is transient here: the service may not have noticed yet that the last stream broke.
_RESUME = RetryPolicy(
    transient=(ServiceUnavailable, ServiceOverloaded, StreamIdle),
    initial_pause=0.5,
    max_pause=0.5,
    max_attempts=11,
)


class ScoringClient(ServiceClient):
    """Client of a scoring service. Every method raises the service's errors as `CxrevalError`.

    Predictions are passed as sequences, so that they can be sent again: a broken stream is resumed
    after the last message that the service has stored; a restarted service gets all of them again.
    """

    service = "scoring service"

    def __init__(self, target: str, tls: TlsFiles | None = None) -> None:
        super().__init__(target, tls)
        self._stub: Any = scoring_service_pb2_grpc.ScoringServiceStub(self._channel)

    def list_truths(self) -> list[TruthInfo]:
        """Returns the benchmarks that the service can score."""
        answer = self._call(self._stub.ListTruths, pb.ListTruthsRequest())
        return [
            TruthInfo(
                BenchmarkName.parse(truth.benchmark).benchmark,
                truth.benchmark_digest,
                truth.image_count,
                truth.patient_count,
            )
            for truth in answer.truths
        ]

    def check_truth(self, benchmark: BenchmarkSpec) -> None:
        """Raises unless the service has the labels of exactly this benchmark.

        Raises:
            TruthNotFound: the service has no labels of a benchmark of this name.
            BenchmarkDigestMismatch: it has those of another specification of this name.
        """
        digests = {truth.benchmark: truth.benchmark_digest for truth in self.list_truths()}
        name = benchmark.name
        if name not in digests:
            known = ", ".join(digests) or "none"
            message = f"the scoring service holds no labels of {name}; it holds {known}"
            raise TruthNotFound(message, field="benchmark", value=name)
        if digests[name] != benchmark.digest:
            message = (
                f"the scoring service holds {name} with digest {digests[name]}; "
                f"expected {benchmark.digest}"
            )
            raise BenchmarkDigestMismatch(
                message, field="benchmark_digest", found=digests[name], expected=benchmark.digest
            )

    def score(
        self,
        benchmark: BenchmarkSpec,
        predictions: Sequence[Predictions],
        partial_states: Sequence[PartialState] = (),
        progress: Callable[[int], None] | None = None,
        findings: Sequence[str] = (),
        training_data: TrainingData | None = None,
        training_list: bytes = b"",
    ) -> Report:
        """Returns the report, with evidence, of one complete set of predictions.

        Args:
            benchmark: the benchmark to score against.
            predictions: batches of at most 4096 images each, in any order.
            partial_states: predictions that other streams have exported; they may overlap.
            progress: called from time to time with the number of different images received.
            findings: those of the columns, in the benchmark's order, if the predictions do not
                cover all; empty for all.
            training_data: what the model was trained on; None if nothing is declared.
            training_list: the list that it names, compressed by zlib.
        """
        header = _header(benchmark, findings, export=False)
        if training_data:
            header.training_data.CopyFrom(reports.training_data_message(training_data))
            header.training_list = training_list
        answers = _Exchange(self._open, header, (partial_states, predictions), progress).run()
        if not answers:
            message = "the scoring service ended the stream without a report; see its log"
            raise InternalError(message, field="report")
        return reports.report(answers[-1].report)

    def export_partial_state(
        self,
        benchmark: BenchmarkSpec,
        predictions: Sequence[Predictions],
        progress: Callable[[int], None] | None = None,
        findings: Sequence[str] = (),
    ) -> list[PartialState]:
        """Checks a part of the predictions and returns it as states that `score` merges.

        Arguments as in `score`.
        """
        header = _header(benchmark, findings, export=True)
        answers = _Exchange(self._open, header, (predictions,), progress).run()
        width = len(findings or benchmark.findings)
        return [_partial_state(answer.partial_state, width) for answer in answers]

    def _open(self, requests: Iterator[pb.ScorePredictionsRequest]) -> Iterator[Any]:
        """Opens a stream of predictions and yields its responses."""
        return self._stream(self._stub.ScorePredictions, requests)


class _Exchange:
    """Sends a header and its content to scoring, and resumes the stream when it breaks."""

    def __init__(
        self,
        open_stream: Callable[[Iterator[pb.ScorePredictionsRequest]], Iterator[Any]],
        header: pb.ScorePredictionsHeader,
        content: Sequence[Sequence[Predictions | PartialState]],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._open = open_stream
        self._header = header
        self._content = content
        self._progress = progress
        self._furthest = -1
        self._backoff = Backoff(_RESUME)

    def run(self) -> list[pb.ScorePredictionsResponse]:
        """Returns the messages that follow the last progress message.

        Only a stream that was open is resumed: the caller retries one that cannot be opened.
        """
        while True:
            try:
                return self._attempt()
            except _RESUME.transient as error:
                if self._furthest < 0:
                    raise
                self._backoff.wait(error)

    def _attempt(self) -> list[pb.ScorePredictionsResponse]:
        stored: SimpleQueue[int | None] = SimpleQueue()
        results = []
        try:
            for answer in self._open(self._requests(stored)):
                if answer.HasField("progress"):
                    stored.put(answer.progress.message_count)
                    self._progressed(answer.progress)
                else:
                    results.append(answer)
        finally:
            stored.put(None)
        return results

    def _requests(self, stored: SimpleQueue[int | None]) -> Iterator[pb.ScorePredictionsRequest]:
        """Yields the header, then the messages that the service has not stored.

        `stored` delivers the number of messages that it has, or None when the stream has ended.
        """
        yield pb.ScorePredictionsRequest(header=self._header)
        count = stored.get()
        if count is not None:
            yield from map(_request, islice(chain.from_iterable(self._content), count, None))

    def _progressed(self, progress: pb.ScoringProgress) -> None:
        if progress.message_count > self._furthest:
            self._furthest = progress.message_count
            self._backoff.progressed()
        if self._progress:
            self._progress(progress.image_count)


def _header(
    benchmark: BenchmarkSpec, findings: Sequence[str], *, export: bool
) -> pb.ScorePredictionsHeader:
    return pb.ScorePredictionsHeader(
        benchmark=str(BenchmarkName(benchmark.name)),
        benchmark_digest=benchmark.digest,
        session=uuid.uuid4().hex,
        export_partial_state=export,
        findings=findings,
    )


def _request(content: Predictions | PartialState) -> pb.ScorePredictionsRequest:
    if isinstance(content, Predictions):
        return pb.ScorePredictionsRequest(
            batch=reports.batch_message(content.images, content.probabilities)
        )
    return pb.ScorePredictionsRequest(partial_state=reports.partial_state_message(content))


def _partial_state(message: Any, width: int) -> PartialState:
    rows = reports.partial_state_rows(message)
    return PartialState(
        message.benchmark_digest,
        rows,
        reports.probabilities(message).reshape(rows.size, width),
        tuple(message.findings),
    )
