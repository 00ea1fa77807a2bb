"""No table takes much memory or time before it is refused, and each error names the limit it met.

The CSV files are read in one child with little memory and processor time.
"""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from cxreval.datasets import parquet_child, parquet_file
from cxreval.datasets.gzip_file import MAX_MEMBERS
from cxreval.datasets.prediction_file import read_predictions
from cxreval.datasets.table_limits import MAX_COLUMNS, MAX_LINE_BYTES, most_bytes
from cxreval.errors import CxrevalError, TableInvalid
from tests.support.limited import outcomes
from tests.support.processes import REPOSITORY

FINDINGS = ("Mass", "Pleural_Thickening")
HEADER = b"image,Mass,Pleural_Thickening\n"
MOST_ROWS = 2 * 25_596

PROGRAM = f"""
from cxreval.datasets.prediction_file import read_predictions
def opened(file):
    return len(read_predictions(file, {FINDINGS}, {MOST_ROWS})[0])
"""


def zipped(*parts: tuple[bytes, int]) -> bytes:
    """Returns a gzip file of each part's bytes, repeated."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    pieces = []
    for content, times in parts:
        block = content * min(times, 1000)
        pieces += [packer.compress(block) for _ in range(times // min(times, 1000))]
    return b"".join([*pieces, packer.flush()])


def stored_blocks(count: int) -> bytes:
    """Returns a gzip file of empty deflate blocks."""
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return head + b"\0\0\0\xff\xff" * count + b"\x01\0\0\xff\xff" + b"\0" * 8


LINE = f"at most {MAX_LINE_BYTES} bytes in a line"
BYTES = f"at most {most_bytes(MOST_ROWS)}"
ROWS_LIMIT = f"more than {MOST_ROWS} rows"
COLUMNS = f"at most {MAX_COLUMNS}"
DIGITS = b"9" * 254

CSV: dict[str, tuple[Callable[[], bytes], str]] = {
    "a million commas": (lambda: zipped((b",", 1_000_000)), LINE),
    "long cells": (lambda: zipped((HEADER, 1), (b" " * 60_000 + b",,\n", 4000)), "a cell of 60000"),
    "60,000 commas": (lambda: b"," * 60_000, COLUMNS),
    "a million columns of one name": (lambda: zipped((b"Mass,", 1_000_000)), LINE),
    "commas in rows": (lambda: zipped((HEADER, 1), (b"," * 1000, 1000)), LINE),
    "wide rows": (lambda: zipped((HEADER, 1), (b"a" + b"," * 60_000 + b"\n", 2000)), "60001 cells"),
    "quoted line breaks in a header": (lambda: zipped((b'"\n",', 10_000_000)), "line 1"),
    "quoted line breaks in a row": (lambda: zipped((HEADER, 1), (b'"\n",', 10_000_000)), "line 2"),
    "a quote that is not closed": (lambda: HEADER + b'"a.png,0.5,0.5\n' * 1000, "line 2"),
    "a line of 400 MB": (lambda: zipped((HEADER, 1), (b"a" * 1000, 400_000)), LINE),
    "zeros": (lambda: zipped((HEADER, 1), (b"\0" * 1000, 300_000)), LINE),
    "a cell of zeros": (lambda: HEADER + b"a.png,0.5,\0\0\n", r"'\x00\x00'"),
    "empty lines": (lambda: zipped((HEADER, 1), (b"\n", 10_000_000)), f"{MOST_ROWS} rows"),
    "tiny rows": (lambda: zipped((HEADER, 1), (b"a,0,0\n", 1_000_000)), f"{MOST_ROWS} rows"),
    "lone carriage returns": (
        lambda: HEADER + b"a.png,0,0\r" * 1000,
        "line 2 has a carriage return (CR) inside; expected lines that end with LF or CRLF",
    ),
    "only carriage returns": (
        lambda: HEADER.replace(b"\n", b"\r") + b"a.png,0,0\r",
        "line 1 has a carriage return (CR) inside",
    ),
    "digits": (lambda: HEADER + b"a.png,0." + b"9" * 1_000_000 + b",0\n", LINE),
    "many digits": (lambda: HEADER + b"a.png,0." + b"9" * 60_000 + b",0\n", "at most 255 bytes"),
    # A pattern that tries each digit twice takes minutes for these.
    "digits that end in a letter": (
        lambda: zipped((HEADER, 1), (b"a.png,%bx,0\n" % DIGITS, 25_000)),
        "25000 rows with such a cell",
    ),
    "gzip in gzip": (lambda: gzip.compress(zipped((b"a", 100_000_000))), "cannot read"),
    "a gzip bomb": (lambda: zipped((HEADER, 1), (b"a" * 250 + b",0,0\n", 1_000_000)), ROWS_LIMIT),
    "empty gzip members": (
        lambda: gzip.compress(HEADER) + gzip.compress(b"") * (MAX_MEMBERS + 10),
        f"more than {MAX_MEMBERS} gzip members",
    ),
    "a gzip header with an endless name": (
        lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"a" * 100_000_000,
        "truncated",
    ),
    "empty deflate blocks": (lambda: stored_blocks(2_000_000), "column"),
    "zeros after a gzip member": (lambda: gzip.compress(HEADER) + b"\0" * 100_000_000, "no rows"),
    "letters after a gzip member": (lambda: gzip.compress(HEADER) + b"tail", "cannot read"),
    "a corrupt gzip member": (lambda: zipped((HEADER, 1))[:-6] + b"\0" * 6, "cannot read"),
    "UTF-16": (lambda: HEADER.decode().encode("utf-16"), "cannot read"),
    "UTF-32": (lambda: HEADER.decode().encode("utf-32"), "cannot read"),
    "two marks of byte order": (lambda: b"\xef\xbb\xbf" * 2 + HEADER, "unknown column"),
    "zstd": (lambda: b"\x28\xb5\x2f\xfd" + b"a" * 100, "cannot read"),
    "bzip2": (lambda: b"BZh91AY&SY" + b"\xff" * 100, "cannot read"),
    "zip": (lambda: b"PK\x03\x04" + b"\xff" * 100, "cannot read"),
    "an image without a name": (lambda: HEADER + b",0.5,0.5\n", "row 1: column 'image' is empty"),
}  # fmt: skip


def too_many_bytes() -> bytes:
    """Returns a file that is larger than its table may be."""
    return bytes(most_bytes(MOST_ROWS) + 1)


CSV["a file of too many bytes"] = (too_many_bytes, BYTES)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The error of each file in `CSV`."""
    files = {kind: content for kind, (content, _) in CSV.items()}
    return outcomes(PROGRAM, files, tmp_path_factory.mktemp("tables"))


