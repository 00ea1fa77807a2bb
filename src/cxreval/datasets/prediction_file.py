"""Predictions in a file: CSV, plain or gzipped, or Parquet, told apart by what the file holds and
not by its name.

A table has one row an image, its name in the column `Image Index` or `image`, and one column a
finding, `Mass` or `prob_Mass`, in any order; `Pleural_Thickening` may be spelled with a space.
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

from cxreval.errors import CxrevalError, InvalidProbability, TableInvalid, UnknownFinding
from cxreval.extras import require_extra
from cxreval.fields import shown

Cell = str | float | Decimal | None
"""What a table holds; None is an empty cell of Parquet."""

Places = Sequence[int]
"""Numbers of columns, from 0."""

Batches = Iterator[list[Sequence[Cell]]]
"""The rows in pieces, each as columns."""

MAX_ROWS = 10_000_000
"""Rows of a table; repeated ones count."""

MAX_CELL_BYTES = 255
"""Longest name of an image, as long as the name of a file may be, and longest number that is
text."""

_MAX_COLUMNS = 256
_ROW_BYTES = 4096
_SPARE_BYTES = 1 << 20  # headers, and what Parquet keeps beside its values
_IMAGE = ("Image Index", "image")
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
    """The images in the file's order and their probabilities, shape (images, findings), in the
    order of `findings`.

    Numbers are read as float64, checked, and rounded to float32, which is how the scoring service
    gets them. Rows are counted from 1, without a CSV file's header. Of a compressed file no more is
    unpacked than `most_rows` may take.

    Raises:
        TableInvalid: it cannot be read as a table, has no rows or more than `most_rows`, unpacks to
            more than 4 KiB for each of them, a column is missing, comes twice or holds no numbers,
            or a cell is empty, not a number or longer than 255 bytes.
        UnknownFinding: a column is neither the image nor a finding of the benchmark.
        InvalidProbability: a number is NaN, infinite or outside [0, 1].
        ExtraMissing: it is a Parquet file, and the extra `parquet` is not installed.
    """
    try:
        with _opened(file, most_rows) as (names, read):
            places = _places(file, names, findings)
            return _collected(file, [names[place] for place in places], read(places), most_rows)
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise TableInvalid(f"cannot read {file} as a table: {error}", file=file) from None


@contextmanager
def _opened(file: Path, most_rows: int) -> Iterator[tuple[list[str], Callable[[Places], Batches]]]:
    """Opens the file: the names of its columns, and a function that reads some of them."""
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
        yield names, lambda places: _csv_batches(file, rows, names, places)


def _csv_rows(
    file: Path, stream: BufferedIOBase, most_rows: int, most_bytes: int
) -> Iterator[list[str]]:
    """Yields the cells of each line that is not empty, the header's first."""
    reader = csv.reader(_lines(file, stream, most_bytes), strict=True)
    for line, cells in enumerate(reader):
        if line > 2 * most_rows + 1:
            expected = f"at most {most_rows} rows"
            message = f"{file} has more than {line} lines; expected {expected}"
            raise TableInvalid(message, file=file, expected=expected)
        if cells:
            yield cells


def _lines(file: Path, stream: BufferedIOBase, most_bytes: int) -> Iterator[str]:
    left, encoding = most_bytes, "utf-8-sig"
    while line := stream.readline(_LINE_BYTES + 1):
        left -= len(line)
        if left < 0:
            raise too_large(file, most_bytes)
        if len(line) > _LINE_BYTES:
            expected = f"at most {_LINE_BYTES} bytes in a line"
            message = f"{file} has a longer line; expected {expected}"
            raise TableInvalid(message, file=file, expected=expected)
        yield line.decode(encoding)
        encoding = "utf-8"


def _csv_batches(
    file: Path, rows: Iterator[list[str]], names: Sequence[str], places: Places
) -> Batches:
    start = 0
    while batch := list(islice(rows, _BATCH_ROWS)):
        for row, cells in enumerate(batch, start=start + 1):
            if len(cells) != len(names):
                expected = f"{len(names)}, as in the header"
                message = f"{file} row {row} has {len(cells)} cells; expected {expected}"
                raise TableInvalid(message, file=file, row=row, expected=expected)
        start += len(batch)
        columns = list(zip(*batch, strict=True))
        yield [columns[place] for place in places]


def too_large(file: Path, most_bytes: int) -> TableInvalid:
    """Returns the error of a file that unpacks to more than `most_bytes`."""
    expected = f"at most {most_bytes}"
    return TableInvalid(
        f"{file} unpacks to more bytes; expected {expected}", file=file, expected=expected
    )


