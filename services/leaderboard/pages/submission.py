"""The page of a submission: its model if it has a row, else its progress, or why it has none."""

from __future__ import annotations

from cxreval.client import Submission
from services.leaderboard.data import REMOVED, BoardData
from services.leaderboard.lookup import find_board, find_submission, row_of
from services.leaderboard.pages.model import model
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import page
from services.leaderboard.watching import RUNNING


def submission(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the page of a submission; 410 with its tombstone for a row that was removed."""
    part = Parameters(given, ("part",)).number("part", 1)
    board = find_board(data, path["benchmark"])
    found = find_submission(board, path["submission"])
    entry = row_of(board, found.name)
    if entry:
        return model(data, board, found, entry, part)
    if found.status in REMOVED:
        last = board.events.get(found.name, ())[-1:]
        return page(data, "removed.html", status=410, board=board, submission=found, last=last)
    return page(
        data,
        "submission.html",
        board=board,
        submission=found,
        running=found.status in RUNNING,
        place=_queue_place(board, found),
    )


def _queue_place(board: BoardData, submission: Submission) -> int | None:
    """Returns the place of a submission in the queue of its benchmark; None if it is not queued.

    The queue is fair between organisations, so a submission may start earlier than its place.
    """
    waiting = sorted(
        (item for item in board.submissions.values() if item.status == "queued"),
        key=lambda item: item.create_time,
    )
    return waiting.index(submission) + 1 if submission in waiting else None
