"""Finds what an address names, or says which name was probably meant."""

from __future__ import annotations

from cxreval.client import LeaderboardEntry, Submission
from services.leaderboard.data import BoardData, BoardDay
from services.leaderboard.problems import BeingRead, NotFound
from services.leaderboard.site import SiteData
from services.leaderboard.templates import board_address, submission_address


def find_board(data: SiteData, name: str) -> BoardData:
    """Returns a benchmark by its identifier.

    Raises:
        NotFound: there is none.
        BeingRead: nothing is read from the registry yet.
    """
    if name not in data.boards and data.read_time is None:
        raise BeingRead("The board")
    if name not in data.boards:
        known = ((each, board_address(each)) for each in data.boards)
        raise NotFound("benchmark", name, known)
    return data.boards[name]


def find_submission(board: BoardData, identifier: str) -> Submission:
    """Returns a submission by its id or the beginning of it, if only one begins so.

    Raises:
        NotFound: there is none, or several begin so.
    """
    exact = board.submissions.get(f"benchmarks/{board.name}/submissions/{identifier}")
    if exact:
        return exact
    by_id = {name.rpartition("/")[2]: item for name, item in board.submissions.items()}
    found = [
        item for each, item in by_id.items() if len(identifier) >= 4 and each.startswith(identifier)
    ]
    if len(found) == 1:
        return found[0]
    known = ((each, submission_address(item.name)) for each, item in by_id.items())
    raise NotFound("submission", identifier, known)


def row_of(board: BoardData | BoardDay, submission: str) -> LeaderboardEntry | None:
    """Returns the row of a submission, None if it has none."""
    return next((entry for entry in board.entries if entry.submission == submission), None)
