"""`cxreval score` prints the service's report without a server, and compares two tables."""

import dataclasses
import gzip
import json
import math
import struct
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from cxreval.cli import app
from cxreval.client import Predictions, ScoringClient
from cxreval.datasets.nih import FINDINGS
from tests.support.scoring import describe, scoring_service, small_table

PICTURES = ("intervals.png", "reliability.png", "roc.png")


@dataclasses.dataclass
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def score(monkeypatch, capsys):
    """Runs `cxreval score` in this process through its entry point."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cxreval", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A benchmark of 60 patients with two images each, and a table of correlated predictions."""
    directory = tmp_path_factory.mktemp("small")
    draw = np.random.default_rng(3)
    images = [f"{patient:08d}_{number:03d}.png" for patient in range(1, 61) for number in (0, 1)]
    present = draw.random((len(images), len(FINDINGS))) < 0.3
    names = ["|".join(np.array(FINDINGS)[row]) or "No Finding" for row in present]
    labels = small_table(directory, list(zip(images, names, strict=True)))
    describe(directory, "small", images, labels)
    probabilities = np.clip(0.3 * present + 0.7 * draw.random(present.shape), 0, 1).astype(
        np.float32
    )
    columns = {"Image Index": images} | {
        f"prob_{name}": column for name, column in zip(FINDINGS, probabilities.T, strict=True)
    }
    return directory, images, probabilities, pa.table(columns)


def write(directory, table, name="table.csv"):
    file = directory / name
    csv.write_csv(table, file)
    return file


def on(data, *more):
    return ("--benchmark", "small", "--labels", data[0] / "labels.csv", *more)


