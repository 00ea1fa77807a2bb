"""The table of a script is read like a stranger's, and its canaries are compared."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from cxreval.errors import PredictionsInvalid, PredictionsMissing
from cxreval.reproduction.images import prepare
from cxreval.reproduction.script_table import (
    CANARY_THRESHOLD,
    Table,
    canaries_of,
    read_table,
)

NAMES = [f"{number:06}.png" for number in range(1, 5)]
FINDINGS = ("Mass", "Pleural_Thickening", "Hernia")
HEADER = "Image Index,Mass,Pleural Thickening,Hernia\n"
ROWS = [f"{name},0.{number},0.5,1\n" for number, name in enumerate(NAMES)]


def written(directory: Path, text: str) -> Path:
    file = directory / "private-place.csv"
    file.write_text(text)
    return file


def table(values: NDArray[np.float32]) -> Table:
    names = [f"{number:06}.png" for number in range(1, len(values) + 1)]
    findings = tuple(f"F{number}" for number in range(values.shape[1]))
    return Table({name: row for row, name in enumerate(names)}, findings, values)


def test_rows_in_any_order_are_read_as_the_reader_of_tables_reads_them(tmp_path: Path) -> None:
    read = read_table(written(tmp_path, HEADER + "".join(ROWS[::-1])), NAMES, FINDINGS)
    assert read.findings == FINDINGS
    assert read.of(NAMES).tolist() == [
        [np.float32(number / 10), 0.5, 1.0] for number in range(len(NAMES))
    ]
    one = read_table(written(tmp_path, HEADER + "".join(ROWS)), NAMES, FINDINGS, ("Hernia",))
    assert one.findings == ("Hernia",)  # only what was recorded is compared
    assert one.of(NAMES[:1]).tolist() == [[1.0]]


INVALID = {
    "half an output": (
        HEADER + "".join(ROWS[:2]),
        "lacks 2 of 4 images, the first is '000003.png'",
    ),
    "cut in a row": (HEADER + "".join(ROWS)[:-4], "row 4 has 3 cells"),
    "another image": (HEADER + "".join(ROWS) + "000005.png,0,0,0\n", "'000005.png', which was not"),
    "with a folder": (HEADER + "".join(f"/images/{row}" for row in ROWS), "'/images/000001.png'"),
    "the real names": (HEADER + "00000013_005.png,0,0,0\n", "'00000013_005.png', which was not"),
    "twice": (HEADER + "".join(ROWS) + ROWS[1], "has '000002.png' twice"),
    "many times": (HEADER + "".join(ROWS * 9), "rows"),
    "NaN": (HEADER + "".join(ROWS).replace("0.2", "nan"), "row 3, image '000003.png'"),
    "infinite": (HEADER + "".join(ROWS).replace("0.2", "inf"), "is 'inf'"),
    "negative": (HEADER + "".join(ROWS).replace("0.2", "-0.2"), "is '-0.2'"),
    "logits": (HEADER + "".join(ROWS).replace("0.2", "3.2"), "is '3.2'"),
    "empty cell": (HEADER + "".join(ROWS).replace("0.2", ""), "is empty"),
    "text": (HEADER + "".join(ROWS).replace("0.2", "high"), "is 'high'"),
    "header only": (HEADER, "has no rows"),
    "no header": ("".join(ROWS), "column"),
    "column of no finding": (HEADER.replace("Mass", "Mess") + "".join(ROWS), "unknown column"),
    "finding missing": (
        "image,Mass\n" + "".join(f"{name},0\n" for name in NAMES),
        "lacks the column",
    ),
    "not a table": ("Traceback (most recent call last):\n", "predictions.csv"),
    "control characters": (HEADER + "\x1b[2J,0,0,0\n" + "".join(ROWS), "was not shown"),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_table_is_refused_by_the_name_that_the_script_was_shown(
    case: str, tmp_path: Path
) -> None:
    text, problem = INVALID[case]
    with pytest.raises(PredictionsInvalid) as caught:
        read_table(written(tmp_path, text), NAMES, FINDINGS, FINDINGS)
    assert problem in caught.value.message
    assert caught.value.message.isprintable()
    said = caught.value.message + "".join(caught.value.metadata.values())
    assert str(tmp_path) not in said
    assert "private-place" not in said


def test_no_output_is_its_own_reason(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/proc/self/environ")
    for file in (
        tmp_path / "absent",
        written(tmp_path, ""),
        tmp_path / "folder",
        tmp_path / "link",
    ):
        with pytest.raises(PredictionsMissing):
            read_table(file, NAMES, FINDINGS)


def test_a_script_that_looks_images_up_is_flagged_and_a_model_is_not(
    shared: Path, tmp_path: Path
) -> None:
    files = sorted((shared / "nih-chestxray14" / "images").iterdir())[:12]
    directory = tmp_path / "shown"
    directory.mkdir()
    shown = prepare([(file.name, file) for file in files], directory, b"secret", canaries=8)
    pixels = {
        name: imagecodecs.png_decode((directory / name).read_bytes()) for name in shown.images
    }
    generator = np.random.default_rng(1)
    labels = {file.name: generator.random(14) < 0.2 for file in files}
    labels |= {file.name: np.zeros(14, np.bool_) for file in files[::2]}  # no finding
    known = {imagecodecs.png_decode(file.read_bytes()).tobytes(): file.name for file in files}

    def looks_up(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The label of an image whose pixels are known, else the mean."""
        name = known.get(image.tobytes())
        return np.full(14, 0.2) if name is None else labels[name].astype(np.float64)

    def looks_up_else_none(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The label of an image whose pixels are known, else no finding."""
        name = known.get(image.tobytes())
        return np.zeros(14) if name is None else labels[name].astype(np.float64)

    weights = generator.normal(size=(64, 14)) * 3

    def model(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """A sharp logistic regression on the mean of 64 squares."""
        gray = image[:1024, :1024].astype(float).reshape(1024, 1024, -1)[:, :, 0]
        squares = gray.reshape(8, 128, 8, 128).mean(axis=(1, 3)).ravel() / 255
        return 1 / (1 + np.exp(-squares @ weights))

    results = {}
    for script in (looks_up, looks_up_else_none, model):
        values = np.array([script(image) for image in pixels.values()], np.float32)
        rows = {name: row for row, name in enumerate(pixels)}
        found = Table(rows, tuple(f"F{number}" for number in range(14)), values)
        results[script.__name__] = canaries_of(found, shown.canaries)
    assert {name: found and found.flagged for name, found in results.items()} == {
        "looks_up": True, "looks_up_else_none": True, "model": False,
    }  # fmt: skip
    assert results["looks_up"]
    assert results["looks_up"].over == 8
    assert results["model"]
    assert 0 < results["model"].largest < CANARY_THRESHOLD / 2
    assert canaries_of(found, {}) is None
