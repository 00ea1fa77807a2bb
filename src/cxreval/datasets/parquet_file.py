"""Predictions in a Parquet file. Needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from cxreval.datasets.prediction_file import MAX_CELL_BYTES, Batches, Places, too_large, too_long
from cxreval.errors import TableInvalid


@contextmanager
def opened(file: Path, most_bytes: int) -> Iterator[tuple[list[str], Callable[[Places], Batches]]]:
    """Opens the file: the names of its columns, and a function that reads some of them.

    The first of the columns that are read is the image's and holds text; the others hold numbers,
    or text.

    Raises:
        TableInvalid: it cannot be read, or unpacks to more than `most_bytes`. The function: a
            column holds something else, or a cell is too long or not UTF-8.
    """
    try:
        metadata = parquet.read_metadata(file)
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > most_bytes:
            raise too_large(file, most_bytes)
        # A text that many rows share is kept once until its length is known: 50 KB in each of
        # 20,000 rows would be 1 GB.
        paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        with parquet.ParquetFile(file, metadata=metadata, read_dictionary=paths) as table:
            yield table.schema_arrow.names, lambda places: _batches(file, table, places)
    except pa.ArrowException as error:
        raise TableInvalid(f"cannot read {file} as a table: {error}", file=file) from None


def _batches(file: Path, table: parquet.ParquetFile, places: Places) -> Batches:
    fields = [table.schema_arrow.field(place) for place in places]
    _check_kinds(file, fields)
    start = 0
    for batch in table.iter_batches():
        for field, place in zip(fields, places, strict=True):
            _check_text(file, field.name, batch.column(place), start)
        yield [batch.column(place).to_pylist() for place in places]
        start += batch.num_rows


def _check_kinds(file: Path, fields: list[pa.Field]) -> None:
    """Before anything is read: the size of what is neither text nor a number is unknown."""
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


def _check_text(file: Path, name: str, column: pa.Array, start: int) -> None:
    """Before a text is copied into every row that has it: it is short, and UTF-8."""
    if not _is_text(column.type):
        return
    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > MAX_CELL_BYTES:
        raise too_long(file, name, longest, start)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        message = (
            f"{file} row {start + 1} or after: column {name!r} holds no text: {error}; "
            "expected UTF-8"
        )
        raise TableInvalid(message, file=file, field=name, expected="UTF-8") from None