@pytest.mark.parametrize("kind", CSV)
def test_a_hostile_csv_file_is_refused_by_name_within_small_limits(
    read: dict[str, tuple[str, str]], kind: str
) -> None:
    reason, message = read[kind]
    assert reason in ("TABLE_INVALID", "UNKNOWN_FINDING")
    assert CSV[kind][1] in message
    assert len(message) < 1000


def test_blocks_of_gzip_and_quoted_cells_are_read_as_before(tmp_path: Path) -> None:
    rows = [b'"a%d.png","0.5",1\r\n' % number for number in range(3000)]
    file = tmp_path / "table.csv.gz"
    file.write_bytes(b"".join(map(gzip.compress, [HEADER, *rows])) + b"\0" * 512)
    images, values, _ = read_predictions(file, FINDINGS)
    assert images == [f"a{number}.png" for number in range(3000)]
    np.testing.assert_array_equal(values, np.float32([[0.5, 1]] * 3000))


# --- Parquet --------------------------------------------------------------------------------------

ROWS = 20_000
NUMBERS = [0.5] * ROWS


def columns(**changed: object) -> dict[str, object]:
    """Returns the columns of a table of `ROWS` rows."""
    names = [f"{row}.png" for row in range(ROWS)]
    return {"image": names, FINDINGS[0]: NUMBERS, FINDINGS[1]: NUMBERS} | changed


def wide(file: Path) -> None:
    """Writes a file of 20,000 columns."""
    names = [f"c{number}" for number in range(20_000)]
    parquet.write_table(pa.Table.from_arrays([pa.array([0.5])] * len(names), names=names), file)


def many_groups(file: Path) -> None:
    """Writes a file with a group for each of 20,000 rows."""
    parquet.write_table(pa.table(columns()), file, row_group_size=1)


def many_rows(file: Path) -> None:
    """Writes a file of few bytes and 2 million rows."""
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000_000, np.int32)), ["a.png"])
    number = pa.array(np.zeros(2_000_000, np.float32))
    table = pa.table({"image": same, FINDINGS[0]: number, FINDINGS[1]: number})
    parquet.write_table(table, file, compression="zstd")


def nested(file: Path) -> None:
    """Writes a file with a column of 90 nested lists."""
    values: object = 0.5
    for _ in range(90):
        values = [values]
    parquet.write_table(pa.table({"image": ["a"], FINDINGS[0]: [values], FINDINGS[1]: [0.5]}), file)


