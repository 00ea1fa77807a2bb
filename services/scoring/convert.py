"""Converts streams to the responses of the scoring service."""

from __future__ import annotations

from collections.abc import Iterator

from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.predictions import PartialState
from cxreval.wire import reports
from cxreval.wire.limits import MAX_BATCH_IMAGES
from services.scoring.streams import Stream


def progress_answer(stream: Stream) -> pb.ScorePredictionsResponse:
    """Returns the response with the number of messages and images that were received."""
    progress = pb.ScoringProgress(
        message_count=stream.message_count, image_count=stream.table.image_count
    )
    return pb.ScorePredictionsResponse(progress=progress)


def partial_state_answers(
    stream: Stream, spec: BenchmarkSpec
) -> Iterator[pb.ScorePredictionsResponse]:
    """Yields the predictions that were received, in responses of at most 4096 images."""
    rows, findings = stream.table.seen_rows(), stream.table.findings
    covered = () if findings == spec.findings else findings
    for start in range(0, rows.size, MAX_BATCH_IMAGES):
        batch = rows[start : start + MAX_BATCH_IMAGES]
        state = PartialState(spec.digest, batch, stream.table.probabilities[batch], covered)
        yield pb.ScorePredictionsResponse(partial_state=reports.partial_state_message(state))
