"""A benchmark's digest covers its parts; a data set that differs is refused with the difference."""

import dataclasses

import imagecodecs
import numpy as np
import pytest

from cxreval.cli.dataset import _read_image
from cxreval.datasets.benchmark import read_list
from cxreval.datasets.benchmark_file import (
    MAX_SPEC_BYTES,
    SPEC_FILE,
    load_spec,
    parse_spec,
    read_spec,
)
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.truth import load_truth
from cxreval.datasets.verify import verify
from cxreval.errors import DatasetInvalid
from tests.support import image_kinds
from tests.support.inference import png
from tests.support.scoring import HEADER, describe, small_table

IMAGES = [f"{patient:08d}_{number:03d}.png" for patient in (1, 2) for number in (0, 1)]


@pytest.fixture
def data(tmp_path):
    labels = small_table(
        tmp_path, [(IMAGES[0], "Mass|Hernia"), *((image, "No Finding") for image in IMAGES[1:])]
    )
    (tmp_path / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (tmp_path / "images" / image).write_bytes(png(seed=number))
    return tmp_path, describe(tmp_path, "small", IMAGES, labels)


def problems(spec, directory):
    return {check.name: check.problems for check in verify(spec, directory) if check.problems}


def test_a_complete_data_set_has_no_problem(data):
    directory, spec = data
    assert problems(spec, directory) == {}
    (directory / spec.labels_file).unlink()
    checks = {check.name: check for check in verify(spec, directory)}
    assert checks["labels"].problems == ()
    assert "absent, as it must be for a worker" in checks["labels"].summary


def test_verify_names_each_file_that_is_missing_or_cut_short(data):
    directory, spec = data
    (directory / "images" / IMAGES[1]).unlink()
    whole = (directory / "images" / IMAGES[2]).read_bytes()
    (directory / "images" / IMAGES[2]).write_bytes(whole[:-20])
    (directory / "images" / IMAGES[3]).write_bytes(b"")
    assert problems(spec, directory)["images"] == (
        f"1 of 4 images are missing: {IMAGES[1]}",
        f"{IMAGES[2]}: no complete PNG, JPEG or DICOM",
        f"{IMAGES[3]}: no complete PNG, JPEG or DICOM",
    )


def test_verify_names_each_image_that_cannot_be_scored_and_those_of_one_gray(data):
    directory, spec = data
    for image, content in zip(
        IMAGES,
        (
            image_kinds.jpeg((0xE1, b"Exif\0\0" + image_kinds.exif(6))),
            image_kinds.PNG[:-20],
            imagecodecs.png_encode(np.full((9, 9), 255, np.uint8)),
            image_kinds.PNG,
        ),
        strict=True,
    ):
        (directory / "images" / image).write_bytes(content)

    checks = {check.name: check for check in verify(spec, directory, read=_read_image)}

    first, second = checks["images"].problems
    assert first.startswith(f"{IMAGES[0]}: a viewer shows this image otherwise")
    assert second.startswith(f"{IMAGES[1]}: image is unreadable")
    assert checks["images"].warnings == (f"1 of 4 images have one gray only: {IMAGES[2]}",)


def test_a_data_set_without_images_is_complete_for_tables_of_predictions(data):
    directory, spec = data
    for image in IMAGES:
        (directory / "images" / image).unlink()
    assert problems(spec, directory) == {}
    checks = {check.name: check for check in verify(spec, directory)}
    assert "tables of predictions only" in checks["images"].summary


def test_verify_names_a_list_and_a_table_that_differ(data):
    directory, spec = data
    (directory / spec.list_file).write_text("\n".join([*IMAGES[:3], IMAGES[0]]))
    (directory / spec.labels_file).write_text("Image Index,Finding Labels,Follow-up #,Patient ID\n")
    found = problems(spec, directory)
    assert found["list"][0].endswith(f"expected {spec.list_sha256}")
    assert "lists 1 images twice" in found["list"][1]
    assert f"expected {spec.labels_sha256}" in found["labels"][0]


def test_verify_finds_patients_in_both_halves(data):
    directory, spec = data
    (directory / "train_val_list.txt").write_text("00000002_007.png\n00000009_000.png\n")
    assert problems(spec, directory)["split"] == ("1 patients are in both halves: 00000002",)


def test_real_sample_lacks_exactly_the_images_it_says(shared):
    directory = shared / "nih-chestxray14"
    found = problems(load_spec("nih-chestxray14"), directory)
    # 50 of the sample's 198 images are in the official test split of 25,596.
    assert list(found) == ["images"]
    assert found["images"][0].startswith("25546 of 25596 images are missing: 00000003_000.png, ")


def test_the_official_list_and_table_have_the_packaged_digests(shared):
    cohort = load_truth(load_spec("nih-chestxray14"), shared / "nih-chestxray14").cohort
    assert cohort.labels.shape == (25596, len(FINDINGS))
    assert cohort.known.all()
    assert cohort.patient_count == 2797
    counts = {part.name: int(part.rows.sum()) for part in cohort.slices}
    assert list(counts) == [
        "sex=F", "sex=M", "age=0-19", "age=20-39", "age=40-59", "age=60-79", "age=80-",
        "view=AP", "view=PA",
    ]  # fmt: skip
    for dimension in ("sex", "age", "view"):
        assert sum(count for name, count in counts.items() if name.startswith(dimension)) == 25596


def test_truth_is_labels_and_patients_in_the_lists_order(data):
    directory, spec = data
    truth = load_truth(spec, directory)
    assert list(truth.rows.items()) == [(image, row) for row, image in enumerate(sorted(IMAGES))]
    assert truth.cohort.patients.tolist() == [0, 0, 1, 1]
    assert [FINDINGS[column] for column in truth.cohort.labels[0].nonzero()[0]] == [
        "Mass",
        "Hernia",
    ]
    assert not truth.cohort.labels[1:].any()
    assert truth.cohort.known.all()


def cohort_of(directory, text, images):
    """Returns the cohort of a label table given as text."""
    labels = directory / "labels.csv"
    labels.write_text(text)
    return load_truth(describe(directory, "small", images, labels), directory).cohort


def test_a_table_with_a_column_per_finding_marks_unknown_labels(tmp_path):
    rows = [f"{IMAGES[0]},1,1,0", f"{IMAGES[1]},1,,", f"{IMAGES[2]},2,0,1", f"{IMAGES[3]},2,,0"]
    cohort = cohort_of(tmp_path, "\n".join(["Image Index,Patient ID,Hernia,Mass", *rows]), IMAGES)
    hernia, mass, nodule = (FINDINGS.index(finding) for finding in ("Hernia", "Mass", "Nodule"))
    assert cohort.labels[:, hernia].tolist() == [True, False, False, False]
    assert cohort.known[:, hernia].tolist() == [True, False, True, False]
    assert cohort.labels[:, mass].tolist() == [False, False, True, False]
    assert cohort.known[:, mass].tolist() == [True, False, True, True]
    # A finding without a column is unknown for every image.
    assert not cohort.known[:, nodule].any()
    assert cohort.slices == ()


def test_slices_are_the_values_of_sex_age_band_and_view(tmp_path):
    columns = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position"
    about = ["19,M,PA", "20,F,", "80,F,AP", "411,,PA"]
    rows = [
        f"{image},Mass,{int(image[:8])},{what}" for image, what in zip(IMAGES, about, strict=True)
    ]
    cohort = cohort_of(tmp_path, "\n".join([columns, *rows]), IMAGES)
    assert {part.name: part.rows.tolist() for part in cohort.slices} == {
        "sex=F": [False, True, True, False],
        "sex=M": [True, False, False, False],
        "age=0-19": [True, False, False, False],
        "age=20-39": [False, True, False, False],
        "age=80-": [False, False, True, False],
        "view=AP": [False, False, True, False],
        "view=PA": [True, False, False, True],
    }


def test_further_columns_are_not_read(tmp_path):
    wide = "Image Index,Cold,Patient ID,Mass,Cold\n00000001_000.png,yes,1,1,no\n"
    names = "Image Index,Finding Labels,Colour,Patient ID\n00000001_000.png,Mass,red,1\n"
    for text in (wide, names):
        cohort = cohort_of(tmp_path, text, IMAGES[:1])
        assert cohort.labels[0].nonzero()[0].tolist() == [FINDINGS.index("Mass")]


NIH = "Image Index,Finding Labels,Follow-up #,Patient ID"
WIDE = "Image Index,Patient ID,Mass,Hernia"


@pytest.mark.parametrize(
    ("columns", "rows", "named"),
    [
        (NIH, ["00000001_000.png,Cold,0,1"], r"line 2: unknown finding 'Cold'"),
        (NIH, ["00000001_000.png,Mass|Cold|Chill,0,1"], r"line 2: unknown finding 'Chill'"),
        (NIH, ["00000001_000.png"], r"line 2: has 1 cells; expected 4, as in line 1"),
        (NIH, ["00000001_000.png,Mass,0"], r"line 2: has 3 cells; expected 4, as in line 1"),
        (NIH, ["00000001_000.png,Mass,0,"], r"line 2: patient is ''; expected a number"),
        (NIH, ["00000001_000.png,,0,1"], r"line 2: unknown finding ''"),
        (NIH, ["00000001_000.png,Mass,0,²"], r"line 2: patient is '²'; expected a number"),
        (
            NIH,
            [f"00000001_000.png,Mass,0,{10**30}"],
            r"line 2: patient is '10+'; expected a number",
        ),
        (NIH, ["00000001_000.png,Mass,0,one"], r"line 2: patient is 'one'; expected a number"),
        (NIH, [f"{'x' * 200_000},Mass,0,1"], r"cannot read the label table"),
        (
            NIH,
            ["00000007_000.png,Mass,0,7"],
            r"has no row for 1 images, the first is '00000001_000.png'",
        ),
        (
            NIH,
            ["00000001_000.png,Mass,0,1"] * 2,
            r"line 3: image '00000001_000.png' has a second row",
        ),
        (
            WIDE,
            ["00000001_000.png,1,1,2"],
            r"line 2: Hernia is '2'; expected 1 for present, 0 for absent, or nothing",
        ),
        (
            WIDE,
            ["00000001_000.png,1,-1,0"],
            r"line 2: Mass is '-1'; expected 1 for present, 0 for absent, or nothing",
        ),
        (
            WIDE,
            ["00000001_000.png,1,0.5,0"],
            r"line 2: Mass is '0.5'; expected 1 for present, 0 for absent, or nothing",
        ),
        (WIDE, ["00000001_000.png,1,1"], r"line 2: has 3 cells; expected 4, as in line 1"),
        (WIDE, ["00000001_000.png,,1,1"], r"line 2: patient is ''; expected a number"),
        (
            WIDE,
            ["00000001_000.png,1,1,1"] * 2,
            r"line 3: image '00000001_000.png' has a second row",
        ),
        (
            NIH + ",Mass",
            ["00000001_000.png,Mass,0,1,1"],
            r"line 1: has columns 'Finding Labels' and 'Mass'; remove one",
        ),
        (
            WIDE + ",mass",
            ["00000001_000.png,1,1,1,1"],
            r"line 1: columns 'Mass' and 'mass' differ only in case",
        ),
        (
            WIDE + ",Mass",
            ["00000001_000.png,1,1,1,1"],
            r"line 1: has the column 'Mass' twice; rename one",
        ),
        ("Image Index,Finding Labels", ["00000001_000.png,Mass"], r"has no column 'Patient ID'"),
        ("Patient ID,Mass", ["1,1"], r"has no column 'Image Index'"),
        ("Image Index,Patient ID", ["00000001_000.png,1"], r"has no column 'Finding Labels'"),
        ("", [], r"has no column 'Image Index'"),
    ],
)
def test_a_malformed_label_table_is_refused_with_its_line_or_column(tmp_path, columns, rows, named):
    with pytest.raises(DatasetInvalid, match=named):
        cohort_of(tmp_path, "\n".join([columns, *rows, ""]), ["00000001_000.png"])


def test_a_table_with_other_patients_than_the_specification_is_refused(data):
    directory, spec = data
    with pytest.raises(DatasetInvalid, match="has 4 images of 2 patients; expected 4 of 3"):
        load_truth(dataclasses.replace(spec, patient_count=3), directory)


def test_images_that_lack_a_row_are_counted(tmp_path):
    text = f"{NIH}\n{IMAGES[0]},Mass,0,1\n"
    with pytest.raises(DatasetInvalid, match="has no row for 3 images") as caught:
        cohort_of(tmp_path, text, IMAGES)
    assert (caught.value.metadata["image"], caught.value.metadata["count"]) == (IMAGES[1], "3")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"synthetic": True},
        {"list_sha256": "0" * 64},
        {"labels_sha256": "0" * 64},
        {"findings": FINDINGS[:13]},
        {"findings": FINDINGS[::-1]},
        {"image_count": 5},
        {"replicates": 101},
    ],
)
def test_change_one_part_and_it_is_another_benchmark(data, change):
    assert dataclasses.replace(data[1], **change).digest != data[1].digest


