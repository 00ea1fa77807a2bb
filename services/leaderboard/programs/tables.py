"""The rows of a board as a table: CSV that is safe to open in a spreadsheet, and Parquet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from cxreval.client import LeaderboardEntry
from cxreval.metrics.registry import METRICS
from cxreval.records import Tier
from services.leaderboard.data import Figure, figure_key
from services.leaderboard.lookup import find_board
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import TooLarge
from services.leaderboard.programs.answers import rfc3339, utc
from services.leaderboard.programs.entries import choose
from services.leaderboard.programs.rows import Figures, figures_of
from services.leaderboard.programs.text import one_line
from services.leaderboard.selection import FILTERS
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import https_only

MAX_ROWS = 10_000
_ABSENT = Figure(None)

Cell = str | int | float | bool | datetime | None
Row = tuple[LeaderboardEntry, Figures]

# A spreadsheet takes a cell that begins so for a formula. It may split cells at other separators
# than the comma, or at a quotation mark that it does not expect (OWASP, CSV Injection).
_FORMULA = re.compile(r'(^|[,;|"])(\s*[=+\-@＝＋－＠])')  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, the type of its cells, and how a row gives one. None is an empty cell."""

    name: str
    kind: type[str | int | float | bool | datetime]
    cell: Callable[[Row], Cell]


def _of_entry(name: str, kind: type[str | int | float | bool | datetime], path: str = "") -> Column:
    """Returns the column of an attribute of the row; `path` names one that a part of it has."""
    whole, _, part = (path or name).partition(".")

    def cell(row: Row) -> Cell:
        value = getattr(row[0], whole)
        if part and value is not None:
            value = getattr(value, part)
        found: Cell = value if value != "" else None
        return found

    return Column(name, kind, cell)


_COLUMNS = (
    _of_entry("submission", str),
    _of_entry("model", str),
    _of_entry("organisation", str),
    _of_entry("tier", str),
    _of_entry("kind", str),
    _of_entry("record", bool, "sota"),
    _of_entry("rank", int),
    _of_entry("rank_low", int, "spread.rank_low"),
    _of_entry("rank_high", int, "spread.rank_high"),
    _of_entry("first_share", float, "spread.first_share"),
    _of_entry("rank_undefined_reason", str),
    _of_entry("score", float),
    _of_entry("score_low", float, "interval.low"),
    _of_entry("score_high", float, "interval.high"),
    _of_entry("score_standard_error", float, "interval.standard_error"),
    _of_entry("interval_undefined_reason", str),
    _of_entry("claimed_score", float),
    _of_entry("open_source", bool),
    _of_entry("disputed", bool),
    _of_entry("source_kind", str),
    Column("source_url", str, lambda row: https_only(row[0].source_url) or None),
    _of_entry("submitted_date", str),
    Column("publish_time", datetime, lambda row: utc(row[0].publish_time)),
    _of_entry("note", str),
    _of_entry("evaluation", str),
    _of_entry("training_verdict", str),
    _of_entry("overlap_images", int),
    _of_entry("overlap_patients", int),
    _of_entry("clean_score", float),
    _of_entry("clean_score_low", float, "clean_interval.low"),
    _of_entry("clean_score_high", float, "clean_interval.high"),
)
"""Columns of every board; those of `figure_columns` follow."""


def table_csv(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the rows as CSV: a line for each, numbers in full precision, no value as no text."""
    name, columns, rows = _table(data, path, given)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([column.name for column in columns])
    writer.writerows([[_written(column.cell(row)) for column in columns] for row in rows])
    return Content(text.getvalue(), "text/csv; charset=utf-8", headers=_file(f"{name}.csv"))


def table_parquet(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the rows as a Parquet file with the columns of the CSV."""
    # 40 MB of memory, which a site does not need before somebody asks.
    import pyarrow  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    name, columns, rows = _table(data, path, given)
    types = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
        datetime: pyarrow.timestamp("us", "UTC"),
    }
    table = pyarrow.table(
        {
            column.name: pyarrow.array([column.cell(row) for row in rows], types[column.kind])
            for column in columns
        }
    )
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd")
    headers = _file(f"{name}.parquet")
    return Content(file.getvalue(), "application/vnd.apache.parquet", headers=headers)


def formula_safe(text: str) -> str:
    """Returns a text in one line that no spreadsheet takes for a formula: `'` stands before it."""
    return _FORMULA.sub(r"\1'\2", one_line(text))


def _table(
    data: SiteData, path: dict[str, str], given: Given
) -> tuple[str, list[Column], list[Row]]:
    """Returns the name of a board, the columns of its table, and the rows that were asked for."""
    board = find_board(data, path["benchmark"])
    rows = choose(data, board, Parameters(given, FILTERS, {"tier": len(Tier)})).rows
    if len(rows) > MAX_ROWS:
        raise TooLarge(len(rows), MAX_ROWS)
    columns = [*_COLUMNS, *_figure_columns(board.spec.findings)]
    return board.name, columns, list(zip(rows, figures_of(data, board, rows), strict=True))


def _figure_columns(findings: Sequence[str]) -> list[Column]:
    """Returns the columns of every metric: its mean over the findings, then each finding.

    The name of a finding has no `|`, so that no two columns have one name.
    """
    return [
        Column(figure_key(metric + suffix, finding) if finding else metric + suffix, float, cell)
        for metric in METRICS
        for finding in ("", *findings)
        for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high"))
        for cell in [partial(_figure, figure_key(metric, finding), part)]
    ]


def _figure(key: str, part: str, row: Row) -> float | None:
    value: float | None = getattr(row[1].get(key, _ABSENT), part)
    return value


def _written(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int | float):
        return repr(cell)
    if isinstance(cell, datetime):
        return rfc3339(cell)
    return formula_safe(cell or "")


def _file(name: str) -> tuple[tuple[str, str], ...]:
    """Returns the header by which a browser stores an answer under a name."""
    return (("Content-Disposition", f'attachment; filename="{name}"'),)
