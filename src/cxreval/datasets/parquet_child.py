"""Writes the table in a Parquet file to standard output as CSV: `FILE MOST_ROWS SECONDS`.

`parquet_file` runs this module in a process of its own. The exit status is 0, or `REFUSED` with the
reason on standard error.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from cxreval.child_limits import limit_this_process
from cxreval.datasets.columns import IMAGE, SHORT_IMAGE
from cxreval.datasets.parquet_file import ANSWER_BYTES, FACTS, MEMORY_BYTES, REFUSED
from cxreval.datasets.table_limits import (
    MAX_CELL_BYTES,
    check_columns,
    check_rows,
    most_bytes,
    too_large,
    too_long,
)
from cxreval.errors import TableInvalid
from cxreval.fields import shown

_BATCH_ROWS = 10_000
_PROBLEM_CHARACTERS = 300  # of what pyarrow says
_FACT_CHARACTERS = ANSWER_BYTES // (12 * len(FACTS)) - 64  # JSON has at most 12 bytes for each
_DISK_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


def main(file: Path, most_rows: int, seconds: int) -> int:
    """Returns the exit status."""
    limit = most_bytes(most_rows)
    limit_this_process(memory_bytes=MEMORY_BYTES, cpu_seconds=seconds, file_bytes=limit)
    try:
        with open(sys.stdout.fileno(), "w", encoding="utf-8", newline="") as text:  # noqa: PTH123
            _convert(file, most_rows, text)
    except Exception as error:  # noqa: BLE001 -- pyarrow raises any class for a malformed file
        sys.stderr.write(_answer(_refusal(file, error, limit)))
        sys.stderr.flush()
        return REFUSED
    return 0


def _answer(refusal: TableInvalid) -> str:
    """Returns the facts of an error as JSON of at most `ANSWER_BYTES`."""
    facts = refusal.metadata | {"message": refusal.message}
    return json.dumps({key: facts[key][:_FACT_CHARACTERS] for key in FACTS if key in facts})


def _refusal(file: Path, error: Exception, limit: int) -> TableInvalid:
    """Returns the error for what went wrong; raises an error of the disk again."""
    if isinstance(error, TableInvalid):
        return error
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        expected = f"at most {MEMORY_BYTES >> 20} MiB"
        message = f"{file} takes too much memory to read; expected {expected}"
        return TableInvalid(message, expected=expected)
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return too_large(file, limit)
    if isinstance(error, OSError) and error.errno in _DISK_FAILURES:
        raise error
    return TableInvalid(f"cannot read {file} as a table: {str(error)[:_PROBLEM_CHARACTERS]}")


def _convert(file: Path, most_rows: int, text: IO[str]) -> None:
    """Writes the table as CSV. Raises `TableInvalid` before anything large is unpacked."""
    metadata = parquet.read_metadata(file)
    check_columns(file, metadata.num_columns)
    check_rows(file, metadata.num_rows, most_rows)
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    if sum(group.total_byte_size for group in groups) > most_bytes(most_rows):
        raise too_large(file, most_bytes(most_rows))
    # Texts are read as dictionaries, each distinct one once, until their length is checked: the
    # same 50 KB in each of 20,000 rows would be 1 GB.
    paths = [metadata.schema.column(column).path for column in range(metadata.num_columns)]
    with parquet.ParquetFile(file, metadata=metadata, read_dictionary=paths) as table:
        fields = list(table.schema_arrow)
        _check_types(file, fields)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in fields)
        start = 0
        for batch in table.iter_batches(_BATCH_ROWS, use_threads=False):
            columns = [
                _cells(file, field.name, column, start)
                for field, column in zip(fields, batch.columns, strict=True)
            ]
            writer.writerows(zip(*columns, strict=True))
            start += batch.num_rows
            check_rows(file, start, most_rows)


def _check_types(file: Path, fields: list[pa.Field]) -> None:
    """Raises `TableInvalid` for a column of another type than text or numbers.

    This must happen before the first read, because values of other types may have any size.
    """
    for field in fields:
        image = field.name in (IMAGE, SHORT_IMAGE)
        number = (
            pa.types.is_floating(field.type)
            or pa.types.is_integer(field.type)
            or pa.types.is_decimal(field.type)
        )
        if not (_is_text(field.type) or (number and not image)):
            expected = "text" if image else "numbers"
            name = shown(field.name)
            message = f"{file}: column {name!r} holds {shown(field.type)}; expected {expected}"
            raise TableInvalid(message, field=name, expected=expected)


def _is_text(data_type: pa.DataType) -> bool:
    """Returns whether a column of this type holds text."""
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    return bool(pa.types.is_string(data_type))


def _cells(file: Path, name: str, column: pa.Array, start: int) -> list[object]:
    """Returns the cells of a column of a batch; None for an empty one.

    `start`: number of rows before the batch.
    """
    if _is_text(column.type):
        _check_text(file, name, column, start)
    elif pa.types.is_floating(column.type):
        column = column.cast(pa.float64())  # CSV then has every digit of a half
    return list(column.to_pylist())


def _check_text(file: Path, name: str, column: pa.Array, start: int) -> None:
    """Raises `TableInvalid` if a text of the column is too long or not UTF-8.

    This must happen before `to_pylist`, which copies a text into every row that has it.
    """
    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > MAX_CELL_BYTES:
        raise too_long(file, f"row {start + 1} or after", name, longest)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        problem = str(error)[:_PROBLEM_CHARACTERS]
        message = (
            f"{file} row {start + 1} or after: column {shown(name)!r} is not text: {problem}; "
            "expected UTF-8"
        )
        raise TableInvalid(message, field=shown(name), expected="UTF-8") from None


if __name__ == "__main__":
    try:
        status = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except MemoryError:  # while the reason was written
        status = REFUSED
    os._exit(status)  # what the reader left in memory is not cleaned up
