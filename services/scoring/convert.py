"""Protobuf messages of the scoring service to the library's types and back."""

from __future__ import annotations

from collections.abc import Iterable

from cxreval.api.scoring.v1 import scoring_service_pb2
from cxreval.metrics.ranking import Entry, Ranked


def entries(messages: Iterable[scoring_service_pb2.RankedEntry]) -> list[Entry]:
    """The entries to rank."""
    return [
        Entry(message.id, message.score if message.HasField("score") else None, message.submitted_date)
        for message in messages
    ]


def rank_message(ranked: Ranked) -> scoring_service_pb2.Rank:
    """One rank as it travels."""
    return scoring_service_pb2.Rank(id=ranked.id, rank=ranked.rank, sota_step=ranked.sota_step)
