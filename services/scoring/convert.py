"""Protobuf messages of the scoring service to the library's types and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.errors import MalformedField
from cxreval.metrics.predictions import PartialState
from cxreval.metrics.ranking import Entry, Ranked
from cxreval.wire import rankings, reports
from cxreval.wire.limits import MAX_BATCH_IMAGES
from services.scoring.streams import Stream


def progress_answer(stream: Stream) -> pb.ScorePredictionsResponse:
    """How far a stream has come."""
    progress = pb.ScoringProgress(
        message_count=stream.message_count, image_count=stream.table.image_count
    )
    return pb.ScorePredictionsResponse(progress=progress)


def partial_state_answers(
    stream: Stream, benchmark_digest: str
) -> Iterator[pb.ScorePredictionsResponse]:
    """What a stream has taken, in pieces of at most 4096 images."""
    rows = stream.table.seen_rows()
    for start in range(0, rows.size, MAX_BATCH_IMAGES):
        piece = rows[start : start + MAX_BATCH_IMAGES]
        state = PartialState(benchmark_digest, piece, stream.table.probabilities[piece])
        yield pb.ScorePredictionsResponse(partial_state=reports.partial_state_message(state))


def entries(messages: Sequence[pb.RankedEntry]) -> list[Entry]:
    """The entries to rank.

    Raises:
        MalformedField: an id comes twice, a score is not finite, replicates are torn or infinite,
            or entries have scores of different numbers of findings.
    """
    if len({message.id for message in messages}) != len(messages):
        raise MalformedField(
            "two entries have the same id", field="entries.id", expected="unique ids"
        )
    _check_finite("score", (message.score for message in messages))
    _check_finite(
        "finding_scores", chain.from_iterable(message.finding_scores for message in messages)
    )
    counts = {len(message.finding_scores) for message in messages} - {0}
    if len(counts) > 1:
        expected = "the same findings for every entry, or none"
        text = (
            f"entries have scores of {min(counts)} to {max(counts)} findings; expected {expected}"
        )
        raise MalformedField(text, field="entries.finding_scores", expected=expected)
    return [
        Entry(
            message.id,
            message.score if message.HasField("score") else None,
            message.submitted_date,
            _replicates(message) if message.replicates else None,
            tuple(message.finding_scores),
        )
        for message in messages
    ]


def rank_message(ranked: Ranked) -> pb.Rank:
    """One rank as it travels."""
    return pb.Rank(
        id=ranked.id,
        rank=ranked.rank,
        sota_step=ranked.sota_step,
        significance=rankings.significance_value(ranked.significance),
        spread=rankings.spread_message(ranked),
    )


def _replicates(message: pb.RankedEntry) -> NDArray[np.float64]:
    expected = "float64 values of 8 bytes, finite or NaN"
    torn = len(message.replicates) % 8 != 0
    values = np.frombuffer(b"" if torn else message.replicates, "<f8").astype(
        np.float64, copy=False
    )
    if torn or np.isinf(values).any():
        found = f"{len(message.replicates)} bytes" if torn else "an infinite value"
        text = f"replicates of entry {message.id[:80]!r} has {found}; expected {expected}"
        raise MalformedField(text, field="entries.replicates", expected=expected)
    return values


def _check_finite(field: str, scores: Iterable[float]) -> None:
    if not all(map(math.isfinite, scores)):
        message = f"{field} of an entry is not finite; expected a finite number or none"
        raise MalformedField(message, field=f"entries.{field}", expected="a finite number or none")
