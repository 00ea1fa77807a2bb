"""Reads predictions from CSV files, plain or gzipped, and from Parquet files.

The first bytes of a file, not its name, decide its format. A table has one row for each image. The
column `Image Index` or `image` holds the image's name. Each finding has one column, such as `Mass`
or `prob_Mass`, in any order; `Pleural_Thickening` may be spelled with a space.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from io import BufferedIOBase
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.columns import IMAGE, PREDICTION_PREFIX, SHORT_IMAGE
from cxreval.errors import CxrevalError, InvalidProbability, TableInvalid, UnknownFinding
from cxreval.extras import require_extra
from cxreval.fields import shown

Cell = str | float | Decimal | None
"""The value of a cell; None is an empty cell of a Parquet file."""

Columns = Sequence[int]
"""Numbers of columns, from 0."""

Batches = Iterator[list[Sequence[Cell]]]
"""The rows in batches; a batch is a list of columns."""

MAX_ROWS = 10_000_000
"""Maximum number of rows of a table, repeated ones included."""

MAX_CELL_BYTES = 255
"""Maximum length of a cell of text, in bytes: that of a file name."""

_MAX_COLUMNS = 256
_ROW_BYTES = 4096
_SPARE_BYTES = 1 << 20  # for headers and the metadata of Parquet
_LINE_BYTES = 1 << 20
_BATCH_ROWS = 10_000
_NUMBER = re.compile(
    r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE | re.ASCII
)
_PARQUET, _GZIP = b"PAR1", b"\x1f\x8b"
_EXPECTED = "a number within [0, 1]"


def read_predictions(
    file: Path, findings: Sequence[str], most_rows: int = MAX_ROWS
) -> tuple[list[str], NDArray[np.float32]]:
    """Returns the images of a predictions file, in the file's order, and their probabilities.

    The probabilities have shape (images, findings), float32, columns in the order of `findings`.
    Numbers are read as float64, checked, and rounded to float32, the type that the scoring service
    takes. Messages count rows from 1, without the header of a CSV file. At most 4 KiB are unpacked
    for each of `most_rows` rows.

    Raises:
        TableInvalid: the file cannot be read as a table, has no rows or more than `most_rows`, or
            unpacks to more bytes than that; a column is missing, repeated or not of numbers; or a
            cell is empty, not a number or longer than 255 bytes.
        UnknownFinding: a column is neither the image nor a finding of the benchmark.
        InvalidProbability: a number is NaN, infinite or outside [0, 1].
        ExtraMissing: it is a Parquet file, and the extra `parquet` is not installed.
    """
    try:
        with _opened(file, most_rows) as (names, read):
            columns = _columns(file, names, findings)
            batches = read(columns)
            return _collected(file, [names[column] for column in columns], batches, most_rows)
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise TableInvalid(f"cannot read {file} as a table: {error}", file=file) from None


@contextmanager
def _opened(file: Path, most_rows: int) -> Iterator[tuple[list[str], Callable[[Columns], Batches]]]:
    """Opens a file; yields the names of its columns and a function that reads some columns."""
    with file.open("rb") as stream:
        start = stream.read(4)
    most_bytes = most_rows * _ROW_BYTES + _SPARE_BYTES
    if start == _PARQUET:
        require_extra("parquet", f"reading the Parquet file {file}", "pyarrow")
        from cxreval.datasets.parquet_file import opened  # noqa: PLC0415 -- needs the extra

        with opened(file, most_bytes) as table:
            yield table
        return
    compressed = start.startswith(_GZIP)
    with gzip.open(file, "rb") if compressed else file.open("rb") as stream:
        rows = _csv_rows(file, stream, most_rows, most_bytes)
        names = next(rows, [])
        yield names, lambda columns: _csv_batches(file, rows, names, columns)


def _csv_rows(
    file: Path, stream: BufferedIOBase, most_rows: int, most_bytes: int
) -> Iterator[list[str]]:
    """Yields the cells of each line that is not empty, first those of the header."""
    reader = csv.reader(_lines(file, stream, most_bytes), strict=True)
    for line, cells in enumerate(reader):
        if line > 2 * most_rows + 1:
            expected = f"at most {most_rows} rows"
            message = f"{file} has more than {line} lines; expected {expected}"
            raise TableInvalid(message, file=file, expected=expected)
        if cells:
            yield cells


def _lines(file: Path, stream: BufferedIOBase, most_bytes: int) -> Iterator[str]:
    """Yields the lines of a file as text. Raises `TableInvalid` above a limit on bytes."""
    left, encoding = most_bytes, "utf-8-sig"
    while line := stream.readline(_LINE_BYTES + 1):
        left -= len(line)
        if left < 0:
            raise too_large(file, most_bytes)
        if len(line) > _LINE_BYTES:
            expected = f"at most {_LINE_BYTES} bytes in a line"
            message = f"{file} has a line that is too long; expected {expected}"
            raise TableInvalid(message, file=file, expected=expected)
        yield line.decode(encoding)
        encoding = "utf-8"


def _csv_batches(
    file: Path, rows: Iterator[list[str]], names: Sequence[str], columns: Columns
) -> Batches:
    """Yields some columns of the rows, batch by batch."""
    start = 0
    while batch := list(islice(rows, _BATCH_ROWS)):
        for row, cells in enumerate(batch, start=start + 1):
            if len(cells) != len(names):
                expected = f"{len(names)}, as in the header"
                message = f"{file} row {row} has {len(cells)} cells; expected {expected}"
                raise TableInvalid(message, file=file, row=row, expected=expected)
        start += len(batch)
        cells_by_column = list(zip(*batch, strict=True))
        yield [cells_by_column[column] for column in columns]


def too_large(file: Path, most_bytes: int) -> TableInvalid:
    """Returns the error for a file that unpacks to more than `most_bytes` bytes."""
    expected = f"at most {most_bytes}"
    return TableInvalid(
        f"{file} unpacks to too many bytes; expected {expected}", file=file, expected=expected
    )


def _columns(file: Path, names: Sequence[str], findings: Sequence[str]) -> list[int]:
    """Returns the number of the image column, then that of each finding's column.

    Raises:
        UnknownFinding: a column is neither the image nor a finding.
        TableInvalid: there are too many columns, or one is missing or repeated.
    """
    if len(names) > _MAX_COLUMNS:
        expected = f"at most {_MAX_COLUMNS}"
        raise TableInvalid(
            f"{file} has {len(names)} columns; expected {expected}", file=file, expected=expected
        )
    meanings = dict.fromkeys((IMAGE, SHORT_IMAGE), IMAGE)
    for finding in findings:
        for name in (finding, finding.replace("_", " ")):
            meanings |= {name: finding, f"{PREDICTION_PREFIX}{name}": finding}
    unknown = [name for name in names if name not in meanings]
    if unknown:
        expected = f"{IMAGE!r} and the {len(findings)} findings of the benchmark"
        count = _count(len(unknown), "unknown column")
        first = shown(unknown[0])
        message = f"{file} has {count}, the first is {first!r}; expected {expected}"
        raise UnknownFinding(message, file=file, field=first, count=len(unknown), expected=expected)
    present = [meanings[name] for name in names]
    wanted = (IMAGE, *findings)
    missing = [name for name in wanted if name not in present]
    if missing:
        message = f"{file} lacks {_count(len(missing), 'column')}, the first is {missing[0]!r}"
        raise TableInvalid(message, file=file, field=missing[0], count=len(missing))
    repeated = [name for name in wanted if present.count(name) > 1]
    if repeated:
        message = (
            f"{file} has {_count(len(repeated), 'column')} twice, the first is {repeated[0]!r}"
        )
        raise TableInvalid(message, file=file, field=repeated[0], count=len(repeated))
    return [present.index(name) for name in wanted]


@dataclass(slots=True)
class _Fault:
    """The first invalid cell of a file, and the number of rows that have one."""

    error: type[CxrevalError]
    row: int
    column: str
    image: str
    value: object
    count: int = 0


def _collected(
    file: Path, names: Sequence[str], batches: Batches, most_rows: int
) -> tuple[list[str], NDArray[np.float32]]:
    """Returns the images and probabilities of all batches, as `read_predictions` does."""
    images: list[str] = []
    checked: list[NDArray[np.float32]] = []
    fault: _Fault | None = None
    for batch in batches:
        start = len(images)
        if start + len(batch[0]) > most_rows:
            expected = f"at most {most_rows}"
            message = f"{file} has more than {most_rows} rows; expected {expected}"
            raise TableInvalid(message, file=file, expected=expected)
        for name, cells in zip(names, batch, strict=True):
            _check_lengths(file, name, cells, start)
        images += _images(file, names[0], batch[0], start)
        columns = batch[1:]
        # NumPy makes NaN of None, which stands for a cell without a number.
        values = np.array([[_number(cell) for cell in column] for column in columns], np.float64).T
        wrong = ~((values >= 0) & (values <= 1))  # True for NaN
        rows = np.flatnonzero(wrong.any(axis=1))
        if rows.size and fault is None:
            row, column = int(rows[0]), int(np.argmax(wrong[rows[0]]))
            value = columns[column][row]
            error = TableInvalid if _number(value) is None else InvalidProbability
            fault = _Fault(error, start + row + 1, names[1 + column], images[start + row], value)
        if fault:
            fault.count += rows.size
        checked.append(values.astype(np.float32))
    if fault:
        raise _error(file, fault)
    if not images:
        raise TableInvalid(f"{file} has no rows", file=file)
    return images, np.concatenate(checked)


def _check_lengths(file: Path, name: str, cells: Sequence[Cell], start: int) -> None:
    """Raises `TableInvalid` if a cell of a column is too long."""
    # A character has at most four bytes, so shorter texts need not be encoded.
    long = (cell for cell in cells if isinstance(cell, str) and len(cell) > MAX_CELL_BYTES // 4)
    longest = max((len(cell.encode()) for cell in long), default=0)
    if longest > MAX_CELL_BYTES:
        raise too_long(file, name, longest, start)


def too_long(file: Path, name: str, longest: int, start: int) -> TableInvalid:
    """Returns the error for a column with a cell of too many bytes.

    `start`: number of rows before the batch that has the cell.
    """
    expected = f"at most {MAX_CELL_BYTES} bytes"
    message = (
        f"{file} row {start + 1} or after: column {name!r} has a cell of {longest} bytes; "
        f"expected {expected}"
    )
    return TableInvalid(message, file=file, field=name, expected=expected)


def _images(file: Path, name: str, cells: Sequence[Cell], start: int) -> list[str]:
    """Returns the image names of a batch. Raises `TableInvalid` if one is missing."""
    empty = sum(cell is None for cell in cells)
    if empty:
        row = start + list(cells).index(None) + 1
        rows = _count(empty, "row")
        message = f"{file} row {row}: column {name!r} is empty; {rows} without an image"
        raise TableInvalid(message, file=file, field=name, row=row)
    return [str(cell) for cell in cells]


def _number(cell: Cell) -> float | None:
    """Returns the number in a cell; None if the cell is empty or not a number."""
    if isinstance(cell, str):
        return float(cell) if _NUMBER.fullmatch(cell) else None
    return None if cell is None else float(cell)


def _error(file: Path, fault: _Fault) -> CxrevalError:
    """Returns the error for the first invalid cell."""
    value = "empty" if fault.value in (None, "") else repr(fault.value)[:80]
    return fault.error(
        f"{file} row {fault.row}, image {fault.image!r}: column {fault.column!r} is {value}; "
        f"expected {_EXPECTED}; {_count(fault.count, 'row')} with such a cell",
        field=fault.column,
        expected=_EXPECTED,
        file=file,
        row=fault.row,
        image=fault.image,
        value=value,
        count=fault.count,
    )


def _count(number: int, noun: str) -> str:
    """Returns the number with its noun, in the plural unless it is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