def test_the_title_is_not_part_of_the_digest(data):
    assert dataclasses.replace(data[1], title="Another title").digest == data[1].digest


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('name = "Small"', "name"),
        ('title = "\\u001b[31m"', "title"),
        ('list_file = "../list.txt"', "list_file"),
        ('list_file = "a\\u0000b"', "list_file"),
        (f'labels_file = "{"x" * 256}"', "labels_file"),
        ('list_sha256 = "ABC"', "list_sha256"),
        ("image_count = 0", "image_count"),
        ('findings = ["Mass|Hernia"]', "findings"),
        ('findings = [" Mass"]', "findings"),
        ('findings = ["Mass", "Mass"]', "findings"),
        ('findings = [""]', "findings"),
        ("findings = []", "findings"),
        (f'findings = ["{"x" * 65}"]', "findings"),
        ("findings = 5", "findings"),
        ("findings = [[1]]", "findings"),
        ('findings = "Mass"', "findings"),
        ("metrics = 5", "metrics"),
        ('metrics = ["accuracy"]', "metrics"),
        ("metrics = {}", "metrics"),
        ('metrics = { auroc = "lower" }', "metrics"),
        ('metrics = { auroc = "up" }', "metrics"),
        ("metrics = { auroc = 1 }", "metrics"),
        ('metrics = ["auroc", "auroc"]', "metrics"),
        ('ranking_metric = "brier"', "ranking_metric"),
        ("ranking_metric = 1", "ranking_metric"),
        ('slices = ["hospital"]', "slices"),
        ('slices = ["sex", "sex"]', "slices"),
        ('slices = "sex"', "slices"),
        ('scorer_version = "0"', "scorer_version"),
        ('synthetic = "no"', "synthetic"),
        ("replicates = 99", "replicates"),
        ("replicates = 10001", "replicates"),
        ("replicates = 2e3", "replicates"),
        ("replicates = true", "replicates"),
    ],
)
def test_a_malformed_specification_is_refused_with_its_field(data, line, field):
    text = data[1].to_toml().splitlines()
    changed = "\n".join(line if old.startswith(f"{field} =") else old for old in text)
    with pytest.raises(DatasetInvalid) as caught:
        parse_spec(changed, SPEC_FILE)
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize(
    "findings",
    [
        *([name] for name in HEADER.split(",")),
        ["image"], ["Image"], ["IMAGE_INDEX"], ["patient id"], ["y]"],
        ["prob_Mass"], ["Prob_Mass"], ["prob Mass"],
        ["Mass", "mass"], ["Pleural_Thickening", "Pleural Thickening"], ["A_b", "a B"],
        ["Mass|Hernia"], [" Mass"], [""],
    ],
)  # fmt: skip
def test_findings_that_a_table_could_not_tell_apart_are_refused(data, findings):
    text = dataclasses.replace(data[1], findings=tuple(findings)).to_toml()
    with pytest.raises(DatasetInvalid, match="findings is ") as caught:
        parse_spec(text, SPEC_FILE)
    assert caught.value.metadata["field"] == "findings"


