"""What a visitor chose to see of a board: filters, columns, order, and the day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cxreval.client import LeaderboardEntry, SotaStep
from cxreval.metrics.registry import METRICS
from cxreval.records import Tier
from services.leaderboard.data import BoardData, Figure, figure_key, published
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import BeingRead
from services.leaderboard.site import SiteData
from services.leaderboard.templates import board_address

ROWS_PER_PAGE = 100
MAX_COLUMNS = 20

TIERS = tuple(tier for tier in Tier if tier is not Tier.CLAIMED)
SORTS = ("rank", "model", "organisation", "published")
_NAMES = (
    "page",
    "tier",
    "open",
    "organisation",
    "since",
    "until",
    "as_of",
    "column",
    "sort",
    "dates",
)


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


@dataclass(frozen=True, slots=True)
class Shown:
    """A board at the time that was asked for."""

    entries: tuple[LeaderboardEntry, ...]
    steps: tuple[SotaStep, ...]


def read_view(board: BoardData, given: Given) -> View:
    """Returns what the query parameters choose. Raises `BadParameter`."""
    parameters = Parameters(given, _NAMES, {"tier": len(Tier), "column": MAX_COLUMNS})
    choices = column_choices(board)
    return View(
        page=parameters.number("page", 1),
        tiers=parameters.choices("tier", [*map(str, TIERS)]),
        open=parameters.choice("open", ("yes", "no")),
        organisation=parameters.text("organisation"),
        since=parameters.day("since"),
        until=parameters.day("until"),
        as_of=parameters.day("as_of"),
        columns=parameters.choices("column", choices),
        sort=parameters.choice("sort", (*SORTS, *choices)),
        dates=parameters.choice("dates", ("declared", "published")),
    )


def column_choices(board: BoardData) -> tuple[str, ...]:
    """Returns the columns that a board can show: other metrics, and each finding."""
    spec = board.spec
    known = {key.partition("|")[0] for row in board.figures.values() for key in row}
    metrics = [name for name in METRICS if name in known and name != spec.ranking_metric]
    return (*metrics, *spec.findings)


def board_at(data: SiteData, board: BoardData, as_of: date | None) -> Shown:
    """Returns the board at the end of a day, UTC; now without a day.

    Raises:
        BeingRead: the board of that day is not read yet.
    """
    today = datetime.now(UTC).date()
    days = board.days
    if as_of is None or as_of >= today or (days and as_of >= days[-1]):
        return Shown(board.entries, board.steps)
    before = [day for day in days if day <= as_of]
    if not before:
        return Shown((), ())
    kept = data.store.day(board.name, before[-1])
    if kept is None:
        raise BeingRead(f"The board of {as_of}")
    return Shown(kept.entries, kept.steps)


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
