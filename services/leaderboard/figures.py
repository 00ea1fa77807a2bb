"""Figures of rows as the charts take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cxreval.client import LeaderboardEntry
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import MetricValue
from cxreval.records import Tier
from services.leaderboard.charts.scales import Estimate, Measure
from services.leaderboard.data import Figure
from services.leaderboard.templates import ABSENT, why


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
        return Estimate(entry.score, reason=why(entry.rank_undefined_reason))
    return Estimate(entry.score, entry.interval.low, entry.interval.high)


def estimate_of(figure: Figure | None) -> Estimate:
    """Returns a figure as an estimate; None is an absent one."""
    return Estimate(figure.value, figure.low, figure.high) if figure else Estimate(None)


def estimate_of_value(value: MetricValue | None) -> Estimate:
    """Returns a value of a report as an estimate; None is an absent one."""
    if value is None:
        return Estimate(None)
    reason = why(value.undefined_reason)
    if value.interval is None:
        return Estimate(value.value, reason=reason)
    return Estimate(value.value, value.interval.low, value.interval.high, reason)


def rank_texts(rows: Sequence[LeaderboardEntry]) -> dict[str, str]:
    """Returns the rank of each row of a board by submission, after a `=` if rows share it."""
    held = Counter((row.tier is Tier.CLAIMED, row.rank) for row in rows)
    texts = {}
    for row in rows:
        shared = held[row.tier is Tier.CLAIMED, row.rank] > 1
        texts[row.submission] = ABSENT if row.rank is None else f"{'=' * shared}{row.rank}"
    return texts
