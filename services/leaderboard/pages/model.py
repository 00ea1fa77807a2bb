"""The page of a model that has a row."""

from __future__ import annotations

from cxreval.client import LeaderboardEntry, Submission
from services.leaderboard.data import BoardData
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import page


def model(
    data: SiteData, board: BoardData, submission: Submission, entry: LeaderboardEntry
) -> Content:
    """Returns the page of a model."""
    return page(data, "removed.html", board=board, submission=submission, last=[])
