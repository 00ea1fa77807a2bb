"""The first page: every benchmark with its record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cxreval.client import LeaderboardEntry
from cxreval.records import Tier
from services.leaderboard.data import BoardData, event_time
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import page


@dataclass(frozen=True, slots=True)
class _Card:
    """A benchmark in short."""

    name: str
    title: str
    synthetic: bool
    retired: bool
    holder: LeaderboardEntry | None
    claimed: bool
    evidence: int
    claims: int
    images: int
    patients: int
    findings: int
    changed: datetime | None


def home(data: SiteData, _: dict[str, str], given: Given) -> Content:
    """Returns the first page."""
    Parameters(given, ())
    return page(data, "home.html", boards=[_card(board) for board in data.boards.values()])


def _card(board: BoardData) -> _Card:
    changes = board.changes
    return _Card(
        name=board.name,
        title=board.spec.title,
        synthetic=board.spec.synthetic,
        retired=board.retirement is not None,
        holder=board.holder,
        claimed=board.holder is not None and board.holder.tier is Tier.CLAIMED,
        evidence=len(board.evidence_rows),
        claims=len(board.claims),
        images=board.spec.image_count,
        patients=board.spec.patient_count,
        findings=len(board.spec.findings),
        changed=event_time(changes[-1]) if changes else None,
    )
