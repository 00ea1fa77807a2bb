"""The rows of a board for programs: which ones, in which order, and page by page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cxreval.client import LeaderboardEntry
from cxreval.records import Tier
from services.leaderboard.data import BoardData
from services.leaderboard.lookup import find_board
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import BadParameter
from services.leaderboard.programs.answers import answer, api_address, following, utc
from services.leaderboard.programs.rows import direction, figures_of, row
from services.leaderboard.selection import FILTERS, View, board_at, chosen, read_filters
from services.leaderboard.site import Content, SiteData

PAGE_SIZE, MAX_PAGE_SIZE = 100, 500


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows that a program asked for: rows with evidence, then claims."""

    view: View
    rows: list[LeaderboardEntry]


def choose(data: SiteData, board: BoardData, parameters: Parameters) -> Chosen:
    """Returns the rows that the filters choose. Raises `BadParameter` or `BeingRead`."""
    view = read_filters(board, parameters, Tier)
    shown = board_at(data, board, view.as_of)
    return Chosen(
        view,
        [row for part in (shown.evidence_rows, shown.claims) for row in chosen(board, part, view)],
    )


def entries(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the rows of a board, page by page."""
    board = find_board(data, path["benchmark"])
    parameters = Parameters(given, (*FILTERS, "page_size", "page_token"), {"tier": len(Tier)})
    found = choose(data, board, parameters)
    size = parameters.number("page_size", PAGE_SIZE, MAX_PAGE_SIZE)
    first = _first(found.rows, parameters.text("page_token"))
    rows = found.rows[first : first + size]
    token = _token(found.rows, first + size) if first + size < len(found.rows) else None
    items = figures_of(data, board, rows)
    return answer(
        {
            "benchmark": board.name,
            "as_of": found.view.as_of,
            "ranking_metric": board.spec.ranking_metric,
            "direction": direction(board.spec),
            "read_time": utc(board.read_time),
            "audit_head": asdict(board.head),
            "total": len(found.rows),
            "entries": [row(data, *item) for item in zip(rows, items, strict=True)],
            **following(data, f"{api_address(board.name)}/entries", given, token),
        }
    )


def _first(rows: Sequence[LeaderboardEntry], token: str) -> int:
    """Returns the index of the first row of a page. Raises `BadParameter` for another list's."""
    if not token:
        return 0
    index, _, _ = token.partition("-")
    if not index.isascii() or not index.isdigit() or token != _token(rows, int(index)):
        raise BadParameter(
            "page_token",
            token,
            "the token of the page before, of the list as it is now; without it, the list begins "
            "again, as it must after a change of the board",
        )
    return int(index)


def _token(rows: Sequence[LeaderboardEntry], index: int) -> str:
    """Returns the token of the page that begins with a row; it holds for these rows only."""
    names = "\n".join(entry.submission for entry in rows)
    return f"{index}-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
