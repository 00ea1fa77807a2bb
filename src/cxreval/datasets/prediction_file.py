"""Reads predictions from CSV files, plain or gzipped, and from Parquet files.

The first bytes of a file, not its name, decide its format. A table has one row for each image. The
column `Image Index` or `image` holds the image's name. Each finding has one column, such as `Mass`
or `prob_Mass`, in any order; `Pleural_Thickening` may be spelled with a space. A table need not
have a column for each finding of the benchmark, but at least for one.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from itertools import islice
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets import parquet_file
from cxreval.datasets.columns import IMAGE, PREDICTION_PREFIX, SHORT_IMAGE
from cxreval.datasets.gzip_file import GzipReader
from cxreval.datasets.table_limits import (
    MAX_CELL_BYTES,
    MAX_LINE_BYTES,
    MAX_ROWS,
    check_columns,
    check_rows,
    most_bytes,
    too_large,
    too_long,
)
from cxreval.errors import CxrevalError, InvalidProbability, TableInvalid, UnknownFinding
from cxreval.fields import shown
from cxreval.metrics.predictions import likely_cause

_BATCH_ROWS = 1000
# No digit can match in two places, so a cell that does not match takes no quadratic time.
_NUMBER = re.compile(
    r"[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE | re.ASCII
)
_PARQUET, _GZIP = b"PAR1", b"\x1f\x8b"
_EXPECTED = "a number within [0, 1]"


def read_predictions(
    file: Path, findings: Sequence[str], most_rows: int = MAX_ROWS
) -> tuple[list[str], NDArray[np.float32], tuple[str, ...]]:
    """Returns the images of a predictions file, their probabilities, and the findings it covers.

    The images are in the file's order, the covered findings in the order of `findings`. The
    probabilities have shape (images, covered findings), float32. Numbers are read as float64,
    checked, and rounded to float32, the type that the scoring service takes. Messages count rows
    from 1, without the header of a CSV file. At most 4 KiB are unpacked for each of `most_rows`
    rows.

    Raises:
        TableInvalid: the file cannot be read as a table, has no rows or more than `most_rows`, or
            unpacks to more bytes than that; it has no column of images or no finding; a column is
            repeated or not of numbers; or a cell is empty, not a number or longer than 255 bytes.
        UnknownFinding: a column is neither the image nor a finding of the benchmark.
        InvalidProbability: a number is NaN, infinite or outside [0, 1].
        ExtraMissing: it is a Parquet file, and the extra `parquet` is not installed.
    """
    try:
        with _opened(file, most_rows) as text:
            rows = _rows(file, text, most_rows)
            names = next(rows, [])
            columns = _columns(file, names, findings)
            images, probabilities = _collected(file, names, [*columns.values()], rows, most_rows)
            return images, probabilities, tuple(columns)[1:]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TableInvalid(f"cannot read {file} as a table: {error}", file=file) from None


@contextmanager
def _opened(file: Path, most_rows: int) -> Iterator[IO[bytes]]:
    """Opens a file of any of the formats as the text of a CSV file."""
    size, limit = file.stat().st_size, most_bytes(most_rows)
    if size > limit:
        expected = f"at most {limit}"
        message = f"{file} has {size} bytes; expected {expected}"
        raise TableInvalid(message, file=file, expected=expected)
    with file.open("rb") as stream:
        start = stream.read(4)
        stream.seek(0)
        if start == _PARQUET:
            with parquet_file.as_csv(file, most_rows) as text:
                yield text
        elif start.startswith(_GZIP):
            with BufferedReader(cast("RawIOBase", GzipReader(stream))) as text:
                yield text
        else:
            yield stream


def _rows(file: Path, stream: IO[bytes], most_rows: int) -> Iterator[list[str]]:
    """Yields the cells of each line that is not empty, first those of the header.

    No cell of a valid table has a line break, so each line is a row. That bounds the cells which
    are in memory before they are counted.

    Raises:
        TableInvalid: there are too many lines or columns, a quote is not closed in its line, a
            row does not have as many cells as the header, or a cell is too long.
    """
    row, names = 0, None
    for number, line in enumerate(_lines(file, stream, most_rows), start=1):
        if number > 2 * most_rows + 2:
            expected = f"at most {most_rows} rows"
            message = f"{file} has more than {number - 1} lines; expected {expected}"
            raise TableInvalid(message, file=file, expected=expected)
        try:
            cells = next(csv.reader((line,), strict=True))
        except csv.Error as error:
            raise _not_csv(file, number, line, error) from None
        if not cells:
            continue
        if names is None:
            names = cells
            check_columns(file, len(names))
        if len(cells) != len(names):
            expected = f"{len(names)}, as in the header"
            message = f"{file} row {row} has {len(cells)} cells; expected {expected}"
            raise TableInvalid(message, file=file, row=row, expected=expected)
        # A character has at most four bytes, so shorter texts need not be encoded.
        if max(map(len, cells)) > MAX_CELL_BYTES // 4:
            _check_lengths(file, row, names, cells)
        row += 1
        yield cells


def _not_csv(file: Path, number: int, line: str, error: csv.Error) -> TableInvalid:
    """Returns the error for a line that is not valid CSV."""
    start = f"cannot read {file} as a table: line {number}"
    if "\r" in line.rstrip("\r\n"):
        expected = "lines that end with LF or CRLF"
        message = f"{start} has a carriage return (CR) inside; expected {expected}"
        return TableInvalid(message, file=file, line=number, expected=expected)
    return TableInvalid(f"{start}: {error}", file=file, line=number)


def _check_lengths(file: Path, row: int, names: Sequence[str], cells: Sequence[str]) -> None:
    """Raises `TableInvalid` if a cell is too long. Row 0 is the header."""
    for name, cell in zip(names, cells, strict=True):
        size = len(cell.encode())
        if size > MAX_CELL_BYTES:
            raise too_long(file, f"row {row}" if row else "header", name, size)


def _lines(file: Path, stream: IO[bytes], most_rows: int) -> Iterator[str]:
    """Yields the lines of a file as text. Raises `TableInvalid` above a limit on bytes."""
    limit = most_bytes(most_rows)
    left, encoding = limit, "utf-8-sig"
    while line := stream.readline(MAX_LINE_BYTES + 1):
        left -= len(line)
        if left < 0:
            raise too_large(file, limit)
        if len(line) > MAX_LINE_BYTES:
            expected = f"at most {MAX_LINE_BYTES} bytes in a line"
            message = f"{file} has a line that is too long; expected {expected}"
            raise TableInvalid(message, file=file, expected=expected)
        yield line.decode(encoding)
        encoding = "utf-8"


def _columns(file: Path, names: Sequence[str], findings: Sequence[str]) -> dict[str, int]:
    """Returns the number of the image column, then that of each finding that has a column.

    Raises:
        UnknownFinding: a column is neither the image nor a finding.
        TableInvalid: one is repeated, or there is no image column or no finding.
    """
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
    covered = [finding for finding in findings if finding in present]
    if IMAGE not in present:
        raise TableInvalid(f"{file} lacks the column {IMAGE!r}", file=file, field=IMAGE)
    if not covered:
        expected = f"at least one of {', '.join(findings)}"
        message = f"{file} has no column of a finding; expected {expected}"
        raise TableInvalid(message, file=file, expected=expected)
    repeated = [name for name in (IMAGE, *covered) if present.count(name) > 1]
    if repeated:
        message = (
            f"{file} has {_count(len(repeated), 'column')} twice, the first is {repeated[0]!r}"
        )
        raise TableInvalid(message, file=file, field=repeated[0], count=len(repeated))
    return {name: present.index(name) for name in (IMAGE, *covered)}


@dataclass(slots=True)
class _Fault:
    """The first invalid cell of a file, and the number of rows that have one."""

    error: type[CxrevalError]
    row: int
    column: str
    image: str
    value: str
    count: int = 0


def _collected(
    file: Path,
    header: Sequence[str],
    columns: Sequence[int],
    rows: Iterator[Sequence[str]],
    most_rows: int,
) -> tuple[list[str], NDArray[np.float32]]:
    """Returns the images and probabilities of all rows, as `read_predictions` does.

    `columns`: the number of the image column, then that of each covered finding's column.
    """
    names = [header[column] for column in columns]
    images: list[str] = []
    checked: list[NDArray[np.float32]] = []
    fault: _Fault | None = None
    while batch := list(islice(rows, _BATCH_ROWS)):
        start = len(images)
        check_rows(file, start + len(batch), most_rows)
        by_column = list(zip(*batch, strict=True))
        texts = [by_column[column] for column in columns]
        _check_images(file, names[0], texts[0], start)
        images += texts[0]
        # NumPy makes NaN of None, which stands for a cell without a number.
        values = np.array([[_number(cell) for cell in cells] for cells in texts[1:]], np.float64).T
        wrong = ~((values >= 0) & (values <= 1))  # True for NaN
        faulty = np.flatnonzero(wrong.any(axis=1))
        if faulty.size and fault is None:
            row, column = int(faulty[0]), 1 + int(np.argmax(wrong[faulty[0]]))
            value = texts[column][row]
            error = TableInvalid if _number(value) is None else InvalidProbability
            fault = _Fault(error, start + row + 1, names[column], images[start + row], value)
        if fault:
            fault.count += faulty.size
        checked.append(values.astype(np.float32))
    if fault:
        raise _error(file, fault)
    if not images:
        raise TableInvalid(f"{file} has no rows", file=file)
    return images, np.concatenate(checked)


def _check_images(file: Path, name: str, cells: Sequence[str], start: int) -> None:
    """Raises `TableInvalid` if an image of a batch has no name."""
    empty = cells.count("")
    if empty:
        row = start + cells.index("") + 1
        rows = _count(empty, "row")
        message = f"{file} row {row}: column {name!r} is empty; {rows} without an image"
        raise TableInvalid(message, file=file, field=name, row=row)


def _number(cell: str) -> float | None:
    """Returns the number in a cell; None if the cell is empty or not a number."""
    return float(cell) if _NUMBER.fullmatch(cell) else None


def _error(file: Path, fault: _Fault) -> CxrevalError:
    """Returns the error for the first invalid cell."""
    value = repr(fault.value)[:80] if fault.value else "empty"
    number = _number(fault.value)
    cause = "" if number is None else f"; {likely_cause(np.array([number]))}"
    cure = "" if fault.value else "; leave out the column of a finding that the model lacks"
    return fault.error(
        f"{file} row {fault.row}, image {fault.image!r}: column {fault.column!r} is {value}; "
        f"expected {_EXPECTED}; {_count(fault.count, 'row')} with such a cell{cause}{cure}",
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