def plain(value):
    """Returns a report as its JSON has it."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, np.ndarray | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def test_report_is_the_services_field_by_field(data, score, tmp_path):
    from cxreval.datasets.benchmark_file import load_spec

    directory, images, probabilities, table = data
    with (
        scoring_service(tmp_path / "scoring.log", small=directory) as service,
        ScoringClient(service.address) as client,
    ):
        report = client.score(
            load_spec("small", directory), [Predictions(tuple(images), probabilities)]
        )
    shuffled = table.take(np.random.default_rng(1).permutation(len(images)))
    ended = score(write(tmp_path, shuffled), *on(data), "--json")
    assert ended.status == 0, ended.err
    found = json.loads(ended.out)
    assert found == {"report": plain(report), "against": None, "comparison": None}


def test_csv_gzip_and_parquet_give_the_same_bytes(data, score, tmp_path):
    table = data[3]
    plain_file = write(tmp_path, table)
    zipped = tmp_path / "table.csv.gz"
    zipped.write_bytes(gzip.compress(plain_file.read_bytes()))
    parquet.write_table(table, tmp_path / "table.parquet")
    outputs = [
        score(file, *on(data), "--against", file, "--json")
        for file in (plain_file, zipped, tmp_path / "table.parquet")
    ]
    assert [ended.status for ended in outputs] == [0, 0, 0]
    assert len({ended.out for ended in outputs}) == 1


def test_a_table_cannot_be_told_apart_from_itself(data, score, tmp_path):
    file = write(tmp_path, data[3])
    ended = score(file, *on(data), "--against", file)
    assert ended.status == 0
    assert "table.csv (1) cannot be told apart from table.csv (2): macro AUROC +0.0000" in " ".join(
        ended.out.split()
    )


def test_a_better_table_is_named_whichever_comes_first(data, score, tmp_path):
    _, images, _, table = data
    good = write(tmp_path, table, "good.csv")
    draw = np.random.default_rng(5)
    noise = {name: draw.random(len(images)) for name in table.column_names[1:]}
    bad = write(tmp_path, pa.table({"image": images} | noise), "bad.csv")
    for first, second in ((good, bad), (bad, good)):
        ended = score(first, *on(data), "--against", second)
        assert "good.csv is better than bad.csv: macro AUROC +0." in " ".join(ended.out.split())
        assert max(map(len, ended.out.splitlines())) <= 100
        assert "\N{HORIZONTAL ELLIPSIS}" not in ended.out  # nothing is truncated


def test_label_table_may_have_another_name_but_not_other_labels(data, score, tmp_path):
    directory, _, _, table = data
    home = tmp_path / "home"
    home.mkdir()
    for name in ("list.txt", "benchmark.toml"):
        (home / name).write_bytes((directory / name).read_bytes())
    (home / "renamed.csv").write_bytes((directory / "labels.csv").read_bytes())
    file = write(tmp_path, table)
    arguments = (file, "--benchmark", "small", "--labels", home / "renamed.csv")
    assert score(*arguments).status == 0
    (home / "renamed.csv").write_text(
        (directory / "labels.csv").read_text().replace("|", "|Hernia|", 1)
    )
    ended = score(*arguments)
    assert ended.status == 1
    assert ended.err.startswith("error: DATASET_INVALID: the label table")


def test_labels_are_the_benchmarks_in_the_current_directory(data, score, tmp_path, monkeypatch):
    file = write(tmp_path, data[3])
    monkeypatch.chdir(data[0])
    assert score(file, "--benchmark", "small").status == 0
    monkeypatch.chdir(tmp_path)
    ended = score(file, "--benchmark", "small")
    assert ended.status == 1
    assert ended.err.startswith("error: DATASET_INVALID:")


def test_a_table_that_lacks_images_is_scored_on_those_it_has_and_the_report_says_so(
    data, score, tmp_path
):
    directory, images, _, table = data
    part = write(tmp_path, table.slice(40), "part.csv")
    ended = score(part, "--labels", directory / "labels.csv")  # the name is beside the labels
    assert ended.status == 0, ended.err
    text = " ".join(ended.out.split())
    assert "Scored on 80 images, not on the list of small, which has 120" in text
    assert "80 images of 40 patients" in text
    (tmp_path / "rest.txt").write_text("\n".join(images[40:]))
    listed = score(
        write(tmp_path, table), "--labels", directory / "labels.csv", "--list",
        tmp_path / "rest.txt", "--json",
    )  # fmt: skip
    again = score(part, "--labels", directory / "labels.csv", "--json")
    assert json.loads(listed.out) == json.loads(again.out)
    assert "Scored on 80 images" in again.err
    whole = json.loads(score(write(tmp_path, table), *on(data), "--json").out)["report"]
    assert json.loads(again.out)["report"]["benchmark_digest"] != whole["benchmark_digest"]


def test_two_tables_are_compared_on_the_images_that_both_have(data, score, tmp_path):
    table = data[3]
    first = write(tmp_path, table.slice(0, 100), "first.csv")
    second = write(tmp_path, table.slice(20), "second.csv")
    ended = score(first, *on(data), "--against", second)
    assert "first.csv cannot be told apart from second.csv" in " ".join(ended.out.split())
    assert ended.out.count("80 images of 40 patients") == 2
    none = write(tmp_path, table.slice(100), "none.csv")
    ended = score(write(tmp_path, table.slice(0, 60), "less.csv"), *on(data), "--against", none)
    assert ended.err.startswith("error: MISSING_IMAGES: the tables have no image in common")


def test_a_list_that_the_table_or_the_labels_lack_is_refused_with_the_first_image(
    data, score, tmp_path
):
    _, images, _, table = data
    (tmp_path / "list.txt").write_text("\n".join(images))
    ended = score(write(tmp_path, table.slice(1)), *on(data), "--list", tmp_path / "list.txt")
    assert (ended.status, ended.out) == (1, "")
    assert "MISSING_IMAGES" in ended.err
    assert images[0] in ended.err
    (tmp_path / "list.txt").write_text("absent.png")
    other = write(tmp_path, changed(table.slice(0, 1), 0, 0, "absent.png"))
    ended = score(other, *on(data), "--list", tmp_path / "list.txt")
    assert ended.err.startswith("error: DATASET_INVALID:")
    assert "'absent.png'" in ended.err
    ended = score(other, *on(data))
    assert ended.err.startswith(f"error: UNKNOWN_IMAGE: {other}")
    assert "--list FILE" in ended.err


def changed(table, row, column, value):
    """Returns the table with one cell changed; column 0 is the image's."""
    values = table.column(column).to_pylist()
    values[row] = value
    return table.set_column(column, table.column_names[column], pa.array(values))


BAD_TABLES = {
    "UNKNOWN_FINDING": lambda table: table.append_column("prob_Gout", table.column(1)),
    "TABLE_INVALID": lambda table: table.select([0]),
    "INVALID_PROBABILITY": lambda table: changed(table, 7, 2, 1.5),
    "UNKNOWN_IMAGE": lambda table: changed(table, 7, 0, "00000999_000.png"),
    "DUPLICATE_IMAGE": lambda table: pa.concat_tables(
        [table, changed(table.slice(0, 1), 0, 4, np.float32(0.125))]
    ),
}


@pytest.mark.parametrize("reason", BAD_TABLES)
@pytest.mark.parametrize("place", ["table", "against"])
def test_a_bad_table_gives_its_reason_and_writes_nothing(data, score, tmp_path, reason, place):
    good = write(tmp_path, data[3], "good.csv")
    bad = write(tmp_path, BAD_TABLES[reason](data[3]), "bad.csv")
    tables = (bad, "--against", good) if place == "table" else (good, "--against", bad)
    ended = score(*tables, *on(data), "--plot", tmp_path / "pictures")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"error: {reason}: {bad}")
    assert not (tmp_path / "pictures").exists()