def long_texts(file: Path) -> None:
    """Writes a file with texts of 100 MB, which zstd makes small."""
    text = pa.array(["a" * 50_000_000, "b" * 50_000_000])
    table = pa.table({"image": text, FINDINGS[0]: [0.5, 0.5], FINDINGS[1]: [0.5, 0.5]})
    parquet.write_table(table, file, compression="zstd", use_dictionary=False)


def large_page_header(file: Path) -> None:
    """Writes a file whose first page states that it unpacks to 2 GB."""
    parquet.write_table(pa.table(columns()), file, compression="zstd", use_dictionary=False)
    content = bytearray(file.read_bytes())
    # Thrift: field 2 of the page header, the uncompressed size, is the second varint.
    assert (content[4], content[6]) == (0x15, 0x15)
    start = 7
    end = next(at for at in range(start, start + 5) if content[at] < 0x80) + 1
    content[start:end] = bytes([0xFE, 0xFF, 0xFF, 0xFF, 0x0F])[: end - start - 1] + b"\x0f"
    file.write_bytes(content)


def footer_of(content: bytes) -> Callable[[Path], None]:
    """Returns a function that writes a file with these bytes as its footer."""

    def write(file: Path) -> None:
        size = len(content).to_bytes(4, "little")
        file.write_bytes(b"PAR1" + content + size + b"PAR1")

    return write


def cut(file: Path) -> None:
    """Writes a file whose pages are cut, with its whole footer."""
    parquet.write_table(pa.table(columns()), file)
    content = file.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    file.write_bytes(content[:100] + content[-footer:])


def column(name: str, cells: list[object]) -> Callable[[Path], None]:
    """Returns a function that writes a file of one column."""
    return lambda file: parquet.write_table(pa.table({name: cells}), file)


def not_text(file: Path) -> None:
    """Writes a file whose column of a long name has a cell that is not UTF-8."""
    cells = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\x01\0\0\0"), pa.py_buffer(b"\xff")]
    )
    parquet.write_table(pa.table({"\U0010ffff" * 5000: cells}), file)


PARQUET: dict[str, tuple[Callable[[Path], None], str]] = {
    "a long name and a long cell": (column("x" * 5000, ["a" * 300]), "a cell of 300 bytes"),
    "a name of emoji and a long cell": (column("\U0001f600" * 400, ["a" * 300]), "of 300 bytes"),
    "a name of emoji and another type": (column("\U0001f600" * 300, [b"a"]), "expected numbers"),
    "a long name": (column("x" * 5000, [0.5]), "a cell of 5000 bytes"),
    "a type of a long name": (column("image", [{"\U0010ffff" * 5000: 1}]), "expected text"),
    "a long name and a cell that is not text": (not_text, "expected UTF-8"),
    "20,000 columns": (wide, "20000 columns"),
    "2 million rows": (many_rows, f"more than {MOST_ROWS} rows"),
    "nested lists": (nested, "too deeply nested"),
    "texts of 100 MB": (long_texts, "a cell of 50000000 bytes"),
    "a page that states 2 GB": (large_page_header, ""),
    "a footer of zeros": (footer_of(b"\0" * 10_000_000), "cannot read"),
    "a footer of structs in structs": (footer_of(b"\x1c" * 1_000_000), "cannot read"),
    "a footer of lists in lists": (footer_of(b"\x19" * 1_000_000), "cannot read"),
    "a list of 2 billion items": (footer_of(b"\x15\x02\x19\xfc" + b"\xff" * 4 + b"\x07"), "cannot"),
    "a text of 2 GB": (footer_of(b"\x15\x02\x18\xff\xff\xff\xff\x07"), "cannot read"),
    "a footer longer than the file": (
        lambda file: file.write_bytes(b"PAR1" + b"\xff\xff\xff\x7fPAR1") and None,
        "cannot read",
    ),
    "cut pages": (cut, "cannot read"),
    "an encrypted footer": (
        lambda file: file.write_bytes(b"PAR1" + b"\0" * 100 + b"\x10\0\0\0PARE") and None,
        "cannot read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARQUET)
def test_a_hostile_parquet_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    write, says = PARQUET[kind]
    file = tmp_path / "table.parquet"
    write(file)
    with pytest.raises(TableInvalid) as caught:
        read_predictions(file, FINDINGS, MOST_ROWS)
    assert says in caught.value.message
    assert len(caught.value.message) < 1000


def test_a_group_for_each_row_is_only_slow(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    many_groups(file)
    assert len(read_predictions(file, FINDINGS, MOST_ROWS)[0]) == ROWS


NAMES = st.builds(lambda text, times: text * times, st.text(max_size=8), st.integers(1, 900))
CELLS = st.one_of(
    st.builds(lambda text, times: text * times, st.text(max_size=3), st.integers(1, 300)),
    st.none(),
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=300),
    st.booleans(),
    st.dates(),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, max_value=9, min_value=-9),
    st.lists(st.text(), max_size=2),
    st.dictionaries(NAMES, st.integers(0, 9), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, CELLS, min_size=1, max_size=3))
def test_any_parquet_table_gives_rows_or_an_error_of_bounded_size(cells: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "table"
        try:
            parquet.write_table(pa.table({name: [cell] for name, cell in cells.items()}), file)
        except (pa.ArrowException, UnicodeError):  # a name with a lone surrogate, an empty struct
            return
        try:
            parquet_child._convert(file, MOST_ROWS, io.StringIO())
        except Exception as error:  # noqa: BLE001 -- as the child does
            refusal = parquet_child._refusal(file, error, most_bytes(MOST_ROWS))
            problem = parquet_child._answer(refusal).encode()
            assert len(problem) <= parquet_file.ANSWER_BYTES
            with pytest.raises(TableInvalid) as caught:
                parquet_file._check(file, parquet_file.REFUSED, problem, 1)
            assert caught.value.message == refusal.message
            assert all(len(fact) < 1000 for fact in caught.value.metadata.values())
            assert len(caught.value.message) < 2000


@given(st.text(), st.text(), st.text())
def test_an_answer_of_the_parquet_reader_is_bounded(message: str, field: str, found: str) -> None:
    times = parquet_file.ANSWER_BYTES
    refusal = TableInvalid(message * times, field=field * times, expected=found * times)
    problem = parquet_child._answer(refusal)
    assert len(problem) <= times
    assert json.loads(problem)["message"] == (message * times)[: parquet_child._FACT_CHARACTERS]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["message", "field"]), inner),
)


