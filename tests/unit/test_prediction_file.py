"""Prediction tables of every supported form are read; errors name the row and column."""

import gzip
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import InvalidProbability, TableInvalid, UnknownFinding

FINDINGS = ("Mass", "Pleural_Thickening")


@pytest.fixture
def csv_file(tmp_path):
    def write(text, name="table.csv"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture
def parquet_file(tmp_path):
    def write(columns, **options):
        file = tmp_path / "table.parquet"
        parquet.write_table(pa.table(columns), file, **options)
        return file

    return write


def field_error(file, error, *most_rows):
    with pytest.raises(error) as caught:
        read_predictions(file, FINDINGS, *most_rows)
    assert str(file) in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    "header",
    [
        "Image Index,Mass,Pleural_Thickening",
        "image,prob_Mass,prob_Pleural Thickening",
        "\ufeffimage,Mass,prob_Pleural_Thickening",
        '"image","Mass","Pleural Thickening"',
    ],
)
def test_every_spelling_of_a_column_is_understood(csv_file, header):
    images, values, _ = read_predictions(
        csv_file(f"{header}\na.png,0.25,1\nb.png,.5,1e-3\n"), FINDINGS
    )
    assert images == ["a.png", "b.png"]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.float32([[0.25, 1], [0.5, 1e-3]]))


def test_columns_may_stand_in_any_order(csv_file):
    images, values, _ = read_predictions(
        csv_file("Pleural_Thickening,Mass,image\n0.1,0.9,a.png\n"), FINDINGS
    )
    assert images == ["a.png"]
    np.testing.assert_array_equal(values, np.float32([[0.9, 0.1]]))


def test_a_table_covers_the_findings_that_have_a_column(csv_file):
    _, values, covered = read_predictions(csv_file("image,Mass\na.png,0.25\n"), FINDINGS)
    assert covered == ("Mass",)
    np.testing.assert_array_equal(values, np.float32([[0.25]]))
    _, _, covered = read_predictions(
        csv_file("Pleural_Thickening,Mass,image\n0.1,0.9,a.png\n"), FINDINGS
    )
    assert covered == FINDINGS


def test_an_empty_column_is_no_missing_column_and_the_error_says_what_to_do(csv_file):
    """Else a table whose column was lost on its way would be scored without a word."""
    file = csv_file("image,Mass,Pleural_Thickening\na.png,0.5,\nb.png,0.5,\n")
    error = field_error(file, TableInvalid)
    assert error.metadata["field"] == "Pleural_Thickening"
    assert "leave out the column of a finding that the model lacks" in error.message


def test_text_becomes_the_float32_that_numpy_makes_of_it(csv_file):
    drawn = np.random.default_rng(7).random(5000)
    texts = [repr(float(value)) for value in drawn] + [
        repr(value) for value in drawn.astype(np.float32).tolist()
    ]
    file = csv_file(
        "image,Mass,Pleural_Thickening\n"
        + "".join(f"{i}.png,{text},0\n" for i, text in enumerate(texts))
    )
    _, values, _ = read_predictions(file, FINDINGS)
    np.testing.assert_array_equal(values[:, 0], np.array(texts, dtype=np.float32))


def test_format_is_detected_by_content_and_not_by_name(csv_file, parquet_file):
    text = "image,Mass,Pleural_Thickening\na.png,0.125,0.75\n"
    plain = read_predictions(csv_file(text, "table.parquet.txt"), FINDINGS)
    zipped = read_predictions(csv_file(gzip.compress(text.encode()), "table.csv"), FINDINGS)
    columns = {"image": ["a.png"], "Mass": [0.125], "Pleural_Thickening": [0.75]}
    stored = read_predictions(
        parquet_file(columns).rename(csv_file("").with_name("other.csv")), FINDINGS
    )
    for images, values, _ in (plain, zipped, stored):
        assert images == ["a.png"]
        np.testing.assert_array_equal(values, np.float32([[0.125, 0.75]]))


@pytest.mark.parametrize(
    "kind",
    ["float16", "float32", "float64", "int8", "decimal", "string", "large_string", "string_view"],
)
def test_a_parquet_column_may_hold_any_kind_of_number(parquet_file, kind):
    types = {"decimal": pa.decimal128(21, 2)}
    values = pa.array([0, 1]).cast(types.get(kind) or getattr(pa, kind)())
    columns = {
        "image": pa.array(["a.png", "b.png"]).dictionary_encode(),
        "Mass": values,
        FINDINGS[1]: values,
    }
    images, read, _ = read_predictions(parquet_file(columns), FINDINGS)
    assert images == ["a.png", "b.png"]
    np.testing.assert_array_equal(read, np.float32([[0, 0], [1, 1]]))