def test_findings_of_other_vocabularies_are_accepted(data):
    findings = ("No Finding", "Enlarged Cardiomediastinum", "Patient rotated", "Probable_Mass")
    spec = dataclasses.replace(data[1], findings=findings)
    assert parse_spec(spec.to_toml(), SPEC_FILE) == spec


def test_unknown_and_missing_fields_of_a_specification_are_named(data):
    text = data[1].to_toml()
    wrong = {
        text + "colour = 1\n": ("colour", r"benchmark.toml: colour is not a field; expected one"),
        text + '"a\\u001b[2J" = 1\n': ("a [2J", r"a \[2J is not a field"),
        text.replace('name = "small"\n', ""): ("name", r"^benchmark.toml: name is required$"),
        text.replace("metrics = ", "metrix = "): ("metrics", "metrics is required"),
    }
    for changed, (field, message) in wrong.items():
        with pytest.raises(DatasetInvalid, match=message) as caught:
            parse_spec(changed, SPEC_FILE)
        assert caught.value.metadata["field"] == field
        assert caught.value.metadata["file"] == SPEC_FILE
    assert parse_spec(text, SPEC_FILE) == data[1]


ODD_VALUES = [
    "{ a = 1 }", "[{ a = 1 }]", "[[1]]", "[]", "{}", '["higher"]', '{ auroc = ["higher"] }',
    '{ auroc = { direction = "higher" } }', '[{ id = "auroc" }]', '[{ id = ["auroc"] }]',
    '[{ id = "auroc", direction = ["higher"] }]', "2017-12-01", "2017-12-01T00:00:00Z", "1.5",
    "inf", "-inf", "nan", "-1", "0", f"0x{'f' * 5000}", f"[0x{'f' * 5000}]", f"1{'0' * 18}",
    '"\\u202e"', f'"{"x" * 5000}"', f"[{','.join(map(str, range(10_000)))}]", "[true, false]",
]  # fmt: skip
ACCEPTED = {("slices", "[]"), ("findings", '["higher"]')}


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: value[:30])
def test_an_odd_value_in_any_field_is_refused_with_the_file_and_the_field(data, value):
    lines = data[1].to_toml().splitlines()
    for field in (line.partition(" ")[0] for line in lines):
        if (field, value) in ACCEPTED:
            continue
        changed = [line for line in lines if not line.startswith(f"{field} =")]
        with pytest.raises(DatasetInvalid, match=rf"^{SPEC_FILE}: {field} is ") as caught:
            parse_spec("\n".join([f"{field} = {value}", *changed]), SPEC_FILE)
        assert (caught.value.metadata["file"], caught.value.metadata["field"]) == (SPEC_FILE, field)
        assert len(caught.value.message) < 1500


