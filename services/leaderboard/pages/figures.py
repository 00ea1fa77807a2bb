"""Figures of rows as the charts take them."""

from __future__ import annotations

from cxreval.client import LeaderboardEntry
from cxreval.metrics.registry import METRICS
from services.leaderboard.charts.scales import Estimate, Measure
from services.leaderboard.data import Figure


def measure_of(metric: str) -> Measure:
    """Returns what an axis of a metric measures."""
    known = METRICS.get(metric)
    if known is None:
        return Measure(metric)
    return Measure(
        known.label,
        higher_is_better=known.direction == "higher",
        lowest=known.low,
        highest=known.high,
    )


def estimate(entry: LeaderboardEntry) -> Estimate:
    """Returns the score of a row with its interval."""
    if entry.interval is None:
        return Estimate(entry.score, reason=entry.rank_undefined_reason)
    return Estimate(entry.score, entry.interval.low, entry.interval.high)


def estimate_of(figure: Figure | None) -> Estimate:
    """Returns a figure as an estimate; None is an absent one."""
    return Estimate(figure.value, figure.low, figure.high) if figure else Estimate(None)