@pytest.mark.parametrize(
    ("cell", "error", "shown"),
    [
        ("", TableInvalid, "empty"),
        ("high", TableInvalid, "'high'"),
        ("0,5", TableInvalid, ""),  # two cells: the row is torn
        ("0x1", TableInvalid, "'0x1'"),
        ("1_0", TableInvalid, "'1_0'"),
        ("nan", InvalidProbability, "'nan'"),
        ("NaN", InvalidProbability, "'NaN'"),
        ("-inf", InvalidProbability, "'-inf'"),
        ("1e999", InvalidProbability, "'1e999'"),
        ("1.0000000001", InvalidProbability, "'1.0000000001'"),
        ("-1e-300", InvalidProbability, "'-1e-300'"),
    ],
)
def test_a_bad_cell_is_named_with_its_row_column_and_count(csv_file, cell, error, shown):
    file = csv_file(
        f"image,Mass,Pleural_Thickening\na.png,0.5,1\nb.png,0.5,{cell}\nc.png,{cell},0.5\n"
    )
    problem = field_error(file, error)
    if shown:
        expected = (
            f"row 2, image 'b.png': column 'Pleural_Thickening' is {shown}; "
            "expected a number within [0, 1]; 2 rows"
        )
        assert expected in problem.message
        assert (problem.metadata["field"], problem.metadata["row"]) == ("Pleural_Thickening", "2")


def test_rows_and_faults_are_counted_across_pieces_of_a_file(parquet_file):
    values = np.full(200_000, 0.5)
    values[[150_000, 199_999]] = 2.0
    columns = {
        "image": [f"{i}.png" for i in range(values.size)],
        "Mass": values,
        FINDINGS[1]: values * 0,
    }
    problem = field_error(parquet_file(columns), InvalidProbability)
    assert (
        problem.metadata | {"row": "150001", "count": "2", "image": "150000.png"}
        == problem.metadata
    )


def test_null_and_nan_of_parquet_are_refused(parquet_file):
    def columns(value):
        return {"image": ["a.png"], "Mass": pa.array([value], pa.float64()), FINDINGS[1]: [0.0]}

    assert "'Mass' is empty" in field_error(parquet_file(columns(None)), TableInvalid).message
    assert (
        "'Mass' is 'nan'"
        in field_error(parquet_file(columns(float("nan"))), InvalidProbability).message
    )
    nameless = {"image": pa.array(["a.png", None]), "Mass": [0.0, 0.0], FINDINGS[1]: [0.0, 0.0]}
    assert (
        "row 2: column 'image' is empty"
        in field_error(parquet_file(nameless), TableInvalid).message
    )


@pytest.mark.parametrize("values", [[True], [[0.5]], [b"0.5"]])
def test_a_parquet_column_of_something_else_is_refused(parquet_file, values):
    problem = field_error(
        parquet_file({"image": ["a.png"], "Mass": values, FINDINGS[1]: [0.0]}), TableInvalid
    )
    assert "column 'Mass' holds" in problem.message
    problem = field_error(
        parquet_file({"image": values, "Mass": [0.0], FINDINGS[1]: [0.0]}), TableInvalid
    )
    assert "column 'image' holds" in problem.message


def no_utf8(count):
    offsets = pa.array([2 * place for place in range(count + 1)], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(
        pa.string(), count, [None, offsets, pa.py_buffer(b"\xff\xfe" * count)]
    )


@pytest.mark.parametrize("spoiled", ["image", "Mass"])
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}])
def test_text_that_is_no_utf8_makes_a_table_invalid(parquet_file, spoiled, options):
    columns = {"image": ["a.png", "b.png"], "Mass": ["0.5", "0.5"], FINDINGS[1]: [0.0, 0.0]} | {
        spoiled: no_utf8(2)
    }
    problem = field_error(parquet_file(columns, **options), TableInvalid)
    assert f"row 1 or after: column {spoiled!r} is not text" in problem.message
    assert problem.metadata["expected"] == "UTF-8"


def test_names_of_columns_that_are_no_utf8_make_a_table_invalid(parquet_file):
    file = parquet_file({"image": ["a.png"], "Mass": [0.5], "0123456789abcdef": [0.0]})
    file.write_bytes(file.read_bytes().replace(b"0123456789abcdef", b"\xff" * 16))
    field_error(file, TableInvalid)


# --- files that unpack to far more than they are --------------------------------------------------

