"""One submission for programs: its row, manifest, report and where it comes from."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from cxreval.audit.chain import AuditEvent
from cxreval.client import Evaluation, Submission
from cxreval.metrics.report import MetricValue
from services.leaderboard.data import REMOVED, BoardData, event_time
from services.leaderboard.lookup import find_board, find_submission
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import NotFound, Removed
from services.leaderboard.programs.answers import answer, utc
from services.leaderboard.programs.rows import event_facts, figures_of, row
from services.leaderboard.selection import board_at
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import submission_address

_PRIVATE = ("contact", "endpoint")
"""Fields of a manifest that nobody is told, and that are empty here."""


def submission_facts(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns a submission, also one without a row. Raises `Removed` if its row was taken off."""
    board = find_board(data, path["benchmark"])
    found = find_submission(board, path["submission"])
    as_of = Parameters(given, ("as_of",)).day("as_of")
    events = _events(board, found, as_of)
    state = events[-1].state if as_of else found.status
    if state in REMOVED:
        raise Removed(state, events[-1].reason if events else "", tombstone(found, state, events))
    entries = [
        entry for entry in board_at(data, board, as_of).entries if entry.submission == found.name
    ]
    rows = zip(entries, figures_of(data, board, entries), strict=True)
    evaluation = next((entry.evaluation for entry in entries if entry.evaluation), "")
    return answer(
        {
            "submission": found.name,
            "page": data.public_url + submission_address(found.name),
            "as_of": as_of,
            "state": state,
            "create_time": utc(found.create_time),
            "row": next((row(data, *item) for item in rows), None),
            "manifest": _manifest(found),
            "report": _report(data.store.evaluation(evaluation) if evaluation else None),
            "events": [event_facts(event) for event in events],
        }
    )


def tombstone(found: Submission, state: str, events: list[AuditEvent]) -> dict[str, object]:
    """Returns what is kept of a row that is no longer on the board."""
    return {
        "submission": found.name,
        "model": found.manifest.model,
        "organisation": found.manifest.organisation,
        "state": state,
        "time": utc(event_time(events[-1])) if events else None,
        "reason": events[-1].reason if events else "",
        "superseded_by": found.superseded_by or None,
    }


def _events(board: BoardData, found: Submission, as_of: date | None) -> list[AuditEvent]:
    """Returns the events of a submission, oldest first, to the end of a day.

    Raises:
        NotFound: it was not created yet on that day.
    """
    events = board.events.get(found.name, ())
    if as_of is None:
        return list(events)
    before = [event for event in events if event_time(event).date() <= as_of]
    if not before:
        raise NotFound("submission of that day with the name", found.name)
    return before


def _manifest(found: Submission) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(found.manifest)
    return {name: value for name, value in fields.items() if name not in _PRIVATE}


def _report(evaluation: Evaluation | None) -> dict[str, object] | None:
    """Returns all figures of an evaluation, and what its worker says about the run."""
    if evaluation is None or evaluation.report is None:
        return None
    report = evaluation.report
    return {
        "evaluation": evaluation.name,
        "benchmark_digest": report.benchmark_digest,
        "scorer_version": report.scorer_version,
        "image_count": report.image_count,
        "patient_count": report.patient_count,
        "predictions_sha256": report.predictions_sha256,
        "replicate_count": report.replicate_count,
        # A number of 64 bits, which many readers of JSON would round.
        "seed": str(report.seed),
        "figures": [_figure(value) for value in report.metrics],
        "worker_says": dict(evaluation.provenance),
    }


def _figure(value: MetricValue) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(value)
    for name in ("finding", "slice", "undefined_reason", "interval_undefined_reason"):
        fields[name] = fields[name] or None
    return fields
