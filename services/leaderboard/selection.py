"""What a visitor chose to see of a board: filters, columns, order, and the day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from cxreval.client import LeaderboardEntry
from cxreval.metrics.registry import METRICS
from cxreval.records import Tier
from services.leaderboard.data import (
    BoardData,
    BoardDay,
    Figure,
    figure_key,
    figure_parts,
    published,
)
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import BeingRead
from services.leaderboard.site import SiteData
from services.leaderboard.templates import board_address

ROWS_PER_PAGE = 100
MAX_COLUMNS = 20

TIERS = tuple(tier for tier in Tier if tier is not Tier.CLAIMED)
SORTS = ("rank", "model", "organisation", "published")
FILTERS = ("tier", "open", "organisation", "since", "until", "as_of", "sort")
"""Parameters that choose rows, on the page and for programs."""


@dataclass(frozen=True, slots=True)
class View:
    """What a visitor chose to see of a board. Filters never change a rank."""

    page: int = 1
    tiers: tuple[str, ...] = ()
    open: str = ""
    organisation: str = ""
    since: date | None = None
    until: date | None = None
    as_of: date | None = None
    columns: tuple[str, ...] = ()
    sort: str = ""
    dates: str = ""

    def address(self, benchmark: str, **changes: object) -> str:
        """Returns the address of this view with some parameters changed."""
        given: dict[str, object] = {
            "tier": self.tiers, "open": self.open, "organisation": self.organisation,
            "since": self.since, "until": self.until, "as_of": self.as_of,
            "column": self.columns, "sort": self.sort, "dates": self.dates,
            "page": self.page if self.page > 1 else None,
        }  # fmt: skip
        return board_address(benchmark, **given | changes)


def read_view(board: BoardData, given: Given) -> View:
    """Returns what the query parameters of the page choose. Raises `BadParameter`."""
    names = (*FILTERS, "page", "column", "dates")
    parameters = Parameters(given, names, {"tier": len(Tier), "column": MAX_COLUMNS})
    return replace(
        read_filters(board, parameters, TIERS),
        page=parameters.number("page", 1),
        columns=parameters.choices("column", column_choices(board)),
        dates=parameters.choice("dates", ("declared", "published")),
    )


def read_filters(board: BoardData, parameters: Parameters, tiers: Iterable[Tier]) -> View:
    """Returns what the filters choose among rows of some tiers. Raises `BadParameter`."""
    return View(
        tiers=parameters.choices("tier", [*map(str, tiers)]),
        open=parameters.choice("open", ("yes", "no")),
        organisation=parameters.text("organisation"),
        since=parameters.day("since"),
        until=parameters.day("until"),
        as_of=parameters.day("as_of"),
        sort=parameters.choice("sort", (*SORTS, *column_choices(board))),
    )


def page_count(rows: int, size: int) -> int:
    """Returns the number of pages of `size` rows; a list without rows has one page, too."""
    return max(1, -(-rows // size))


def column_choices(board: BoardData) -> tuple[str, ...]:
    """Returns the columns that a board can show: other metrics, and each finding."""
    spec = board.spec
    known = {figure_parts(key)[0] for row in board.figures.values() for key in row}
    metrics = [name for name in METRICS if name in known and name != spec.ranking_metric]
    return (*metrics, *spec.findings)


def board_at(data: SiteData, board: BoardData, as_of: date | None) -> BoardDay:
    """Returns the board at the end of a day, UTC; now without a day.

    Raises:
        BeingRead: the board of that day is not read yet.
    """
    today = datetime.now(UTC).date()
    days = board.days
    if as_of is None or as_of >= today or (days and as_of >= days[-1]):
        return BoardDay(board.entries, board.steps)
    before = [day for day in days if day <= as_of]
    if not before:
        return BoardDay((), ())
    kept = data.store.day(board.name, before[-1])
    if kept is None:
        raise BeingRead(f"The board of {as_of}")
    return kept


def chosen(
    board: BoardData, entries: Sequence[LeaderboardEntry], view: View
) -> list[LeaderboardEntry]:
    """Returns the rows that pass the filters of a view, in its order."""
    wanted = view.organisation.casefold()
    rows = [
        entry
        for entry in entries
        if (not view.tiers or entry.tier in view.tiers)
        and (not view.open or entry.open_source == (view.open == "yes"))
        and wanted in entry.organisation.casefold()
        and (view.since is None or _published(entry) >= view.since)
        and (view.until is None or _published(entry) <= view.until)
    ]
    if view.sort == "model":
        rows.sort(key=lambda entry: entry.model.casefold())
    elif view.sort == "organisation":
        rows.sort(key=lambda entry: entry.organisation.casefold())
    elif view.sort == "published":
        rows.sort(key=published, reverse=True)
    elif view.sort not in ("", "rank"):
        sign = -1 if _higher_is_better(board, view.sort) else 1
        # Undefined figures are last in either direction.
        keyed = [(figure_of(board, entry, view.sort), entry) for entry in rows]
        keyed.sort(key=lambda item: (item[0] is None, sign * (item[0] or 0)))
        rows = [entry for _, entry in keyed]
    return rows


def figure_of(board: BoardData, entry: LeaderboardEntry, column: str) -> float | None:
    """Returns the value of a column: the macro mean of a metric, or the score of a finding."""
    key = (
        figure_key(column)
        if column in METRICS and column not in board.spec.findings
        else figure_key(board.spec.ranking_metric, column)
    )
    return board.figures.get(entry.submission, {}).get(key, Figure(None)).value


def _higher_is_better(board: BoardData, column: str) -> bool:
    metric = column if column in METRICS else board.spec.ranking_metric
    return METRICS[metric].direction == "higher" if metric in METRICS else True


def _published(entry: LeaderboardEntry) -> date:
    return published(entry).astimezone(UTC).date()
