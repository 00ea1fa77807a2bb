"""The audit page: the head of the chain, how to verify it, and what was corrected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.leaderboard.data import CORRECTIONS, event_time
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import page

SHOWN = 200


@dataclass(frozen=True, slots=True)
class _Line:
    """A change of a row after its publication."""

    time: datetime
    what: str
    submission: str
    model: str
    reason: str


def audit(data: SiteData, _: dict[str, str], given: Given) -> Content:
    """Returns the audit page."""
    Parameters(given, ())
    lines = [
        _Line(
            event_time(event),
            event.change,
            event.submission,
            board.submissions[event.submission].manifest.model,
            event.reason,
        )
        for board in data.boards.values()
        for event in board.changes
        if event.change in CORRECTIONS and event.submission in board.submissions
    ]
    lines.sort(key=lambda line: line.time, reverse=True)
    # The head of the chain moves with every lease; this one is that of the last shown change.
    head = max(
        (board.head for board in data.boards.values()),
        key=lambda head: head.place,
        default=data.head,
    )
    return page(
        data, "audit.html", changes=lines[:SHOWN], more=max(0, len(lines) - SHOWN), head=head
    )