PEAK = """
import resource, sys
from pathlib import Path
from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import TableInvalid
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_predictions(Path(sys.argv[1]), ("Mass", "Pleural_Thickening"), 20_000)
except TableInvalid as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error.message, sep="|")
"""
"""Program that prints by how many KiB the process grew until it refused the table."""

ROWS, LONG = 20_000, "a" * 50_000
HEADER = b"image,Mass,Pleural_Thickening\n"


def repeated(value):
    return pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array([value]))


def parquet_bomb(file, column, values, **options):
    rows = range(len(values))
    columns = {
        "image": [f"{row}.png" for row in rows],
        **{finding: [0.5 for _ in rows] for finding in FINDINGS},
    }
    parquet.write_table(pa.table(columns | {column: values}), file, compression="zstd", **options)


BOMBS = {
    "a name in 20,000 rows": lambda file: parquet_bomb(file, "image", repeated(LONG)),
    "bytes in 20,000 rows": lambda file: parquet_bomb(file, "image", repeated(LONG.encode())),
    "a number in 20,000 rows": lambda file: parquet_bomb(file, "Mass", repeated("0." + LONG)),
    "2,500 names that compress": lambda file: parquet_bomb(
        file, "image", pa.array([LONG] * 2500), use_dictionary=False, data_page_size=1 << 30
    ),
    "a long name": lambda file: file.write_bytes(HEADER + LONG.encode() + b",0.5,0.5\n"),
    "a gzipped line without end": lambda file: gzipped(file, HEADER, b"a" * 100_000),
    "gzipped lines without anything": lambda file: gzipped(file, HEADER, b"\n" * 100_000),
    "gzipped rows without end": lambda file: gzipped(file, HEADER, b"a.png,0.5,0.5\n" * 7000),
}


def gzipped(file, start, again):
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(start)
        for _ in range(10_000):
            stream.write(again)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_does_not_become_gigabytes(tmp_path, bomb):
    file = tmp_path / "bomb"
    BOMBS[bomb](file)
    ended = subprocess.run(
        [sys.executable, "-c", PEAK, file], capture_output=True, text=True, check=True, timeout=60
    )
    grown, message = ended.stdout.split("|")
    assert int(grown) < 300 * 1024, message
    assert str(file) in message


@pytest.mark.parametrize(
    ("header", "error", "shown"),
    [
        (
            "image,Mass,Pleural_Thickening,Hernia,age",
            UnknownFinding,
            "2 unknown columns, the first is 'Hernia'",
        ),
        (",image,Mass,Pleural_Thickening", UnknownFinding, "1 unknown column, the first is ''"),
        ("image", TableInvalid, "no column of a finding; expected at least one of Mass"),
        ("Mass,Pleural_Thickening", TableInvalid, "lacks the column 'Image Index'"),
        (
            "image,Mass,prob_Mass,Pleural_Thickening",
            TableInvalid,
            "1 column twice, the first is 'Mass'",
        ),
        (
            "image,Image Index,Mass,Pleural_Thickening",
            TableInvalid,
            "1 column twice, the first is 'Image Index'",
        ),
        (",".join(f"c{i}" for i in range(300)), TableInvalid, "300 columns; expected at most 256"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_wrong_header_is_refused(csv_file, tmp_path, header, error, shown, form):
    names = header.split(",")
    if form == "csv":
        file = csv_file(f"{header}\n{','.join('0' for _ in names)}\n")
    else:
        file = tmp_path / "table.parquet"
        parquet.write_table(pa.Table.from_arrays([pa.array(["0"])] * len(names), names=names), file)
    assert shown in field_error(file, error).message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"image,Mass,Pleural_Thickening\n",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff",
        b"PAR1 and then nothing of the kind",
        b"image,Mass,Pleural_Thickening\na.png,0.5\n",
        gzip.compress(b"image,Mass,Pleural_Thickening\n" + b"a.png,0.5,0.5\n" * 1000)[:-20],
        gzip.compress(b"PAR1\x00\x01\x02\xff"),
    ],
    ids=[
        "nothing",
        "an empty line",
        "a header alone",
        "PNG",
        "not Parquet",
        "a torn row",
        "cut gzip",
        "zipped bytes",
    ],
)
def test_what_is_not_a_table_with_rows_is_refused(csv_file, content):
    field_error(csv_file(content), TableInvalid)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "No such file" in field_error(tmp_path / "absent.csv", TableInvalid).message


def test_rows_are_bounded(csv_file):
    file = csv_file("image,Mass,Pleural_Thickening\n" + "a.png,0.5,0.5\n" * 11)
    assert "more than 10 rows" in field_error(file, TableInvalid, 10).message
    assert len(read_predictions(file, FINDINGS, 11)[0]) == 11
