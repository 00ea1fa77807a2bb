"""Pictures for other sites: the badge of a row, and what a link to a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from cxreval.client import LeaderboardEntry, Submission
from cxreval.records import Tier
from services.leaderboard.charts import badge as badges
from services.leaderboard.charts import preview as previews
from services.leaderboard.charts import whisker
from services.leaderboard.charts.scales import Estimate
from services.leaderboard.data import REMOVED, BoardData, BoardDay
from services.leaderboard.figures import estimate, measure_of
from services.leaderboard.lookup import find_board, find_submission, row_of
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import Removed
from services.leaderboard.selection import board_at
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import day


def badge(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the badge of a submission as SVG; it also says that a row was withdrawn."""
    asked = _asked(data, path, given)
    board, entry = asked.board, asked.entry
    message = _place(board, asked.shown, entry) if entry else asked.absent
    return Content(str(badges.chart(board.name, message)), "image/svg+xml")


def preview(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the picture of a row as PNG."""
    asked = _asked(data, path, given)
    found, entry = asked.found, asked.entry
    if entry is None and asked.as_of is None and found.status in REMOVED:
        raise Removed(found.status, "", {})
    return _picture(
        asked.board,
        asked.shown,
        (found.manifest.model, found.name.rpartition("/")[2]),
        _line(asked.shown, entry) if entry else asked.absent.capitalize(),
        entry,
    )


def board_preview(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the picture of a board as PNG: its record."""
    board = find_board(data, path["benchmark"])
    shown = board_at(data, board, Parameters(given, ("as_of",)).day("as_of"))
    holder = shown.holder
    if holder is None:
        return _picture(board, shown, ("No row yet", "No row yet"), "", None)
    identifier = holder.submission.rpartition("/")[2]
    return _picture(board, shown, (holder.model, identifier), _line(shown, holder), holder)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A submission, and its row on the board of a day, or of now if `as_of` is None."""

    board: BoardData
    shown: BoardDay
    found: Submission
    as_of: date | None

    @property
    def entry(self) -> LeaderboardEntry | None:
        return row_of(self.shown, self.found.name)

    @property
    def absent(self) -> str:
        """What stands for a row that is not there."""
        if self.as_of:
            return f"no row on {self.as_of}"
        return f"no row: {str(self.found.status).replace('_', ' ')}"


def _asked(data: SiteData, path: dict[str, str], given: Given) -> _Asked:
    board = find_board(data, path["benchmark"])
    as_of = Parameters(given, ("as_of",)).day("as_of")
    found = find_submission(board, path["submission"])
    return _Asked(board, board_at(data, board, as_of), found, as_of)


def _place(board: BoardData, shown: BoardDay, entry: LeaderboardEntry) -> str:
    measure = measure_of(board.spec.ranking_metric)
    score = f"{measure.unit} {measure.written(entry.score)}"
    if entry.tier is Tier.CLAIMED:
        return f"claimed, {score}"
    rows = len(shown.evidence_rows)
    place = f"rank {entry.rank} of {rows}" if entry.rank else f"1 of {rows} rows, no rank"
    return f"{place}, {score}{', disputed' if entry.disputed else ''}"


def _line(shown: BoardDay, entry: LeaderboardEntry) -> str:
    if entry.tier is Tier.CLAIMED:
        return f"Claimed, not run here. Declared date: {entry.submitted_date}"
    rows = len(shown.evidence_rows)
    place = f"Rank {entry.rank} of {rows}" if entry.rank else "No rank"
    return f"{place}, {entry.tier}, {day(entry.publish_time)}"


def _picture(
    board: BoardData,
    shown: BoardDay,
    model: tuple[str, str],
    line: str,
    entry: LeaderboardEntry | None,
) -> Content:
    measure = measure_of(board.spec.ranking_metric)
    drawn: Sequence[LeaderboardEntry] = shown.evidence_rows or shown.claims
    figure = estimate(entry) if entry else Estimate(None)
    picture = previews.Preview(
        title=(board.spec.title, board.name),
        model=model,
        line=line,
        estimate=figure,
        span=whisker.axis([*map(estimate, drawn), figure], measure),
        measure=measure,
    )
    return Content(previews.png(picture), "image/png")
