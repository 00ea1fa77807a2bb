"""The heat map of a benchmark: every row by every finding, and the claimed figures of findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cxreval.client import LeaderboardEntry
from services.leaderboard.charts import heatmap
from services.leaderboard.charts.heatmap import Shades
from services.leaderboard.charts.scales import Measure
from services.leaderboard.data import BoardData, figure_key
from services.leaderboard.figures import measure_of, rank_texts
from services.leaderboard.lookup import find_board
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import NotFound
from services.leaderboard.selection import page_count
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import ABSENT, page, with_query

MAX_CELLS = 2200
MOST_ROWS, FEWEST_ROWS = 100, 10
"""Rows of a page: as many as have `MAX_CELLS` cells, within these bounds."""

SHOWS = ("value", "difference", "rank")
_RANK = Measure("Rank", factor=1, decimals=0, higher_is_better=False, lowest=1, highest=None)


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the map: its cells in the order of the columns, each with text and class."""

    entry: LeaderboardEntry
    rank: str
    cells: Sequence[tuple[str, str]]


def findings(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the heat map of a benchmark. Raises `BadParameter`, `NotFound`."""
    board = find_board(data, path["benchmark"])
    spec = board.spec
    parameters = Parameters(given, ("show", "sort", "page"))
    show = parameters.choice("show", SHOWS) or SHOWS[0]
    sort = parameters.choice("sort", spec.findings)
    number = parameters.number("page", 1)
    measure = measure_of(spec.ranking_metric)
    columns = {name: _column(board, name, show, measure) for name in ("", *spec.findings)}
    drawn = _RANK if show == "rank" else measure
    shades = heatmap.shades(
        (value for name in spec.findings for value in columns[name].values()),
        higher_is_better=drawn.higher_is_better,
    )
    entries = _sorted(board, sort, measure) if sort else board.evidence_rows
    size = min(MOST_ROWS, max(FEWEST_ROWS, MAX_CELLS // (len(spec.findings) + 6)))
    pages = page_count(len(entries), size)
    if number > pages:
        raise NotFound("page of this map with the number", str(number))
    ranks = rank_texts(board.entries)
    lines = [
        Line(
            entry,
            ranks[entry.submission],
            [
                _cell(column.get(entry.submission), show, drawn, shades if name else None)
                for name, column in columns.items()
            ],
        )
        for entry in entries[(number - 1) * size : number * size]
    ]
    address = partial(with_query, f"/b/{board.name}/findings")
    view = {"show": "" if show == SHOWS[0] else show, "sort": sort}
    return page(
        data,
        "findings.html",
        board=board,
        spec=spec,
        measure=measure,
        lines=lines,
        claims=_claims(board, measure)[:size] if number == 1 else [],
        rows=len(entries),
        columns=spec.findings,
        show=show,
        sort=sort,
        number=number,
        pages=pages,
        shows=SHOWS,
        legend=shades.legend(drawn),
        address=lambda **changes: address(view | changes),
    )


def _claims(board: BoardData, measure: Measure) -> list[Line]:
    """Returns the claims that state a figure of a finding, by rank, without shades."""
    ranks = rank_texts(board.entries)
    lines = []
    for entry in board.claims:
        figures = board.figures.get(entry.submission, {})
        keys = [figure_key(board.spec.ranking_metric, name) for name in ("", *board.spec.findings)]
        values = [figures[key].value if key in figures else None for key in keys]
        if any(value is not None for value in values[1:]):
            cells = [_cell(value, "value", measure, None) for value in values]
            lines.append(Line(entry, ranks[entry.submission], cells))
    return lines


def _column(board: BoardData, finding: str, show: str, measure: Measure) -> Mapping[str, float]:
    """Returns a column by submission: values, differences to the best one, or ranks."""
    key = figure_key(board.spec.ranking_metric, finding)
    values = {
        entry.submission: figure.value
        for entry in board.evidence_rows
        if (figure := board.figures.get(entry.submission, {}).get(key)) and figure.value is not None
    }
    if show == "value" or not values:
        return values
    ordered = sorted(values.values(), reverse=measure.higher_is_better)
    if show == "difference":
        return {submission: value - ordered[0] for submission, value in values.items()}
    places: dict[float, int] = {}
    for place, value in enumerate(ordered, 1):
        places.setdefault(value, place)
    return {submission: float(places[value]) for submission, value in values.items()}


def _cell(
    value: float | None, show: str, measure: Measure, shades: Shades | None
) -> tuple[str, str]:
    if value is None:
        return ABSENT, ""
    text = measure.signed(value) if show == "difference" else measure.written(value)
    return text, shades.of(value) if shades else ""


def _sorted(board: BoardData, finding: str, measure: Measure) -> Sequence[LeaderboardEntry]:
    """Returns the rows with evidence by a finding, best first; those without a value are last."""
    values = _column(board, finding, "value", measure)
    sign = -1 if measure.higher_is_better else 1

    def place(entry: LeaderboardEntry) -> tuple[bool, float]:
        value = values.get(entry.submission)
        return value is None, sign * (value or 0)

    return sorted(board.evidence_rows, key=place)