def _places(file: Path, names: Sequence[str], findings: Sequence[str]) -> list[int]:
    """Where the image's column stands, and then each finding's."""
    if len(names) > _MAX_COLUMNS:
        expected = f"at most {_MAX_COLUMNS}"
        raise TableInvalid(
            f"{file} has {len(names)} columns; expected {expected}", file=file, expected=expected
        )
    meanings = dict.fromkeys(_IMAGE, _IMAGE[0])
    for finding in findings:
        for name in (finding, finding.replace("_", " ")):
            meanings |= {name: finding, f"prob_{name}": finding}
    unknown = [name for name in names if name not in meanings]
    if unknown:
        expected = f"{_IMAGE[0]!r} and the {len(findings)} findings of the benchmark"
        columns = _count(len(unknown), "unknown column")
        first = shown(unknown[0])
        message = f"{file} has {columns}, the first is {first!r}; expected {expected}"
        raise UnknownFinding(message, file=file, field=first, count=len(unknown), expected=expected)
    found = [meanings[name] for name in names]
    wanted = (_IMAGE[0], *findings)
    missing = [name for name in wanted if name not in found]
    if missing:
        message = f"{file} lacks {_count(len(missing), 'column')}, the first is {missing[0]!r}"
        raise TableInvalid(message, file=file, field=missing[0], count=len(missing))
    twice = [name for name in wanted if found.count(name) > 1]
    if twice:
        message = f"{file} has {_count(len(twice), 'column')} twice, the first is {twice[0]!r}"
        raise TableInvalid(message, file=file, field=twice[0], count=len(twice))
    return [found.index(name) for name in wanted]


@dataclass(slots=True)
class _Fault:
    """The first cell that is wrong, and how many rows have one."""

    error: type[CxrevalError]
    row: int
    column: str
    image: str
    value: object
    count: int = 0


def _collected(
    file: Path, names: Sequence[str], batches: Batches, most_rows: int
) -> tuple[list[str], NDArray[np.float32]]:
    images: list[str] = []
    pieces: list[NDArray[np.float32]] = []
    fault: _Fault | None = None
    for batch in batches:
        start = len(images)
        if start + len(batch[0]) > most_rows:
            message = f"{file} has more than {most_rows} rows, which is too many"
            raise TableInvalid(message, file=file, expected=f"at most {most_rows}")
        for name, cells in zip(names, batch, strict=True):
            _check_lengths(file, name, cells, start)
        images += _images(file, names[0], batch[0], start)
        columns = batch[1:]
        # None, for a cell that is no number, becomes NaN.
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
        pieces.append(values.astype(np.float32))
    if fault:
        raise _error(file, fault)
    if not images:
        raise TableInvalid(f"{file} has no rows", file=file)
    return images, np.concatenate(pieces)


def _check_lengths(file: Path, name: str, cells: Sequence[Cell], start: int) -> None:
    # A character has one byte at least and four at most.
    long = (cell for cell in cells if isinstance(cell, str) and len(cell) > MAX_CELL_BYTES // 4)
    longest = max((len(cell.encode()) for cell in long), default=0)
    if longest > MAX_CELL_BYTES:
        raise too_long(file, name, longest, start)


def too_long(file: Path, name: str, longest: int, start: int) -> TableInvalid:
    """Returns the error of a column with a cell that is too long, `start` rows or more after the
    first."""
    expected = f"at most {MAX_CELL_BYTES} bytes"
    message = (
        f"{file} row {start + 1} or after: column {name!r} has a cell of {longest} bytes; "
        f"expected {expected}"
    )
    return TableInvalid(message, file=file, field=name, expected=expected)


def _images(file: Path, name: str, cells: Sequence[Cell], start: int) -> list[str]:
    empty = sum(cell is None for cell in cells)
    if empty:
        row = start + list(cells).index(None) + 1
        rows = _count(empty, "row")
        message = f"{file} row {row}: column {name!r} is empty; {rows} without an image"
        raise TableInvalid(message, file=file, field=name, row=row)
    return [str(cell) for cell in cells]


def _number(cell: Cell) -> float | None:
    """The cell as float64, None where it is empty or no number."""
    if isinstance(cell, str):
        return float(cell) if _NUMBER.fullmatch(cell) else None
    return None if cell is None else float(cell)


def _error(file: Path, fault: _Fault) -> CxrevalError:
    value = "empty" if fault.value in (None, "") else repr(fault.value)[:80]
    return fault.error(
        f"{file} row {fault.row}, image {fault.image!r}: column {fault.column!r} is {value}; expected {_EXPECTED}; "
        f"{_count(fault.count, 'row')} with such a cell",
        field=fault.column,
        expected=_EXPECTED,
        file=file,
        row=fault.row,
        image=fault.image,
        value=value,
        count=fault.count,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