@pytest.mark.parametrize(
    "text",
    [
        "= 1",
        f"name = {'[' * 5000}",
        f"name = {'{ a = ' * 5000}",
        f"name = {'9' * 5000}",
        f"name = 1e{'9' * 5000}",
        "name = 2017-99-99",
        "name = '",
        'name = "\\ud800"',
        "name = 1\nname = 2",
        "[[metrics]]\nid = 1\n[metrics]",
        f"name.{'a.' * 2000}b = 1",
        "\x00",
    ],
    ids=lambda text: text[:20],
)
def test_a_text_that_is_no_specification_is_refused_with_the_file(text):
    with pytest.raises(DatasetInvalid, match=f"^{SPEC_FILE}") as caught:
        parse_spec(text, SPEC_FILE)
    assert caught.value.metadata["file"] == SPEC_FILE


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path):
    file = tmp_path / SPEC_FILE
    with pytest.raises(DatasetInvalid, match="cannot read the specification"):
        read_spec(file)
    file.mkdir()
    with pytest.raises(DatasetInvalid, match="cannot read the specification"):
        read_spec(file)
    file.rmdir()
    file.write_bytes(b'name = "\xff"')
    with pytest.raises(DatasetInvalid, match="cannot read the specification"):
        read_spec(file)
    file.write_bytes("é".encode() * MAX_SPEC_BYTES)
    with pytest.raises(DatasetInvalid, match=f"expected at most {MAX_SPEC_BYTES} bytes"):
        read_spec(file)


