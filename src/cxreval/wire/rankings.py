"""Ranks and comparisons as protobuf messages and back; the scoring service and the registry send
the same ones."""

from __future__ import annotations

from typing import Any, cast

from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.metrics.ranking import Comparison, Ranked, Significance

_SIGNIFICANCE = {
    Significance.FIRST: pb.SIGNIFICANCE_FIRST,
    Significance.SIGNIFICANT: pb.SIGNIFICANCE_SIGNIFICANT,
    Significance.WITHIN_NOISE: pb.SIGNIFICANCE_WITHIN_NOISE,
    Significance.NOT_TESTED: pb.SIGNIFICANCE_NOT_TESTED,
}
_SPREAD = ("rank_low", "rank_high", "first_share", "mean_finding_rank", "finding_place")


def significance_value(found: Significance | None) -> pb.Significance:
    """A significance as it travels; None as `SIGNIFICANCE_UNSPECIFIED`."""
    return (
        _SIGNIFICANCE.get(found, pb.SIGNIFICANCE_UNSPECIFIED)
        if found
        else pb.SIGNIFICANCE_UNSPECIFIED
    )


def significance(value: int) -> Significance | None:
    """The significance that a message says; None for none and for one that this version does not
    know."""
    return next((found for found, known in _SIGNIFICANCE.items() if known == value), None)


def spread_message(place: Ranked) -> pb.RankSpread:
    """How firmly an entry stands in its place, as it travels."""
    fields = {name: getattr(place, name) for name in _SPREAD}
    return pb.RankSpread(
        **fields,
        places_disagree=place.places_disagree,
        undefined_replicates=place.undefined_replicates,
    )


def spread_fields(message: pb.RankSpread) -> dict[str, Any]:
    """The same by field, None for what the message leaves out."""
    fields = {
        name: getattr(message, name) if message.HasField(cast("Any", name)) else None
        for name in _SPREAD
    }
    return {
        **fields,
        "places_disagree": message.places_disagree,
        "undefined_replicates": message.undefined_replicates,
    }


def comparison_message(pair: Comparison, first: str, second: str) -> pb.PairwiseComparison:
    """A paired difference as it travels, under these names of the two."""
    return pb.PairwiseComparison(
        first=first,
        second=second,
        difference=pair.difference,
        low=pair.low,
        high=pair.high,
        p_value=pair.p_value,
        adjusted_p_value=pair.adjusted_p_value,
    )


def comparison(message: pb.PairwiseComparison) -> Comparison:
    """A paired difference that came."""
    return Comparison(
        first=message.first,
        second=message.second,
        difference=message.difference,
        low=message.low,
        high=message.high,
        p_value=message.p_value,
        adjusted_p_value=message.adjusted_p_value,
    )
