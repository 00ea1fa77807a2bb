"""Converts ranks and comparisons to the messages of scoring and the registry, and back."""

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


def significance_value(significance: Significance | None) -> pb.Significance:
    """Returns the enum value of a significance; SIGNIFICANCE_UNSPECIFIED for None."""
    return (
        _SIGNIFICANCE.get(significance, pb.SIGNIFICANCE_UNSPECIFIED)
        if significance
        else pb.SIGNIFICANCE_UNSPECIFIED
    )


def significance(value: int) -> Significance | None:
    """Returns the significance of an enum value; None if it is unspecified or unknown."""
    return next((member for member, number in _SIGNIFICANCE.items() if number == value), None)


def spread_message(ranked: Ranked) -> pb.RankSpread:
    """Returns the message of the spread of an entry's rank."""
    fields = {name: getattr(ranked, name) for name in _SPREAD}
    return pb.RankSpread(
        **fields,
        places_disagree=ranked.places_disagree,
        undefined_replicates=ranked.undefined_replicates,
    )


def spread_fields(message: pb.RankSpread) -> dict[str, Any]:
    """Returns the fields of a spread; None for those that the message lacks."""
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
    """Returns the message of a paired difference between two named entries."""
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
    """Returns the paired difference in a message."""
    return Comparison(
        first=message.first,
        second=message.second,
        difference=message.difference,
        low=message.low,
        high=message.high,
        p_value=message.p_value,
        adjusted_p_value=message.adjusted_p_value,
    )
