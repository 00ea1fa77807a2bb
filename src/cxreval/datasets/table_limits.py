"""Limits of a table of predictions, and the errors that name them."""

from __future__ import annotations

from pathlib import Path

from cxreval.errors import TableInvalid
from cxreval.fields import shown

MAX_ROWS = 10_000_000
"""Maximum number of rows of a table, repeated ones included."""

MAX_COLUMNS = 256
"""Maximum number of columns of a table."""

MAX_CELL_BYTES = 255
"""Maximum length of a cell of text, in bytes: that of a file name."""

MAX_LINE_BYTES = MAX_COLUMNS * (MAX_CELL_BYTES + 3)
"""Maximum length of a line of a CSV file: that of the longest cells, each with quotes and comma."""

_ROW_BYTES = 4096
_SPARE_BYTES = 1 << 20  # for headers and the metadata of Parquet


def most_bytes(most_rows: int) -> int:
    """Returns the maximum size of a table of `most_rows` rows, packed or unpacked."""
    return most_rows * _ROW_BYTES + _SPARE_BYTES


def check_columns(file: Path, count: int) -> None:
    """Raises `TableInvalid` if a table has too many columns."""
    if count > MAX_COLUMNS:
        expected = f"at most {MAX_COLUMNS}"
        message = f"{file} has {count} columns; expected {expected}"
        raise TableInvalid(message, file=file, expected=expected)


def check_rows(file: Path, count: int, most_rows: int) -> None:
    """Raises `TableInvalid` if a table has more than `most_rows` rows."""
    if count > most_rows:
        expected = f"at most {most_rows}"
        message = f"{file} has more than {most_rows} rows; expected {expected}"
        raise TableInvalid(message, file=file, expected=expected)


def too_large(file: Path, limit: int) -> TableInvalid:
    """Returns the error for a file that unpacks to more than `limit` bytes."""
    expected = f"at most {limit}"
    return TableInvalid(
        f"{file} unpacks to too many bytes; expected {expected}", file=file, expected=expected
    )


def too_long(file: Path, where: str, name: str, size: int) -> TableInvalid:
    """Returns the error for a cell of too many bytes.

    `where`: the row, such as `row 7`; `name`: the column.
    """
    name, expected = shown(name), f"at most {MAX_CELL_BYTES} bytes"
    message = f"{file} {where}: column {name!r} has a cell of {size} bytes; expected {expected}"
    return TableInvalid(message, file=file, field=name, expected=expected)
