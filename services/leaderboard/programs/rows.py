"""Rows, steps and changes of a board as the API states them; figures in the metric's own unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from cxreval.audit.chain import AuditEvent
from cxreval.client import LeaderboardEntry, SotaStep
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.report import Interval, TrainingVerdict
from cxreval.records import Agreement
from services.leaderboard.data import BoardData, Figure, event_time, figure_parts
from services.leaderboard.programs.answers import utc
from services.leaderboard.site import SiteData
from services.leaderboard.templates import https_only, submission_address

Figures = Mapping[str, Figure]
"""The figures of a row over all images, by `figure_key`."""


def figures_of(
    data: SiteData, board: BoardData, entries: Iterable[LeaderboardEntry]
) -> list[Figures]:
    """Returns the figures of each row, also of rows of an earlier day.

    A row has none if its report is no longer stored.
    """
    shown = {entry.submission: entry.evaluation for entry in board.entries}
    return [
        board.figures.get(entry.submission, {})
        if shown.get(entry.submission) == entry.evaluation
        else data.store.figures(entry, board.submissions.get(entry.submission))
        for entry in entries
    ]


def direction(spec: BenchmarkSpec) -> str:
    """Returns which values of the ranking metric are better: `higher` or `lower`."""
    return next(item.direction for item in spec.metrics if item.id == spec.ranking_metric)


def row(data: SiteData, entry: LeaderboardEntry, of_it: Figures) -> dict[str, object]:
    """Returns a row with its figures."""
    return {
        **_names(data, entry),
        "organisation": entry.organisation,
        "open_source": entry.open_source,
        "kind": entry.kind,
        "source_kind": entry.source_kind,
        "source_url": https_only(entry.source_url) or None,
        "submitted_date": entry.submitted_date,
        "publish_time": utc(entry.publish_time),
        "tier": entry.tier,
        "replay": _agreement(entry.replay),
        "reproduction": _agreement(entry.reproduction),
        "disputed": entry.disputed,
        "note": entry.note,
        "record": entry.sota,
        "rank": entry.rank,
        "rank_undefined_reason": entry.rank_undefined_reason or None,
        "score": entry.score,
        "interval": _interval(entry.interval),
        "interval_undefined_reason": entry.interval_undefined_reason or None,
        "claimed_score": entry.claimed_score,
        "spread": asdict(entry.spread) if entry.spread else None,
        "evaluation": entry.evaluation or None,
        "training_verdict": entry.training_verdict,
        "overlap": _overlap(entry),
        "figures": _by_metric(of_it),
    }


def _agreement(found: Agreement | None) -> dict[str, object] | None:
    if found is None:
        return None
    since = utc(found.differed_since) if found.differed_since else None
    return asdict(found) | {"time": utc(found.time), "differed_since": since}


def step(data: SiteData, item: SotaStep) -> dict[str, object]:
    """Returns a step of the record."""
    return {
        **_names(data, item),
        "organisation": item.organisation,
        "submitted_date": item.submitted_date,
        "publish_time": utc(item.publish_time),
        "tier": item.tier,
        "score": item.score,
        "interval": _interval(item.interval),
        "significance": item.significance,
        "training_verdict": item.training_verdict,
        "counts": not item.not_counted,
    }


def change(data: SiteData, board: BoardData, event: AuditEvent) -> dict[str, object]:
    """Returns a change of a board. Its submission must be one that anybody may read."""
    manifest = board.submissions[event.submission].manifest
    return {
        **event_facts(event),
        "benchmark": board.name,
        "submission": event.submission,
        "page": data.public_url + submission_address(event.submission),
        "model": manifest.model,
        "organisation": manifest.organisation,
    }


def event_facts(event: AuditEvent) -> dict[str, object]:
    """Returns an event of a submission, without the submission."""
    return {
        "place": event.place,
        "time": utc(event_time(event)),
        "change": event.change,
        "state": event.state,
        "reason": event.reason,
        "digest": event.digest,
    }


def _names(data: SiteData, item: LeaderboardEntry | SotaStep) -> dict[str, object]:
    return {
        "submission": item.submission,
        "page": data.public_url + submission_address(item.submission),
        "model": item.model,
    }


def _overlap(entry: LeaderboardEntry) -> dict[str, object] | None:
    """Returns how many of the benchmark's images and patients a model was trained on, and its score
    on the other patients; None without an overlap."""
    if entry.training_verdict is not TrainingVerdict.OVERLAP:
        return None
    return {
        "images": entry.overlap_images,
        "patients": entry.overlap_patients,
        "clean_score": entry.clean_score,
        "clean_interval": _interval(entry.clean_interval),
    }


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return asdict(interval) if interval else None


def _by_metric(of_it: Figures) -> dict[str, dict[str, object]]:
    """Returns figures by metric: that of the mean, and those of the findings by name."""
    found: dict[str, dict[str, object]] = {}
    for key, figure in of_it.items():
        metric, finding = figure_parts(key)
        parts = found.setdefault(metric, {"mean": None, "findings": {}})
        if finding:
            parts["findings"][finding] = asdict(figure)  # type: ignore[index]
        else:
            parts["mean"] = asdict(figure)
    return found
