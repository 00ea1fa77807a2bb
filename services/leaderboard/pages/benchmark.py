"""The page of a benchmark: its board, the progress of the record, and how to submit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from markupsafe import Markup

from cxreval.client import LeaderboardEntry, SotaStep
from cxreval.metrics.ranking import Significance, latest_day
from cxreval.metrics.registry import METRICS
from cxreval.records import Tier
from services.leaderboard.charts import progress, svg, whisker
from services.leaderboard.charts.scales import Measure
from services.leaderboard.data import BoardData, Figure, figure_key, published
from services.leaderboard.pages.figures import estimate, measure_of
from services.leaderboard.pages.lookup import find_board
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import BeingRead, NotFound
from services.leaderboard.programs.indexing import dataset
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import ABSENT, board_address, page

ROWS_PER_PAGE = 100
MAX_COLUMNS = 20

_TIERS = tuple(tier for tier in Tier if tier is not Tier.CLAIMED)
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
class RowView:
    """A row as the table shows it. `cells`: the figures of the columns that were asked for."""

    entry: LeaderboardEntry
    rank: str
    whisker: Markup
    claim: float | None
    cells: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A board at the time that was asked for."""

    entries: tuple[LeaderboardEntry, ...]
    steps: tuple[SotaStep, ...]


def benchmark(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the page of a benchmark."""
    board = find_board(data, path["benchmark"])
    view = read_view(board, given)
    shown = board_at(data, board, view.as_of)
    evidence = [entry for entry in shown.entries if entry.tier is not Tier.CLAIMED]
    rows = chosen(board, evidence, view)
    first = (view.page - 1) * ROWS_PER_PAGE
    pages = max(1, -(-len(rows) // ROWS_PER_PAGE))
    if view.page > pages:
        raise NotFound("page of this board with the number", str(view.page))
    claims = [entry for entry in shown.entries if entry.tier is Tier.CLAIMED]
    measure = measure_of(board.spec.ranking_metric)
    axis = whisker.axis(map(estimate, shown.entries), measure)
    held = Counter(entry.rank for entry in evidence)
    return page(
        data,
        "benchmark.html",
        board=board,
        dataset=dataset(data, board),
        spec=board.spec,
        view=view,
        rows=[
            row_view(board, entry, view, axis, held)
            for entry in rows[first : first + ROWS_PER_PAGE]
        ],
        claims=[row_view(board, entry, view, axis, Counter()) for entry in claims],
        matching=len(rows),
        evidence=len(evidence),
        pages=pages,
        axis=whisker.header(axis, measure),
        steps=shown.steps,
        progress=progress_chart(shown, measure, view),
        columns=view.columns,
        choices=column_choices(board),
        tiers=[tier for tier in _TIERS if any(entry.tier is tier for entry in evidence)],
        directions={item.id: item.direction for item in board.spec.metrics},
        tied=any(number > 1 for rank, number in held.items() if rank is not None),
    )


def read_view(board: BoardData, given: Given) -> View:
    """Returns what the query parameters choose. Raises `BadParameter`."""
    parameters = Parameters(given, _NAMES, {"tier": len(Tier), "column": MAX_COLUMNS})
    choices = column_choices(board)
    return View(
        page=parameters.number("page", 1),
        tiers=parameters.choices("tier", [*map(str, _TIERS)]),
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


def row_view(
    board: BoardData,
    entry: LeaderboardEntry,
    view: View,
    axis: tuple[float, float],
    held: Counter[int | None],
) -> RowView:
    """Returns a row as the table shows it."""
    rank = ABSENT if entry.rank is None else f"{'=' if held[entry.rank] > 1 else ''}{entry.rank}"
    claimed, claim = entry.tier is Tier.CLAIMED, None
    if not claimed and entry.score is not None and entry.claimed_score is not None:
        claim = entry.score - entry.claimed_score
    return RowView(
        entry,
        rank,
        whisker.row(estimate(entry), axis, claim=claimed),
        claim,
        tuple(figure_of(board, entry, column) for column in view.columns),
    )


def _published(entry: LeaderboardEntry) -> date:
    return published(entry).astimezone(UTC).date()


_LOOKS = {
    Significance.FIRST: progress.Look.FIRST,
    Significance.SIGNIFICANT: progress.Look.SIGNIFICANT,
    Significance.WITHIN_NOISE: progress.Look.WITHIN_NOISE,
}


def progress_chart(shown: Shown, measure: Measure, view: View) -> Markup:
    """Returns the history of a board; by declared dates, what would have been its steps."""
    looks = {
        step.submission: _LOOKS.get(step.significance, progress.Look.NOT_TESTED)  # type: ignore[arg-type]
        for step in shown.steps
        if step.tier is not Tier.CLAIMED
    }
    declared = view.dates == "declared"
    if declared:
        looks = _declared_steps(shown, measure)
    entries = []
    for entry in shown.entries:
        claimed = entry.tier is Tier.CLAIMED
        when = _declared(entry) if declared or claimed else published(entry)
        look = progress.Look.CLAIM if claimed else looks.get(entry.submission, progress.Look.ENTRY)
        entries.append(progress.Entry(entry.model, when, estimate(entry), look))
    return svg.both(
        lambda width, prefix: progress.chart(entries, measure, width=width, prefix=prefix),
        "progress",
    )


def _declared_steps(shown: Shown, measure: Measure) -> dict[str, progress.Look]:
    """Returns the rows with evidence that beat all with an earlier declared date."""
    sign, best, looks = (1 if measure.higher_is_better else -1), None, {}
    rows = [row for row in shown.entries if row.tier is not Tier.CLAIMED and row.score is not None]
    rows.sort(key=lambda row: (_declared(row), -sign * (row.score or 0)))
    for row in rows:
        value = sign * (row.score or 0)
        if best is None or value > best:
            best = value
            looks[row.submission] = progress.Look.NOT_TESTED
    return looks


def _declared(entry: LeaderboardEntry) -> datetime:
    """Returns the day, or the last day of the month, that the submitter declared."""
    return datetime.combine(latest_day(entry.submitted_date), time.min, UTC)
