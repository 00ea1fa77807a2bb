"""Ranks and comparisons as protobuf messages and back; the scoring service and the registry send
the same ones."""

from __future__ import annotations

from typing import Any, cast

from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.metrics.ranking import Comparison, Ranked, Significance
from cxreval.wire.codec import Decoder, Encoder

_SPREAD = ("rank_low", "rank_high", "first_share", "mean_finding_rank", "finding_place")

spread_message = Encoder(Ranked, pb.RankSpread, unsent=("id", "rank", "sota_step", "significance"))
comparison_message = Encoder(Comparison, pb.PairwiseComparison)
comparison = Decoder(Comparison, pb.PairwiseComparison)


def significance_value(significance: Significance | None) -> str:
    """The name of a significance in a message."""
    return f"SIGNIFICANCE_{significance.name if significance else 'UNSPECIFIED'}"


def significance(value: int) -> Significance | None:
    """The significance that a message says; None for unspecified or unknown."""
    names = pb.Significance.DESCRIPTOR.values_by_number
    name = names[value].name if value in names else ""
    return Significance.__members__.get(name.removeprefix("SIGNIFICANCE_"))


def spread_fields(message: pb.RankSpread) -> dict[str, Any]:
    """The fields of a spread; None for those that the message leaves out."""
    fields = {
        name: getattr(message, name) if message.HasField(cast("Any", name)) else None
        for name in _SPREAD
    }
    return {**fields, "places_disagree": message.places_disagree}
