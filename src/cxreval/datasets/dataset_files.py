"""Reads the files of a data set, up to a maximum size."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from cxreval.errors import DatasetInvalid

MAX_TABLE_BYTES = 1 << 28
"""Maximum size of a label table and of an image list."""

_MAX_LINE_CHARACTERS = 1 << 16


def read_limited(file: Path, name: str, most_bytes: int) -> bytes:
    """Returns the content of a file, which an error calls `name`.

    Raises:
        DatasetInvalid: it cannot be read, or has more than `most_bytes`.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(most_bytes + 1)
    except OSError as error:
        raise DatasetInvalid(f"cannot read the {name} {file}: {error}", file=file) from None
    if len(content) > most_bytes:
        expected = f"at most {most_bytes} bytes"
        message = f"the {name} {file} is too large; expected {expected}"
        raise DatasetInvalid(message, file=file, expected=expected)
    return content


def csv_rows(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line and the cells of each row of a CSV table that is not empty.

    A cell in quotes may have line breaks.

    Raises:
        csv.Error: a line is too long, a quote is not closed, or the table is not UTF-8; the message
            begins with the line.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise csv.Error("line 1: the table is UTF-16; save it as UTF-8")
    if content.startswith((b"\x1f\x8b", b"PK\x03\x04", b"PAR1")):
        raise csv.Error("line 1: the table is no text; unpack it, or save it as CSV")
    # The size was read with a limit. The longest cell that `csv` takes has 128 KiB, so that an open
    # quote cannot make one row of the whole table.
    rows = csv.reader(_lines(content), strict=True)
    line = 1
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise csv.Error(f"line {line}: {error}") from None
        except UnicodeDecodeError:
            raise csv.Error(f"line {_undecodable(content)}: it is not UTF-8") from None
        if cells is None:
            return
        if cells:
            yield line, cells
        line = rows.line_num + 1


def _lines(content: bytes) -> Iterator[str]:
    """Yields the lines of a table with their ends. Raises `csv.Error` for one that is too long."""
    for line in io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""):
        if len(line) > _MAX_LINE_CHARACTERS:
            raise csv.Error(f"more than {_MAX_LINE_CHARACTERS} characters")
        yield line


def _undecodable(content: bytes) -> int:
    """Returns the first line that is not UTF-8; the reader's own error counts from a buffer."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1
