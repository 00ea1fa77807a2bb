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


def csv_rows(content: bytes) -> Iterator[list[str]]:
    """Yields the cells of each line of a CSV table that is not empty.

    Raises:
        csv.Error: a line is too long, or a quote is not closed in it.
        UnicodeDecodeError: the table is not UTF-8.
    """
    # The size was read with a limit, and each line is split by itself: no quote that stays open can
    # make one row of the whole table.
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig"), start=1):
        if len(line) > _MAX_LINE_CHARACTERS:
            raise csv.Error(f"line {number} has more than {_MAX_LINE_CHARACTERS} characters")
        try:
            cells = next(csv.reader((line,), strict=True))
        except csv.Error as error:
            raise csv.Error(f"line {number}: {error}") from None
        if cells:
            yield cells
