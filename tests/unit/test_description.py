"""`describe` takes what only one reading fits, and else names the option that decides."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.datasets.benchmark import image_list
from cxreval.datasets.benchmark_file import SPEC_FILE, load_spec
from cxreval.datasets.description import LIST_FILE, Choices, describe, write
from cxreval.datasets.label_rules import LabelPolicy
from cxreval.datasets.labels import load_cohort
from cxreval.errors import CxrevalError, DatasetInvalid

WIDE = "image_id,patient_id,Mass,Nodule\n"


def put(directory, table, images=("a.png", "b.png"), name="labels.csv"):
    """Writes a table and empty images, and returns the directory."""
    for image in images:
        file = directory / "images" / image
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (directory / name).write_text(table)
    return directory


def refused(directory, **choices):
    """Returns the message of every error."""
    with pytest.raises(DatasetInvalid) as caught:
        describe(directory, Choices(**choices))
    assert not (directory / SPEC_FILE).exists()
    return [error.message for error in (caught.value, *caught.value.also)]


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("Image Index,Finding Labels,Patient ID,View Position", "a.png,Mass|Nodule,1,PA",
         {"image": "Image Index", "names": "Finding Labels", "separator": "|",
          "patient": "Patient ID", "view": "View Position"}),
        ("Path,Sex,Age,AP/PA,Mass,Nodule", "X/train/patient7/study1/a.png,F,1,AP,1.0,0.0",
         {"image": "Path", "patient": "Path", "patient_part": 3, "view": "AP/PA", "sex": "Sex",
          "age": "Age", "names": "", "positive": ("1",), "uncertain_values": ()}),
        ("image_id,rad_id,subject_id,Mass,Nodule", "a,R1,7,-1,0",
         {"image": "image_id", "reader": "rad_id", "readers": "majority", "patient": "subject_id",
          "uncertain_values": ("-1",)}),
        ("ImageID,PatientID,Labels", "a.png,7,\"['Mass', 'Nodule']\"",
         {"names": "Labels", "separator": ",", "patient": "PatientID"}),
        ("image_id,class_name,rad_id,subject_id", "a,Mass,R1,7\na,Nodule,R1,7",
         {"names": "class_name", "separator": "", "reader": "rad_id"}),
        ("image,patient id,Mass,Nodule", "a,7,Yes,no", {"positive": ("yes",), "negative": ("no",)}),
    ],
)  # fmt: skip
def test_the_columns_of_public_tables_are_recognised(tmp_path, header, row, expected):
    name = "train/patient7/study1/a.png" if "patient7" in row else "a.png"
    put(tmp_path, f"{header}\n{row}\n", [name])
    uncertain = {"uncertain": LabelPolicy.IGNORE} if "-1" in row else {}
    described = describe(tmp_path, Choices(rules=uncertain))
    assert described.spec.findings == ("Mass", "Nodule")
    assert {field: getattr(described.spec.labels, field) for field in expected} == expected


def test_what_is_written_is_read_by_scoring(tmp_path):
    home = put(tmp_path / "My Data_1", WIDE + "a,p,1,0\nb.png,q,0,1\n", ["x/a.png", "b.png"])
    described = describe(home, Choices())
    assert write(described, home) == [home / LIST_FILE, home / SPEC_FILE]
    spec = load_spec("", home)
    assert spec == described.spec
    assert (spec.name, spec.image_count, spec.patient_count) == ("my-data-1", 2, 2)
    images = image_list(spec, home)
    assert images == ["b.png", "x/a.png"]
    assert load_cohort(spec, home, images).labels.tolist() == [[False, True], [True, False]]
    first = (home / SPEC_FILE).read_bytes()
    write(describe(home, Choices()), home)
    assert (home / SPEC_FILE).read_bytes() == first


def test_another_benchmark_is_not_written_over(tmp_path):
    put(tmp_path, WIDE + "a,p,1,0\nb,q,0,1\n")
    write(describe(tmp_path, Choices(name="one")), tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with pytest.raises(DatasetInvalid, match="describes 'one'; put 'two' into a directory"):
        write(describe(tmp_path, Choices(name="two", subset=True)), tmp_path)
    assert {file: file.read_bytes() for file in before} == before


def test_images_and_rows_without_each_other_are_refused_or_left_out(tmp_path):
    put(tmp_path, WIDE + "a,p,1,0\nz,q,0,1\ny,q,0,1\n")
    rows, images = refused(tmp_path)
    assert "line 3: 'z' is not below" in rows
    assert "of 2 such rows it is the first; copy the images there, or add --subset" in rows
    assert "has no row for 1 of 2 images, the first is 'b.png'; add rows, or add --subset" in images
    described = describe(tmp_path, Choices(subset=True))
    assert described.images == ["a.png"]
    assert (described.spec.image_count, described.parsed.unlisted) == (1, 2)


def test_a_subset_of_nothing_is_refused(tmp_path):
    put(tmp_path, WIDE + "y,p,1,0\n")
    assert "has no row for 2 images, the first is 'a.png'" in refused(tmp_path, subset=True)[0]


@pytest.mark.parametrize(
    ("table", "choices", "option"),
    [
        ("who,Mass\n1,1\n", {}, "--column filename=COLUMN"),
        ("image_id,Path,patient_id,Mass\na,a,1,1\n", {}, "--column filename='image_id'"),
        ("image_id,Mass\na,1\n", {}, "--patient COLUMN, or --patient 'image_id' if no patient"),
        ("image_id,patient_id,x\na,1,high\n", {}, "--findings 'NAME,NAME,...', and --positive"),
        ("image_id,patient_id,Labels\na,1,\n", {"rules": {"blank": LabelPolicy.NEGATIVE}},
         "The table names 0: none; add --findings"),
        (WIDE + "a,p,-1,0\nb,p,1,1\n", {}, "--uncertain ignore, positive or negative"),
        (WIDE + "a,p,,0\nb,p,1,1\n", {}, "--blank ignore, negative or positive"),
        (WIDE + "a,p,1,0\na,p,1,0\nb,p,1,1\n", {}, "--reader COLUMN"),
        (WIDE, {"findings": ("Mass", "mass")}, "must differ in more than case"),
        (WIDE, {"findings": ("Cold",)}, "has no column 'Cold'; it has 'image_id'"),
        (WIDE, {"patterns": ("*.jpg",)}, "has no image that matches *.jpg"),
        (WIDE, {"patterns": ("*",), "list_file": "list.txt"}, "one of --list and --images"),
        (WIDE, {"labels": "other.csv"}, "does not exist"),
        (WIDE, {"labels": "images/a.png"}, "is not in"),
        (WIDE, {"name": "Not A Name", "findings": ("Mass",)}, "name is 'Not A Name'"),
        ("", {}, "--column filename=COLUMN"),
    ],
)  # fmt: skip
def test_an_open_question_is_an_error_with_the_option_that_answers_it(
    tmp_path, table, choices, option
):
    put(tmp_path, table)
    messages = refused(tmp_path, **choices)
    assert any(option in message for message in messages), messages


def test_one_of_several_tables_must_be_chosen(tmp_path):
    put(tmp_path, WIDE, name="train.csv")
    put(tmp_path, WIDE + "a,p,1,0\nb,p,1,1\n", name="valid.csv")
    assert "add --labels train.csv or --labels valid.csv" in refused(tmp_path)[0]
    for labels in ("valid.csv", str(tmp_path / "valid.csv")):
        described = describe(tmp_path, Choices(labels=labels))
        assert described.spec.labels_file == "valid.csv"


def test_a_column_of_many_names_is_not_taken_as_findings(tmp_path):
    names = "|".join(f"finding {number}" for number in range(40))
    put(tmp_path, f"image_id,patient_id,Labels\na,1,{names}\nb,1,finding 7\n")
    (message,) = refused(tmp_path)
    assert message.startswith("which findings? The table names 40: finding 7 (2), finding 0 (1)")
    assert message.endswith("...; add --findings 'NAME,NAME,...'")


@settings(max_examples=40)
@given(st.lists(st.lists(st.text("ab1-,;|'\"\n[]é\x00/", max_size=6), max_size=6), max_size=6))
def test_no_table_gives_another_error_than_a_named_one(tmp_path_factory, rows):
    home = tmp_path_factory.mktemp("any")
    (home / "a.png").touch()
    with (home / "labels.csv").open("w", newline="") as file:
        file.write("image_id,patient_id,Labels,Mass\n")
        csv.writer(file).writerows(rows)
    try:
        describe(home, Choices())
    except CxrevalError as error:
        assert error.message  # noqa: PT017 -- any other exception fails the test
    assert {file.name for file in Path(home).iterdir()} == {"a.png", "labels.csv"}
