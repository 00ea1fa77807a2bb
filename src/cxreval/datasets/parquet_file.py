"""Reads predictions from Parquet files. Needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from cxreval.datasets.prediction_file import MAX_CELL_BYTES, Batches, Columns, too_large, too_long
from cxreval.errors import TableInvalid


@contextmanager
def opened(file: Path, most_bytes: int) -> Iterator[tuple[list[str], Callable[[Columns], Batches]]]:
    """Opens a Parquet file; yields the names of its columns and a function that reads some columns.

    The function takes the columns' numbers. The first of them is the image column and holds text;
    the others hold numbers or text.

    Raises:
        TableInvalid: the file cannot be read, or unpacks to more than `most_bytes`. The function
            raises it for a column of another type and for a cell that is too long or not UTF-8.
    """
    try:
        metadata = parquet.read_metadata(file)
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > most_bytes:
            raise too_large(file, most_bytes)
        # Texts are read as dictionaries, each distinct one once, until their length is checked:
        # the same 50 KB in each of 20,000 rows would be 1 GB.
        paths = [metadata.schema.column(column).path for column in range(metadata.num_columns)]
        with parquet.ParquetFile(file, metadata=metadata, read_dictionary=paths) as table:
            yield table.schema_arrow.names, lambda columns: _batches(file, table, columns)
    except pa.ArrowException as error:
        raise TableInvalid(f"cannot read {file} as a table: {error}", file=file) from None


def _batches(file: Path, table: parquet.ParquetFile, columns: Columns) -> Batches:
    """Yields the rows of some columns, batch by batch."""
    fields = [table.schema_arrow.field(column) for column in columns]
    _check_types(file, fields)
    start = 0
    for batch in table.iter_batches():
        for field, column in zip(fields, columns, strict=True):
            _check_text(file, field.name, batch.column(column), start)
        yield [batch.column(column).to_pylist() for column in columns]
        start += batch.num_rows


def _check_types(file: Path, fields: list[pa.Field]) -> None:
    """Raises `TableInvalid` for a column of another type than text or numbers.

    This must happen before the first read, because values of other types may have any size.
    """
    for column, field in enumerate(fields):
        number = (
            pa.types.is_floating(field.type)
            or pa.types.is_integer(field.type)
            or pa.types.is_decimal(field.type)
        )
        if not (_is_text(field.type) or (column and number)):
            expected = "numbers" if column else "text"
            message = f"{file}: column {field.name!r} holds {field.type}; expected {expected}"
            raise TableInvalid(message, file=file, field=field.name, expected=expected)


def _is_text(data_type: pa.DataType) -> bool:
    """Returns whether a column of this type holds text."""
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    return bool(pa.types.is_string(data_type))


def _check_text(file: Path, name: str, column: pa.Array, start: int) -> None:
    """Raises `TableInvalid` if a text of the column is too long or not UTF-8.

    This must happen before `to_pylist`, which copies a text into every row that has it.
    """
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
            f"{file} row {start + 1} or after: column {name!r} is not text: {error}; expected UTF-8"
        )
        raise TableInvalid(message, file=file, field=name, expected="UTF-8") from None
