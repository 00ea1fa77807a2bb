"""Predictions in a file: CSV, plain or gzipped, or Parquet, told apart by what the file holds and not by its name.

A table has one row an image, its name in the column `Image Index` or `image`, and one column a finding, `Mass` or
`prob_Mass`, in any order; `Pleural_Thickening` may be spelled with a space.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from cxreval.errors import CxrevalError, InvalidProbability, TableInvalid, UnknownFinding

MAX_ROWS = 10_000_000
"""Rows of a table; repeated ones count."""

_MAX_COLUMNS = 256
_IMAGE = ("Image Index", "image")
_NUMBER = r"(?i)^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$|^[+-]?(nan|inf|infinity)$"
_PARQUET, _GZIP = b"PAR1", b"\x1f\x8b"
_EXPECTED = "a number within [0, 1]"


def read_predictions(file: Path, findings: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
    """The images in the file's order and their probabilities, shape (images, findings), in the order of `findings`.

    Numbers are read as float64, checked, and rounded to float32, which is how the scoring service gets them. Rows are
    counted from 1, without a CSV file's header.

    Raises:
        TableInvalid: it cannot be read as a table, has no rows or more than 10 million, a column is missing, comes
            twice or holds no numbers, or a cell is empty or not a number.
        UnknownFinding: a column is neither the image nor a finding of the benchmark.
        InvalidProbability: a number is NaN, infinite or outside [0, 1].
    """
    try:
        with _opened(file) as (names, batches):
            places = _places(file, names, findings)
            return _collected(file, [names[place] for place in places], places, batches)
    except (OSError, pa.ArrowException) as error:
        raise TableInvalid(f"cannot read {file} as a table: {error}", file=file) from None


@contextmanager
def _opened(file: Path) -> Iterator[tuple[list[str], Iterable[pa.RecordBatch]]]:
    """Names of the columns, and the rows piece by piece."""
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == _PARQUET:
        with parquet.ParquetFile(file) as table:
            yield list(table.schema_arrow.names), table.iter_batches()
        return
    with pa.input_stream(file, compression="gzip" if start.startswith(_GZIP) else None) as stream:
        # Nothing is guessed: every cell is text, the header is the first row.
        texts = {f"f{i}": pa.string() for i in range(_MAX_COLUMNS)}
        reader = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(autogenerate_column_names=True),
            convert_options=csv.ConvertOptions(column_types=texts),
        )
        first = reader.read_next_batch()
        yield [str(column[0].as_py()) for column in first.columns], chain([first.slice(1)], reader)


def _places(file: Path, names: Sequence[str], findings: Sequence[str]) -> list[int]:
    """Where the image's column stands, and then each finding's."""
    if len(names) > _MAX_COLUMNS:
        expected = f"at most {_MAX_COLUMNS}"
        raise TableInvalid(f"{file} has {len(names)} columns; expected {expected}", file=file, expected=expected)
    meanings = dict.fromkeys(_IMAGE, _IMAGE[0])
    for finding in findings:
        for name in (finding, finding.replace("_", " ")):
            meanings |= {name: finding, f"prob_{name}": finding}
    unknown = [name for name in names if name not in meanings]
    if unknown:
        expected = f"{_IMAGE[0]!r} and the {len(findings)} findings of the benchmark"
        columns = _count(len(unknown), "unknown column")
        message = f"{file} has {columns}, the first is {unknown[0]!r}; expected {expected}"
        raise UnknownFinding(message, file=file, field=unknown[0], count=len(unknown), expected=expected)
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
    file: Path, names: Sequence[str], places: Sequence[int], batches: Iterable[pa.RecordBatch]
) -> tuple[list[str], NDArray[np.float32]]:
    images: list[str] = []
    pieces: list[NDArray[np.float32]] = []
    fault: _Fault | None = None
    for batch in batches:
        start = len(images)
        if start + batch.num_rows > MAX_ROWS:
            message = f"{file} has more than {MAX_ROWS} rows, which no table may have"
            raise TableInvalid(message, file=file, expected=f"at most {MAX_ROWS}")
        image_column, *columns = (batch.column(place) for place in places)
        images += _images(file, names[0], image_column, start)
        numbers = [_numbers(file, name, column) for name, column in zip(names[1:], columns, strict=True)]
        values = np.column_stack([column.to_numpy(zero_copy_only=False) for column in numbers])
        wrong = ~((values >= 0) & (values <= 1))  # True for NaN
        rows = np.flatnonzero(wrong.any(axis=1))
        if rows.size and fault is None:
            row, column = int(rows[0]), int(np.argmax(wrong[rows[0]]))
            error = InvalidProbability if numbers[column][row].is_valid else TableInvalid
            value = columns[column][row].as_py()
            fault = _Fault(error, start + row + 1, names[1 + column], images[start + row], value)
        if fault:
            fault.count += rows.size
        pieces.append(values.astype(np.float32))
    if fault:
        raise _error(file, fault)
    if not images:
        raise TableInvalid(f"{file} has no rows", file=file)
    return images, np.concatenate(pieces)


def _images(file: Path, name: str, column: pa.Array, start: int) -> list[str]:
    images: list[str | None] = column.cast(pa.string()).to_pylist()
    if None in images:
        row = start + images.index(None) + 1
        message = f"{file} row {row}: column {name!r} is empty; {_count(images.count(None), 'row')} without an image"
        raise TableInvalid(message, file=file, field=name, row=row)
    return [image for image in images if image is not None]


def _numbers(file: Path, name: str, column: pa.Array) -> pa.Array:
    """The column as float64, null where there is no number."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pc.if_else(pc.match_substring_regex(column, _NUMBER), column, None)
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise TableInvalid(f"{file}: column {name!r} holds {kind}; expected numbers", file=file, field=name)
    return column.cast(pa.float64())


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
