"""Predictions in a file: CSV, plain or gzipped, or Parquet, told apart by what the file holds and
not by its name.

A table has one row an image, its name in the column `Image Index` or `image`, and one column a
finding, `Mass` or `prob_Mass`, in any order; `Pleural_Thickening` may be spelled with a space.
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
from cxreval.fields import shown

MAX_ROWS = 10_000_000
"""Rows of a table; repeated ones count."""

MAX_CELL_BYTES = 255
"""Longest name of an image, as long as the name of a file may be, and longest number that is
text."""

_MAX_COLUMNS = 256
_ROW_BYTES = 4096
_SPARE_BYTES = 1 << 20  # headers, and what Parquet keeps beside its values
_IMAGE = ("Image Index", "image")
_NUMBER = r"(?i)^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$|^[+-]?(nan|inf|infinity)$"
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
    """
    try:
        with _opened(file, most_rows * _ROW_BYTES + _SPARE_BYTES) as (schema, batches):
            places = _places(file, schema.names, findings)
            fields = [schema.field(place) for place in places]
            _check_kinds(file, fields)
            return _collected(file, [field.name for field in fields], places, batches, most_rows)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise TableInvalid(f"cannot read {file} as a table: {error}", file=file) from None


@contextmanager
def _opened(file: Path, most_bytes: int) -> Iterator[tuple[pa.Schema, Iterable[pa.RecordBatch]]]:
    """Names and kinds of the columns, and the rows piece by piece."""
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == _PARQUET:
        metadata = parquet.read_metadata(file)
        _check_size(file, metadata, most_bytes)
        # A text that many rows share stays one until its length is known: 50 KB in each of 20,000
        # rows would be 1 GB.
        paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        with parquet.ParquetFile(file, metadata=metadata, read_dictionary=paths) as table:
            yield table.schema_arrow, table.iter_batches()
        return
    with pa.input_stream(file, compression="gzip" if start.startswith(_GZIP) else None) as unpacked:
        # Nothing is guessed: every cell is text, the header is the first row.
        texts = {f"f{i}": pa.string() for i in range(_MAX_COLUMNS)}
        reader = csv.open_csv(
            pa.PythonFile(_Bounded(file, unpacked, most_bytes), mode="r"),
            read_options=csv.ReadOptions(autogenerate_column_names=True),
            convert_options=csv.ConvertOptions(column_types=texts),
        )
        first = reader.read_next_batch()
        schema = pa.schema([(str(column[0].as_py()), column.type) for column in first.columns])
        yield schema, chain([first.slice(1)], reader)


def _check_size(file: Path, metadata: parquet.FileMetaData, most_bytes: int) -> None:
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    if sum(group.total_byte_size for group in groups) > most_bytes:
        raise _too_large(file, most_bytes)


class _Bounded:
    """A stream that ends in an error after `most_bytes`. Lines end at 1 MiB, the size of the
    reader's block."""

    closed = False

    def __init__(self, file: Path, stream: pa.NativeFile, most_bytes: int) -> None:
        self._file, self._stream, self._left, self._most = file, stream, most_bytes, most_bytes

    def read(self, size: int) -> bytes:
        found: bytes = self._stream.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise _too_large(self._file, self._most)
        return found


def _too_large(file: Path, most_bytes: int) -> TableInvalid:
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


def _check_kinds(file: Path, fields: Sequence[pa.Field]) -> None:
    """Before anything is read: of what is no text and no number nobody knows how much it takes."""
    for place, field in enumerate(fields):
        kind = field.type
        number = (
            pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        )
        if not (_is_text(kind) or (place and number)):
            expected = "numbers" if place else "text"
            message = f"{file}: column {field.name!r} holds {kind}; expected {expected}"
            raise TableInvalid(message, file=file, field=field.name, expected=expected)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind))


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
    file: Path,
    names: Sequence[str],
    places: Sequence[int],
    batches: Iterable[pa.RecordBatch],
    most_rows: int,
) -> tuple[list[str], NDArray[np.float32]]:
    images: list[str] = []
    pieces: list[NDArray[np.float32]] = []
    fault: _Fault | None = None
    for batch in batches:
        start = len(images)
        if start + batch.num_rows > most_rows:
            message = f"{file} has more than {most_rows} rows, which is too many"
            raise TableInvalid(message, file=file, expected=f"at most {most_rows}")
        image_column, *columns = (
            _plain(file, name, batch.column(place), start)
            for name, place in zip(names, places, strict=True)
        )
        images += _images(file, names[0], image_column, start)
        numbers = [_numbers(column) for column in columns]
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


def _plain(file: Path, name: str, column: pa.Array, start: int) -> pa.Array:
    """The column, of text with every row's own: valid and short."""
    if not _is_text(column.type):
        return column
    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > MAX_CELL_BYTES:
        expected = f"at most {MAX_CELL_BYTES} bytes"
        message = f"{file} row {start + 1} or after: column {name!r} has a cell of {longest} bytes; expected {expected}"
        raise TableInvalid(message, file=file, field=name, expected=expected)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        message = f"{file} row {start + 1} or after: column {name!r} holds no text: {error}; expected UTF-8"
        raise TableInvalid(message, file=file, field=name, expected="UTF-8") from None
    return column.dictionary_decode() if texts is not column else column


def _images(file: Path, name: str, column: pa.Array, start: int) -> list[str]:
    images: list[str | None] = column.to_pylist()
    if None in images:
        row = start + images.index(None) + 1
        message = f"{file} row {row}: column {name!r} is empty; {_count(images.count(None), 'row')} without an image"
        raise TableInvalid(message, file=file, field=name, row=row)
    return [image for image in images if image is not None]


def _numbers(column: pa.Array) -> pa.Array:
    """The column as float64, null where there is no number."""
    if _is_text(column.type):
        column = pc.if_else(pc.match_substring_regex(column, _NUMBER), column, None)
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