def test_an_error_shows_metrics_as_the_specification_writes_them(data):
    lines = data[1].to_toml().splitlines()
    changed = ['metrics = { auroc = "lower" }' if "metrics =" in line else line for line in lines]
    with pytest.raises(DatasetInvalid, match="metrics is 'auroc = lower'; expected distinct"):
        parse_spec("\n".join(changed), SPEC_FILE)


def test_an_unknown_benchmark_without_a_directory_is_refused(tmp_path):
    with pytest.raises(DatasetInvalid, match="no specification named 'nobody' comes with cxreval"):
        load_spec("nobody", tmp_path)


def test_a_specification_that_is_not_text_is_refused_by_name(tmp_path):
    (tmp_path / SPEC_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetInvalid, match="cannot read the specification"):
        load_spec("small", tmp_path)


@pytest.mark.parametrize("image", ["../../secret.png", "/etc/passwd", "a\0b.png", "x" * 256, ".."])
def test_a_list_that_leaves_the_directory_of_images_is_refused(tmp_path, image):
    file = tmp_path / "list.txt"
    file.write_text(f"00000001_000.png\n{image}\n")
    with pytest.raises(DatasetInvalid, match="expected a path of 1 to 255") as caught:
        read_list(file)
    assert caught.value.metadata["image"] == image[:80]


def test_verify_names_a_label_table_that_cannot_be_read(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("x" * 200_000)
    spec = describe(tmp_path, "small", ["00000001_000.png"], labels)
    checks = {check.name: check for check in verify(spec, tmp_path)}
    assert "line 1: more than 65536 characters" in checks["labels"].problems[-1]
