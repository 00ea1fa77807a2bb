"""Client of the scoring service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cxreval.api.scoring.v1 import scoring_service_pb2, scoring_service_pb2_grpc
from cxreval.client._calls import STREAM_SECONDS, ServiceClient, call
from cxreval.client.models import Predictions, TruthInfo
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.ranking import Entry, Ranked
from cxreval.metrics.report import Report
from cxreval.resource_names import BenchmarkName
from cxreval.wire import reports
from cxreval.wire.channel import TlsFiles


class ScoringClient(ServiceClient):
    """Speaks to a scoring service. Every method raises the `CxrevalError` that the service names."""

    def __init__(self, target: str, tls: TlsFiles | None = None) -> None:
        super().__init__(target, tls)
        self._stub: Any = scoring_service_pb2_grpc.ScoringServiceStub(self._channel)

    def list_truths(self) -> list[TruthInfo]:
        """The benchmarks it can score."""
        answer = call(self._stub.ListTruths, scoring_service_pb2.ListTruthsRequest())
        return [
            TruthInfo(
                BenchmarkName.parse(truth.benchmark).benchmark,
                truth.benchmark_digest,
                truth.image_count,
                truth.patient_count,
            )
            for truth in answer.truths
        ]

    def score(self, benchmark: BenchmarkSpec, predictions: Iterable[Predictions]) -> Report:
        """Scores one complete set of predictions, in any order and any batching."""
        answer = call(self._stub.ScorePredictions, _messages(benchmark, predictions), STREAM_SECONDS)
        return reports.report(answer.report)

    def rank(self, entries: Sequence[Entry]) -> list[Ranked]:
        """Ranks entries and finds the state-of-the-art steps."""
        request = scoring_service_pb2.RankEntriesRequest(
            entries=[
                scoring_service_pb2.RankedEntry(id=entry.id, score=entry.score, submitted_date=entry.submitted_date)
                for entry in entries
            ]
        )
        answer = call(self._stub.RankEntries, request)
        return [Ranked(rank.id, rank.rank if rank.HasField("rank") else None, rank.sota_step) for rank in answer.ranks]


def _messages(
    benchmark: BenchmarkSpec, predictions: Iterable[Predictions]
) -> Iterator[scoring_service_pb2.ScorePredictionsRequest]:
    header = scoring_service_pb2.ScorePredictionsHeader(
        benchmark=str(BenchmarkName(benchmark.name)), benchmark_digest=benchmark.digest
    )
    yield scoring_service_pb2.ScorePredictionsRequest(header=header)
    for batch in predictions:
        message = reports.batch_message(batch.images, batch.probabilities)
        yield scoring_service_pb2.ScorePredictionsRequest(batch=message)
