"""The chart of the record over time."""

from __future__ import annotations

from datetime import UTC, datetime, time

from markupsafe import Markup

from cxreval.client import LeaderboardEntry
from cxreval.metrics.ranking import Significance, latest_day
from cxreval.records import Tier
from services.leaderboard.charts import progress, svg
from services.leaderboard.charts.scales import Measure
from services.leaderboard.data import BoardDay, published
from services.leaderboard.figures import estimate
from services.leaderboard.selection import View

_LOOKS = {
    Significance.FIRST: progress.Look.FIRST,
    Significance.SIGNIFICANT: progress.Look.SIGNIFICANT,
    Significance.WITHIN_NOISE: progress.Look.WITHIN_NOISE,
}


def progress_chart(shown: BoardDay, measure: Measure, view: View) -> Markup:
    """Returns the history of a board; by declared dates, what would have been its steps."""
    looks = {
        step.submission: _LOOKS.get(step.significance, progress.Look.NOT_TESTED)  # type: ignore[arg-type]
        for step in shown.steps
        if step.tier is not Tier.CLAIMED and not step.not_counted
    }
    declared = view.dates == "declared"
    if declared:
        looks = _declared_steps(shown, measure)
    entries = []
    for entry in shown.entries:
        claimed = entry.tier is Tier.CLAIMED
        when = _declared(entry) if declared or claimed else published(entry)
        look = progress.Look.CLAIM if claimed else looks.get(entry.submission, progress.Look.ENTRY)
        entries.append(progress.Entry(entry.model, when, estimate(entry), look))
    return svg.both(
        lambda width, prefix: progress.chart(entries, measure, width=width, prefix=prefix),
        "progress",
    )


def _declared_steps(shown: BoardDay, measure: Measure) -> dict[str, progress.Look]:
    """Returns the rows with evidence that beat all with an earlier declared date."""
    sign, best, looks = (1 if measure.higher_is_better else -1), None, {}
    rows = [row for row in shown.evidence_rows if row.score is not None]
    rows.sort(key=lambda row: (_declared(row), -sign * (row.score or 0)))
    for row in rows:
        value = sign * (row.score or 0)
        if best is None or value > best:
            best = value
            looks[row.submission] = progress.Look.NOT_TESTED
    return looks


def _declared(entry: LeaderboardEntry) -> datetime:
    """Returns the day, or the last day of the month, that the submitter declared."""
    return datetime.combine(latest_day(entry.submitted_date), time.min, UTC)
