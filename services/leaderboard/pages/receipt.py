"""The receipt of a row as a file."""

from __future__ import annotations

from services.leaderboard.lookup import find_board, find_submission
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import NotFound
from services.leaderboard.site import Content, SiteData


def receipt(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the latest receipt of a submission, as the registry signed it. Raises `NotFound`."""
    Parameters(given, ())
    board = find_board(data, path["benchmark"])
    document = data.store.receipt(find_submission(board, path["submission"]).name)
    if document is None:
        raise NotFound("receipt of the submission", path["submission"])
    return Content(document, "application/json")
