"""Label tables, image lists, specifications and receipts from strangers are read within limits."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cxreval.audit.receipts import MAX_BYTES, Receipt
from cxreval.datasets.benchmark import parse_spec, read_list, read_spec
from cxreval.datasets.dataset_files import csv_rows, read_limited
from cxreval.errors import DatasetInvalid, ReceiptInvalid

LINE = "line 1 has more than 65536 characters"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"," * 1_000_000, LINE),
        (b"a" * 10_000_000, LINE),
        (b"Image Index\n" + b'"a\n' * 100_000, "line 2: unexpected end of data"),
        (b'"' * 65_535, "line 1: "),
        (b"\0" * 100_000, LINE),
    ],
    ids=["commas", "a long line", "open quotes", "quotes", "zeros"],
)
def test_a_hostile_label_table_is_refused_at_its_line(content: bytes, says: str) -> None:
    with pytest.raises(csv.Error, match=says):
        list(csv_rows(content))


def test_every_end_of_line_ends_a_row() -> None:
    rows = list(csv_rows(b'\xef\xbb\xbfa,"b,c"\r\n\n1,2\r3,4'))
    assert rows == [["a", "b,c"], ["1", "2"], ["3", "4"]]


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
