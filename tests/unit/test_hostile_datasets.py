"""Label tables, image lists, specifications and receipts from strangers are read within limits."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cxreval.audit.receipts import MAX_BYTES, Receipt
from cxreval.datasets.benchmark import read_list
from cxreval.datasets.benchmark_file import parse_spec, read_spec
from cxreval.datasets.dataset_files import csv_rows, read_limited
from cxreval.errors import DatasetInvalid, ReceiptInvalid

LINE = "line 1: more than 65536 characters"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"," * 1_000_000, LINE),
        (b"a" * 10_000_000, LINE),
        (b"Image Index\n" + b'"a\n' * 100_000, "line 2: ',' expected after"),
        (b'Image Index\n"' + b"a\n" * 100_000, "line 2: field larger than field limit"),
        (b'Image Index\n\n"a\n', "line 3: unexpected end of data"),
        (b'"' * 65_535, "line 1: "),
        (b"\0" * 100_000, LINE),
    ],
    ids=["commas", "a long line", "open quotes", "a long cell", "an open quote", "quotes", "zeros"],
)
def test_a_hostile_label_table_is_refused_at_its_line(content: bytes, says: str) -> None:
    with pytest.raises(csv.Error, match=says):
        list(csv_rows(content))


def test_every_end_of_line_ends_a_row() -> None:
    rows = list(csv_rows(b'\xef\xbb\xbfa,"b,c"\r\n\n1,2\r3,4'))
    assert rows == [(1, ["a", "b,c"]), (3, ["1", "2"]), (4, ["3", "4"])]


def test_a_cell_in_quotes_may_have_line_breaks_and_lines_are_counted_on() -> None:
    rows = list(csv_rows(b'a,b\r\n1,"two\r\nlines"\r\n3,4\r\n'))
    assert rows == [(1, ["a", "b"]), (2, ["1", "two\r\nlines"]), (4, ["3", "4"])]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n".encode("utf-16"), "line 1: the table is UTF-16; save it as UTF-8"),
        ("a,b\n1,2\n3,é\n".encode("latin-1"), "line 3: it is not UTF-8"),
        (b"a,b\n" * 100_000 + b"\xff", "line 100001: it is not UTF-8"),
        (b"\x1f\x8b\x08", "line 1: the table is no text; unpack it, or save it as CSV"),
        (b"PK\x03\x04", "line 1: the table is no text; unpack it, or save it as CSV"),
    ],
)
def test_a_table_in_another_encoding_is_refused_at_its_line(content: bytes, says: str) -> None:
    with pytest.raises(csv.Error, match=f"^{says}$"):
        list(csv_rows(content))


@pytest.mark.parametrize("read", [read_list, read_spec])
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, read: object) -> None:
    file = tmp_path / "file"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # takes no space
    with pytest.raises(DatasetInvalid, match="is too large; expected at most"):
        read(file)  # type: ignore[operator]
    assert read_limited(Path(__file__), "test", 1 << 20) == Path(__file__).read_bytes()


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 500_000, "a = " + "{a = " * 100_000, "a." * 500_000 + "a = 1",
     "a = " + "9" * 1_000_000, "[[a]]\n[[a.b]]\n" * 50_000],
    ids=["lists", "tables", "dots", "digits", "tables in lists"],
)  # fmt: skip
def test_a_hostile_specification_is_refused(text: str) -> None:
    with pytest.raises(DatasetInvalid):
        parse_spec(text, "benchmark.toml")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 500_000,
        b'{"payload":' * 50_000,
        b" " * (MAX_BYTES + 1),
        b"9" * 1_000_000,
        b'{"payload": "\\ud800", "signature": ""}',
        b'{"payload": 1, "signature": 2}',
        b"[[1], [2]]",
        b"\xff\xfe",
    ],
)
def test_a_hostile_receipt_is_refused(content: bytes) -> None:
    with pytest.raises(ReceiptInvalid, match="the file"):
        Receipt.from_file(content)