@given(st.binary() | st.builds(lambda answer: json.dumps(answer).encode(), ANYTHING))
def test_any_answer_of_the_parquet_reader_is_the_files_fault_and_named(answer: bytes) -> None:
    with pytest.raises(TableInvalid):
        parquet_file._check(Path("table"), parquet_file.REFUSED, answer, 1)


@pytest.mark.parametrize("answer", [b"[" * 100_000, b'{"message": "a', b'{"field": "a"}', b""])
def test_an_answer_without_a_reason_is_the_files_fault_and_named(answer: bytes) -> None:
    with pytest.raises(TableInvalid, match="stopped without a reason"):
        parquet_file._check(Path("table"), parquet_file.REFUSED, answer, 1)


FAULTS = {
    "os.kill(os.getpid(), signal.SIGSEGV)": "crashed with SIGSEGV",
    "os.abort()": "crashed with SIGABRT",
    "bytearray(8 << 30)": "too much memory to read; expected at most 1024 MiB",
    "time.sleep(600)": "takes too long to read; expected at most",
    "sum(range(10 ** 12))": "takes too long to read; expected at most",
    "text.write('a' * (1 << 26)); text.flush()": "unpacks to too many bytes",
    "raise ValueError('odd')": "cannot read",
    "raise OSError(22, 'Invalid argument')": "Invalid argument",
    "raise type('Odd', (Exception,), {'__str__': lambda _: bytes(8 << 30)})": "without a reason",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_parquet_reader_dies_of_is_the_files_fault_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    file, patched = tmp_path / "table.parquet", tmp_path / "patched"
    parquet.write_table(pa.table(columns()), file)
    # A reader in the child that does what a fault of pyarrow would do.
    patched.mkdir()
    (patched / "pyarrow").mkdir()
    (patched / "pyarrow" / "__init__.py").touch()
    (patched / "pyarrow" / "compute.py").write_text("")
    (patched / "pyarrow" / "parquet.py").write_text(
        f"import os, signal, sys, time\ntext = sys.stdout\ndef read_metadata(file):\n    {fault}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{patched}:{REPOSITORY / 'src'}")
    monkeypatch.setattr(parquet_file, "_SECONDS", 1)
    with pytest.raises(TableInvalid) as caught:
        read_predictions(file, FINDINGS, 1000)
    assert FAULTS[fault] in caught.value.message
    assert isinstance(caught.value, CxrevalError)
