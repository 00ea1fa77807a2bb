"""The page of a benchmark: its board, the progress of the record, and how to submit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from cxreval.client import LeaderboardEntry
from cxreval.records import Tier
from services.leaderboard.charts import whisker
from services.leaderboard.data import BoardData
from services.leaderboard.figures import estimate, measure_of, rank_texts
from services.leaderboard.lookup import find_board
from services.leaderboard.pages.progress import progress_chart
from services.leaderboard.parameters import Given
from services.leaderboard.problems import NotFound
from services.leaderboard.programs.indexing import dataset
from services.leaderboard.selection import (
    ROWS_PER_PAGE,
    TIERS,
    View,
    board_at,
    chosen,
    column_choices,
    figure_of,
    page_count,
    read_view,
)
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import page


@dataclass(frozen=True, slots=True)
class RowView:
    """A row as the table shows it. `cells`: the figures of the columns that were asked for."""

    entry: LeaderboardEntry
    rank: str
    whisker: Markup
    claim: float | None
    cells: tuple[float | None, ...]


def benchmark(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the page of a benchmark."""
    board = find_board(data, path["benchmark"])
    view = read_view(board, given)
    shown = board_at(data, board, view.as_of)
    evidence = shown.evidence_rows
    rows = chosen(board, evidence, view)
    first = (view.page - 1) * ROWS_PER_PAGE
    pages = page_count(len(rows), ROWS_PER_PAGE)
    if view.page > pages:
        raise NotFound("page of this board with the number", str(view.page))
    measure = measure_of(board.spec.ranking_metric)
    axis = whisker.axis(map(estimate, shown.entries), measure)
    ranks = rank_texts(shown.entries)
    return page(
        data,
        "benchmark.html",
        board=board,
        dataset=dataset(data, board),
        spec=board.spec,
        view=view,
        rows=[
            row_view(board, entry, view, axis, ranks)
            for entry in rows[first : first + ROWS_PER_PAGE]
        ],
        claims=[row_view(board, entry, view, axis, ranks) for entry in shown.claims],
        matching=len(rows),
        evidence=len(evidence),
        pages=pages,
        axis=whisker.header(axis, measure),
        steps=shown.steps,
        progress=progress_chart(shown, measure, view),
        columns=view.columns,
        choices=column_choices(board),
        tiers=[tier for tier in TIERS if any(entry.tier is tier for entry in evidence)],
        directions={item.id: item.direction for item in board.spec.metrics},
        tied=any(ranks[entry.submission].startswith("=") for entry in evidence),
    )


def row_view(
    board: BoardData,
    entry: LeaderboardEntry,
    view: View,
    axis: tuple[float, float],
    ranks: Mapping[str, str],
) -> RowView:
    """Returns a row as the table shows it."""
    claimed, claim = entry.tier is Tier.CLAIMED, None
    if not claimed and entry.score is not None and entry.claimed_score is not None:
        claim = entry.score - entry.claimed_score
    return RowView(
        entry,
        ranks[entry.submission],
        whisker.row(estimate(entry), axis, claim=claimed),
        claim,
        tuple(figure_of(board, entry, column) for column in view.columns),
    )
