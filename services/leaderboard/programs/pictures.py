"""Pictures for other sites: the badge of a row, and what a link to a page shows."""

from __future__ import annotations

from collections.abc import Sequence

from cxreval.client import LeaderboardEntry, Submission
from cxreval.records import Tier
from services.leaderboard.charts import badge as badges
from services.leaderboard.charts import preview as previews
from services.leaderboard.charts import whisker
from services.leaderboard.charts.scales import Estimate
from services.leaderboard.data import REMOVED, BoardData
from services.leaderboard.figures import estimate, measure_of
from services.leaderboard.lookup import find_board, find_submission, row_of
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import Removed
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import day


def badge(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the badge of a submission as SVG; it also says that a row was withdrawn."""
    board, found, entry = _asked(data, path, given)
    state = str(found.status).replace("_", " ")
    message = _place(board, entry) if entry else f"no row: {state}"
    return Content(str(badges.chart(board.name, message)), "image/svg+xml")


def preview(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the picture of a row as PNG."""
    board, found, entry = _asked(data, path, given)
    if entry is None and found.status in REMOVED:
        raise Removed(found.status, "", {})
    state = str(found.status).replace("_", " ")
    return _picture(
        board,
        (found.manifest.model, found.name.rpartition("/")[2]),
        _line(board, entry) if entry else f"No row: {state}",
        entry,
    )


def board_preview(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the picture of a board as PNG: its record."""
    board = find_board(data, path["benchmark"])
    Parameters(given, ())
    holder = board.holder
    if holder is None:
        return _picture(board, ("No row yet", "No row yet"), "", None)
    identifier = holder.submission.rpartition("/")[2]
    return _picture(board, (holder.model, identifier), _line(board, holder), holder)


def _asked(
    data: SiteData, path: dict[str, str], given: Given
) -> tuple[BoardData, Submission, LeaderboardEntry | None]:
    board = find_board(data, path["benchmark"])
    Parameters(given, ())
    found = find_submission(board, path["submission"])
    return board, found, row_of(board, found.name)


def _place(board: BoardData, entry: LeaderboardEntry) -> str:
    measure = measure_of(board.spec.ranking_metric)
    score = f"{measure.unit} {measure.written(entry.score)}"
    if entry.tier is Tier.CLAIMED:
        return f"claimed, {score}"
    rows = len(board.evidence_rows)
    place = f"rank {entry.rank} of {rows}" if entry.rank else f"1 of {rows} rows, no rank"
    return f"{place}, {score}{', disputed' if entry.disputed else ''}"


def _line(board: BoardData, entry: LeaderboardEntry) -> str:
    if entry.tier is Tier.CLAIMED:
        return f"Claimed, not run here. Declared date: {entry.submitted_date}"
    rows = len(board.evidence_rows)
    place = f"Rank {entry.rank} of {rows}" if entry.rank else "No rank"
    return f"{place}, {entry.tier}, {day(entry.publish_time)}"


def _picture(
    board: BoardData, model: tuple[str, str], line: str, entry: LeaderboardEntry | None
) -> Content:
    measure = measure_of(board.spec.ranking_metric)
    drawn: Sequence[LeaderboardEntry] = board.evidence_rows or board.claims
    shown = estimate(entry) if entry else Estimate(None)
    picture = previews.Preview(
        title=(board.spec.title, board.name),
        model=model,
        line=line,
        estimate=shown,
        span=whisker.axis([*map(estimate, drawn), shown], measure),
        measure=measure,
    )
    return Content(previews.png(picture), "image/png")