def test_a_file_that_is_no_table_gives_its_reason(data, score, tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    for name in ("image.png", "absent.csv"):
        ended = score(tmp_path / name, *on(data))
        assert (ended.status, ended.out) == (1, "")
        assert ended.err.startswith("error: TABLE_INVALID: cannot read")


def test_three_pictures_are_drawn(data, score, tmp_path):
    file, some = write(tmp_path, data[3]), write(tmp_path, data[3].select([0, 1, 14]), "some.csv")
    ended = score(file, *on(data), "--against", some, "--plot", tmp_path / "pictures")
    assert ended.status == 0, ended.err
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == list(PICTURES)
    for picture in PICTURES:
        header = (tmp_path / "pictures" / picture).read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        assert min(struct.unpack(">II", header[16:24])) > 600
        assert f"wrote {tmp_path / 'pictures' / picture}" in ended.err


def test_a_table_that_lacks_findings_is_scored_and_compared_by_those_it_has(data, score, tmp_path):
    table = data[3]
    whole, some = write(tmp_path, table), write(tmp_path, table.select([0, 1, 14]), "some.csv")
    ended = score(some, *on(data, "--against", whole))
    assert ended.status == 0, ended.err
    printed = " ".join(ended.out.split())
    assert "Mass: undefined, not covered by the model." in printed
    assert "Of the 2 findings, 0 are better" in printed
    content = json.loads(score(some, *on(data, "--json")).out)["report"]
    values = {value["finding"]: value for value in content["metrics"][: len(FINDINGS) + 1]}
    assert [finding for finding in FINDINGS if values[finding]["value"] is not None] == [
        FINDINGS[0], FINDINGS[13],
    ]  # fmt: skip
    assert values[""]["undefined_reason"] == "NOT_COVERED"


def test_undefined_values_are_printed_with_their_reason(score, tmp_path):
    images = [f"{patient:08d}_000.png" for patient in range(1, 41)]
    labels = small_table(
        tmp_path, [(image, "Mass" if i < 2 else "No Finding") for i, image in enumerate(images)]
    )
    describe(tmp_path, "rare", images, labels)
    values = np.linspace(0, 1, len(images))
    file = write(tmp_path, pa.table({"image": images} | dict.fromkeys(FINDINGS, values)))
    arguments = (file, "--benchmark", "rare", "--labels", labels, "--against", file)
    ended = score(*arguments, "--plot", tmp_path / "pictures")
    assert ended.status == 0, ended.err
    text = " ".join(ended.out.split())
    assert "Mass: no interval, more than 1 % of the resamples have no value." in text
    assert "Hernia: undefined, the images have only one class." in text
    assert (
        "macro: undefined, a finding has no value; over the 1 that have one the mean AUROC is 0."
        in text
    )
    assert (
        "The macro AUROC is undefined, at least in some resamples, so neither is called better."
        in text
    )
    assert "NaN" not in score(*arguments, "--json").out


def test_only_pictures_need_the_extra_and_one_sentence_says_so(data, score, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    table = write(tmp_path, data[3])
    assert score(table, *on(data)).status == 0
    ended = score(table, *on(data), "--plot", tmp_path / "pictures")
    assert (ended.status, ended.out) == (1, "")
    sentence = (
        "error: EXTRA_MISSING: cxreval score --plot needs matplotlib, which comes with an extra: "
        "pip install 'cxreval[score]'"
    )
    assert " ".join(ended.err.split()) == sentence


def test_two_real_models_are_told_apart_as_their_authors_say(shared, score, tmp_path):
    tables = [
        shared / "predictions" / model / "preds.csv.gz" for model in ("densenet121", "resnet50")
    ]
    with gzip.open(tables[0], "rt") as file:
        images = sorted(line.partition(",")[0] for line in list(file)[1:])
    labels = shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv"
    describe(tmp_path, "published", images, labels)
    arguments = (
        "--benchmark",
        "published",
        "--labels",
        tmp_path / labels.name,
        "--against",
        tables[1],
    )
    ended = score(tables[0], *arguments)
    assert ended.status == 0, ended.err
    text = " ".join(ended.out.split())
    assert (
        "densenet121/preds.csv.gz is better than resnet50/preds.csv.gz: "
        "macro AUROC +0.0166, 95 % interval" in text
    )
    found = json.loads(score(tables[0], *arguments, "--json").out)
    macro = found["comparison"][-1]
    assert (macro["first"], macro["second"]) == pytest.approx(
        (0.8382671331804827, 0.8216306988745135), abs=1e-12
    )
    assert 0.008 < macro["low"] < macro["difference"] < macro["high"] < 0.025
    assert f"{macro['low']:+.4f} to {macro['high']:+.4f}" in text
