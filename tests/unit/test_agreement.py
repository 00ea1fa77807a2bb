"""A script's predictions are checked like a stranger's table, and compared with the recorded."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cxreval.errors import MalformedField, PredictionsInvalid, PredictionsMissing
from cxreval.metrics.cohort import Cohort
from cxreval.metrics.scorers import SCORERS
from cxreval.reproduction.agreement import (
    CANARY_THRESHOLD,
    Table,
    Verdict,
    agree,
    canaries_of,
    read_table,
    score_difference,
)
from cxreval.reproduction.images import prepare

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


probabilities = st.floats(0, 1, width=32)


@settings(max_examples=50)
@given(st.data(), st.integers(1, 6), st.integers(1, 3))
def test_the_largest_difference_its_place_and_the_mean_are_those_of_plain_python(
    data: st.DataObject, images: int, findings: int
) -> None:
    row = st.lists(probabilities, min_size=findings, max_size=findings)
    rows = st.lists(row, min_size=images, max_size=images)
    first, second = data.draw(rows), data.draw(rows)
    script = table(np.array(first, np.float32))
    names = [*script.rows]
    result = agree(script, names, np.array(second, np.float32), 0.01)
    differences = {
        (name, finding): abs(ours - theirs)
        for name, one, other in zip(names, first, second, strict=True)
        for finding, ours, theirs in zip(script.findings, one, other, strict=True)
    }
    assert result.max_difference == max(differences.values())
    assert differences[result.worst_name, result.worst_finding] == result.max_difference
    assert result.mean_difference == pytest.approx(sum(differences.values()) / len(differences))
    assert result.bit_identical == (first == second)
    assert (result.verdict is Verdict.AGREES) == all(one <= 0.01 for one in differences.values())
    assert (result.images, result.findings) == (images, findings)


def test_a_tolerance_is_kept_to_its_last_bit_and_bounded() -> None:
    script = table(np.array([[0.5]], np.float32))
    recorded = np.array([[0.5 + 2**-10]], np.float32)
    for tolerance, verdict in ((2**-10, Verdict.AGREES), (2**-10 - 1e-12, Verdict.DIFFERS)):
        assert agree(script, ["000001.png"], recorded, tolerance).verdict is verdict
    for wrong in (-1e-9, 0.051, float("nan")):
        with pytest.raises(MalformedField):
            agree(script, ["000001.png"], recorded, wrong)
    with pytest.raises(MalformedField):
        agree(script, ["000001.png"], np.zeros((2, 1), np.float32), 0)
    with pytest.raises(MalformedField):
        agree(script, [], np.zeros((0, 1), np.float32), 0)


def cohort_and_tables(shift: float) -> tuple[Cohort, NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(3)
    labels = generator.random((300, 3)) < (0.3, 0.5, 0.0)  # the last finding has no positive
    labels[0, 2] = True
    signal = labels * 0.3 + generator.random((300, 3)) * 0.7
    patients = np.sort(generator.integers(0, 150, 300))
    patients = np.unique(patients, return_inverse=True)[1]
    known = np.ones_like(labels)
    count = int(patients.max()) + 1
    cohort = Cohort(("F0", "F1", "F2"), labels, known, patients, count)
    script = np.clip(signal + shift * generator.normal(size=signal.shape), 0, 1)
    return cohort, signal.astype(np.float32), script.astype(np.float32)


def test_the_score_difference_is_that_of_the_scorer_with_a_paired_interval() -> None:
    cohort, recorded, script = cohort_and_tables(0.1)
    difference = score_difference(cohort, recorded, script, seed=7, replicates=300)
    assert difference
    assert difference.findings == ("F0", "F1")  # one patient alone has the third
    both = Cohort(
        ("F0", "F1"),
        cohort.labels[:, :2],
        cohort.known[:, :2],
        cohort.patients,
        cohort.patient_count,
    )
    macros, replicates = [], []
    for values in (recorded, script):
        metrics, evidence = SCORERS["2"].score(both, values[:, :2].copy(), 7, 300, ["auroc"])
        macros.append(
            next(one.value for one in metrics if one.metric == "auroc" and not one.finding)
        )
        replicates.append(next(one.values for one in evidence.replicates if not one.finding))
    assert [difference.recorded, difference.script] == macros
    error = np.std(replicates[1] - replicates[0], ddof=1)
    assert difference.low == pytest.approx(difference.difference - 1.96 * error, abs=1e-4)
    assert difference.high == pytest.approx(difference.difference + 1.96 * error, abs=1e-4)


def test_equal_tables_have_no_score_difference_and_one_class_has_no_score() -> None:
    cohort, recorded, _ = cohort_and_tables(0)
    difference = score_difference(cohort, recorded, recorded, seed=7, replicates=50)
    assert difference
    assert (difference.difference, difference.low, difference.high) == (0, 0, 0)
    empty = Cohort(
        cohort.findings, cohort.labels & False, cohort.known, cohort.patients, cohort.patient_count
    )
    assert score_difference(empty, recorded, recorded, seed=7, replicates=50) is None


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
    known = {imagecodecs.png_decode(file.read_bytes()).tobytes(): file.name for file in files}

    def looks_up(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The label of an image whose pixels are known, else the mean."""
        name = known.get(image.tobytes())
        return np.full(14, 0.2) if name is None else labels[name].astype(np.float64)

    weights = generator.normal(size=(64, 14)) * 3

    def model(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """A sharp logistic regression on the mean of 64 squares."""
        gray = image[:1024, :1024].astype(float).reshape(1024, 1024, -1)[:, :, 0]
        squares = gray.reshape(8, 128, 8, 128).mean(axis=(1, 3)).ravel() / 255
        return 1 / (1 + np.exp(-squares @ weights))

    results = {}
    for script in (looks_up, model):
        values = np.array([script(image) for image in pixels.values()], np.float32)
        rows = {name: row for row, name in enumerate(pixels)}
        found = Table(rows, tuple(f"F{number}" for number in range(14)), values)
        results[script.__name__] = canaries_of(found, shown.canaries)
    assert results["looks_up"] is not None
    assert results["looks_up"].flagged
    assert results["looks_up"].over == 8
    assert results["model"] is not None
    assert not results["model"].flagged
    assert 0 < results["model"].largest < CANARY_THRESHOLD
    assert canaries_of(found, {}) is None
