"""The client of the scoring service."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from queue import SimpleQueue
from typing import Any

from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.api.scoring.v1 import scoring_service_pb2_grpc
from cxreval.client._calls import ServiceClient, call, stream
from cxreval.client.models import Predictions, TruthInfo
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import (
    BenchmarkDigestMismatch,
    InternalError,
    ServiceOverloaded,
    ServiceUnavailable,
    TruthNotFound,
)
from cxreval.metrics.predictions import PartialState
from cxreval.metrics.report import Report
from cxreval.resource_names import BenchmarkName
from cxreval.wire import reports
from cxreval.wire.channel import TlsFiles

RESUME_TRIES = 10
"""How often a stream that broke is resumed before it has to get further than it was."""

RESUME_SECONDS = 0.5
"""Wait before each of them, on top of the time the channel takes to find the service again."""


class ScoringClient(ServiceClient):
    """Speaks to a scoring service. Every method raises the `CxrevalError` that the service names.

    Predictions are given as sequences and sent from there: a stream that breaks is resumed behind
    the messages that the service has taken, and a service that has lost them, by a restart, gets
    them again from the beginning.
    """

    def __init__(self, target: str, tls: TlsFiles | None = None) -> None:
        super().__init__(target, tls)
        self._stub: Any = scoring_service_pb2_grpc.ScoringServiceStub(self._channel)

    def list_truths(self) -> list[TruthInfo]:
        """The benchmarks it can score."""
        answer = call(self._stub.ListTruths, pb.ListTruthsRequest())
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
        """Raises unless the service holds the labels of exactly this benchmark.

        Raises:
            TruthNotFound: it holds no labels of a benchmark of this name.
            BenchmarkDigestMismatch: it holds those of another specification of this name.
        """
        digests = {truth.benchmark: truth.benchmark_digest for truth in self.list_truths()}
        name = benchmark.name
        if name not in digests:
            message = f"the scoring service holds no labels of {name}; it holds {', '.join(digests) or 'none'}"
            raise TruthNotFound(message, field="benchmark", value=name)
        if digests[name] != benchmark.digest:
            message = f"the scoring service holds {name} with digest {digests[name]}; expected {benchmark.digest}"
            raise BenchmarkDigestMismatch(
                message, field="benchmark_digest", found=digests[name], expected=benchmark.digest
            )

    def score(
        self,
        benchmark: BenchmarkSpec,
        predictions: Sequence[Predictions],
        partial_states: Sequence[PartialState] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Report:
        """Scores one complete set of predictions, in any order and any batching, with the evidence.

        Args:
            benchmark: what is scored against.
            predictions: at most 4096 images each.
            partial_states: predictions that other streams have taken; overlaps do no harm.
            progress: hears now and then how many different images have come in.
        """
        header = _header(benchmark, export=False)
        answers = _Exchange(
            self._stub.ScorePredictions, header, (partial_states, predictions), progress
        ).run()
        if not answers:
            raise InternalError("scoring ended the stream without a report", field="report")
        return reports.report(answers[-1].report)

    def export_partial_state(
        self,
        benchmark: BenchmarkSpec,
        predictions: Sequence[Predictions],
        progress: Callable[[int], None] | None = None,
    ) -> list[PartialState]:
        """Has a part of the predictions checked, and returns it in the form that `score` merges.
        Arguments as there."""
        header = _header(benchmark, export=True)
        answers = _Exchange(self._stub.ScorePredictions, header, (predictions,), progress).run()
        return [_partial_state(answer.partial_state, len(benchmark.findings)) for answer in answers]


class _Exchange:
    """A header and its content on their way to scoring, on as many streams as it takes."""

    def __init__(
        self,
        method: Callable[..., Any],
        header: pb.ScorePredictionsHeader,
        content: Sequence[Sequence[Predictions | PartialState]],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._method = method
        self._header = header
        self._content = content
        self._progress = progress
        self._furthest = -1
        self._tries = 0

    def run(self) -> list[pb.ScorePredictionsResponse]:
        """The answers behind the last progress. A first stream that cannot be opened is the
        caller's to try again."""
        while True:
            try:
                return self._attempt()
            except (ServiceUnavailable, ServiceOverloaded):
                # Overloaded may be: the service has not seen yet that the last stream broke.
                if not self._tries:
                    raise
                self._tries -= 1
                time.sleep(RESUME_SECONDS)

    def _attempt(self) -> list[pb.ScorePredictionsResponse]:
        held: SimpleQueue[int | None] = SimpleQueue()
        found = []
        try:
            for answer in stream(self._method, self._requests(held)):
                if answer.HasField("progress"):
                    held.put(answer.progress.message_count)
                    self._hear(answer.progress)
                else:
                    found.append(answer)
        finally:
            held.put(None)
        return found

    def _requests(self, held: SimpleQueue[int | None]) -> Iterator[pb.ScorePredictionsRequest]:
        """The header, then what the service does not hold; `held` says how much that is, None that
        nobody listens."""
        yield pb.ScorePredictionsRequest(header=self._header)
        taken = held.get()
        if taken is not None:
            yield from map(_request, islice(chain.from_iterable(self._content), taken, None))

    def _hear(self, progress: pb.ScoringProgress) -> None:
        if progress.message_count > self._furthest:
            self._furthest, self._tries = progress.message_count, RESUME_TRIES
        if self._progress:
            self._progress(progress.image_count)


def _header(benchmark: BenchmarkSpec, *, export: bool) -> pb.ScorePredictionsHeader:
    return pb.ScorePredictionsHeader(
        benchmark=str(BenchmarkName(benchmark.name)),
        benchmark_digest=benchmark.digest,
        session=uuid.uuid4().hex,
        export_partial_state=export,
    )


def _request(content: Predictions | PartialState) -> pb.ScorePredictionsRequest:
    if isinstance(content, Predictions):
        return pb.ScorePredictionsRequest(
            batch=reports.batch_message(content.images, content.probabilities)
        )
    return pb.ScorePredictionsRequest(partial_state=reports.partial_state_message(content))


def _partial_state(message: Any, findings: int) -> PartialState:
    rows = reports.partial_state_rows(message)
    return PartialState(
        message.benchmark_digest, rows, reports.probabilities(message).reshape(rows.size, findings)
    )
