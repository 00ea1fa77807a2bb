"""Label tables of every form give the labels that their rules say, or every mistake by its line."""

import csv
import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.datasets.image_names import ImageMatcher, find_images, is_image_path
from cxreval.datasets.label_rules import LabelPolicy, LabelRules
from cxreval.datasets.label_values import names_in
from cxreval.datasets.labels import parse_labels
from cxreval.datasets.mistakes import MOST_SHOWN
from cxreval.errors import DatasetInvalid

FILE = Path("labels.csv")
FINDINGS = ("Mass", "Pleural effusion", "Nodule/Mass")
COLUMNS = LabelRules(
    image="path", patient="who", positive=("1",), negative=("0",), uncertain_values=("-1",)
)
NAMES = LabelRules(image="path", patient="who", names="says", separator="|")


def table(*rows):
    """Returns the bytes of a CSV table."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def cohort_of(content, images, rules, findings=FINDINGS):
    return parse_labels(content, FILE, images, findings, rules).cohort(())


def errors_of(content, images, rules, findings=FINDINGS):
    """Returns the message of each mistake."""
    with pytest.raises(DatasetInvalid) as caught:
        cohort_of(content, images, rules, findings)
    return [error.message for error in (caught.value, *caught.value.also)]


labels = st.lists(
    st.tuples(*[st.sampled_from([0, 1])] * len(FINDINGS)), min_size=1, max_size=12
).flatmap(lambda rows: st.tuples(st.just(rows), st.lists(
    st.text("abcé7 ", min_size=1, max_size=4).filter(str.strip),
    min_size=len(rows), max_size=len(rows))))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(labels)
def test_the_same_labels_in_every_form_are_the_same_labels(drawn):
    rows, patients = drawn
    images = [f"p{number}/x.png" for number in range(len(rows))]
    numbered = list(zip(images, patients, rows, strict=True))
    named = [[name for name, label in zip(FINDINGS, row, strict=True) if label] for row in rows]
    tables = [
        (COLUMNS, [["path", "who", *FINDINGS], *([i, p, *row] for i, p, row in numbered)]),
        (
            replace(COLUMNS, positive=("Yes",), negative=("no",)),
            [[*FINDINGS, "who", "", "path"], *([*(("NO", " yes")[v] for v in row), p, "x", i]
                                             for i, p, row in numbered)],
        ),
        (replace(NAMES, blank=LabelPolicy.NEGATIVE), [["path", "who", "says"], *(
            [i, p, "|".join(names)] for (i, p, _), names in zip(numbered, named, strict=True))]),
        (replace(NAMES, separator=","), [["path", "who", "says"], *(
            [i, p, repr(names or ["normal"])]
            for (i, p, _), names in zip(numbered, named, strict=True))]),
        (replace(NAMES, separator=""), [["path", "who", "says"], *(
            [i, p, name] for (i, p, _), names in zip(numbered, named, strict=True)
            for name in names or ["No finding"])]),
    ]  # fmt: skip
    first = cohort_of(table(*tables[0][1]), images, tables[0][0])
    assert first.labels.tolist() == [[bool(label) for label in row] for row in rows]
    assert first.known.all()
    groups = [text.strip() for text in patients]
    assert [first.patients[k] == first.patients[0] for k in range(len(rows))] == [
        text == groups[0] for text in groups
    ]
    assert first.patient_count == len(set(groups))
    for rules, content in tables[1:]:
        other = cohort_of(table(*content), images, rules)
        assert (other.labels == first.labels).all()
        assert (other.patients == first.patients).all()


def test_patients_are_numbered_in_the_order_of_their_digests():
    names = ["zoe", "Ann", "7", "007", "ann"]
    images = [f"{name}.png" for name in names]
    content = table(["path", "who", *FINDINGS], *([f"{name}.png", name, 0, 1, 0] for name in names))
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    expected = [sorted(digests).index(digest) for digest in digests]
    assert cohort_of(content, images, COLUMNS).patients.tolist() == expected


@pytest.mark.parametrize(
    ("policy", "present", "known"),
    [
        (LabelPolicy.IGNORE, [True, False, False], [True, True, False]),
        (LabelPolicy.POSITIVE, [True, False, True], [True, True, True]),
        (LabelPolicy.NEGATIVE, [True, False, False], [True, True, True]),
    ],
)
@pytest.mark.parametrize(
    ("field", "cell"), [("uncertain", "-1.0"), ("blank", ""), ("blank", "nan")]
)
def test_a_policy_decides_about_open_labels(field, cell, policy, present, known):
    rules = replace(COLUMNS, **{field: policy})
    cohort = cohort_of(
        table(["path", "who", *FINDINGS], ["a", "1", "1.0", "0.0", cell]), ["a"], rules
    )
    assert (cohort.labels[0].tolist(), cohort.known[0].tolist()) == (present, known)


def test_open_labels_without_a_policy_are_one_mistake_each_with_its_option():
    content = table(["path", "who", *FINDINGS], *([f"{n}", "1", "", "-1", ""] for n in range(100)))
    blank, uncertain = errors_of(content, [f"{n}" for n in range(100)], COLUMNS)
    assert blank.startswith("labels.csv line 2: Mass is blank, and 199 more cells are; say how")
    assert blank.endswith("--blank ignore, negative or positive")
    assert "line 2: Pleural effusion is '-1', which is uncertain, and 99 more cells" in uncertain
    assert uncertain.endswith("--uncertain ignore, positive or negative")


READERS = replace(COLUMNS, uncertain=LabelPolicy.IGNORE, reader="rad", readers="majority")


def read_by(*votes, rules=READERS):
    """Returns label and whether it is known, of a finding that readers call so."""
    rows = [["path", "who", "rad", "Mass"]] + [["a", "1", f"R{n}", v] for n, v in enumerate(votes)]
    parsed = parse_labels(table(*rows), FILE, ["a"], ("Mass",), rules)
    cohort = parsed.cohort(())
    return bool(cohort.labels[0, 0]), bool(cohort.known[0, 0]), parsed.ties


def test_more_than_half_of_the_readers_decide_and_a_tie_is_no_label():
    assert read_by("1", "1", "0") == (True, True, 0)
    assert read_by("0", "1", "0") == (False, True, 0)
    assert read_by("1", "0") == (False, False, 1)
    assert read_by("1", "-1", "-1") == (True, True, 0)
    assert read_by("-1", "-1", "-1") == (False, False, 0)
    assert read_by("1", "0", "0", rules=replace(READERS, readers="R0")) == (True, True, 0)


def test_an_image_that_the_chosen_reader_did_not_read_has_no_row():
    rows = [["path", "who", "rad", "Mass"], ["a", "1", "R1", "1"], ["b", "1", "R2", "1"]]
    rules = replace(READERS, readers="R2")
    (error,) = errors_of(table(*rows), ["a", "b"], rules, ("Mass",))
    assert error == "labels.csv has no row for 1 images, the first is 'a'"


def test_every_mistake_is_named_with_its_line_and_column():
    content = table(
        ["path", "who", *FINDINGS],
        ["a", "1", "2", "0", "?"],
        ["b", "", "1", "1", "1"],
        ["", "1", "1", "1", "1"],
        ["c", "1", "1", "1"],
        ["d", "1", "1", "1", "1"],
        ["d", "1", "1", "1", "1"],
        ["d", "2", "1", "1", "1"],
        ["x.png", "1", "1", "1", "1"],
    )
    images = ["a", "b", "c", "d", "one/x.png", "two/x.png"]
    value = "expected 1 for present, 0 for absent"
    patient = "expected 1 to 255 characters that identify the patient"
    second = "has a second row; remove one, or name the column of readers: --reader COLUMN"
    several = "may be 'one/x.png' or 'two/x.png'; write more of its path"
    assert errors_of(content, images, COLUMNS) == [
        f"labels.csv line 2: Mass is '2'; {value}",
        f"labels.csv line 2: Nodule/Mass is '?'; {value}",
        f"labels.csv line 3: who is blank or too long; {patient}",
        "labels.csv line 4: path is blank; expected an image",
        "labels.csv line 5: has 4 cells; expected 5, as in line 1",
        f"labels.csv line 7: image 'd' {second}",
        "labels.csv line 8: image 'd' has another patient than on line 6",
        f"labels.csv line 9: path is 'x.png', which {several}",
    ]


def test_at_most_fifty_mistakes_are_shown_and_the_others_counted():
    content = table(["path", "who", *FINDINGS], *([f"{n}", "1", "?", "0", "0"] for n in range(70)))
    errors = errors_of(content, [f"{n}" for n in range(70)], COLUMNS)
    assert len(errors) == MOST_SHOWN + 1
    assert errors[-1] == "labels.csv has 20 more mistakes"


@pytest.mark.parametrize(
    ("header", "rules", "says"),
    [
        ("path,who,Mass", COLUMNS, "'Pleural effusion'; it has 'path', 'who', 'Mass'"),
        ("path,who,mass", COLUMNS, "has no column 'Mass'; did you mean 'mass'?"),
        ("path,who,pleural_effusion", COLUMNS, "did you mean 'pleural_effusion'?"),
        ("path,who,Mass,mass", COLUMNS, "columns 'Mass' and 'mass' differ only in case"),
        ("path,who,who,Mass", COLUMNS, "has the column 'who' twice"),
        ("path;who;Mass", COLUMNS, "separates columns by ';'; save the table with commas"),
        ("path\twho\tMass", COLUMNS, r"separates columns by '\t'"),
        ("", COLUMNS, "has no column 'path'; it has none"),
        ("path,who", NAMES, "has no column 'says'"),
        ("path,who,says", replace(NAMES, sex="S"), "has no column 'S'"),
        ("path,who,says", replace(NAMES, reader="R", readers="majority"), "has no column 'R'"),
    ],
)  # fmt: skip
def test_a_header_without_the_columns_of_the_rules_is_refused(header, rules, says):
    errors = errors_of(header.encode(), ["a"], rules)
    assert any(says in error for error in errors), errors


def test_a_name_that_is_nearly_a_finding_is_refused_and_other_names_are_ignored():
    content = table(
        ["path", "who", "says"],
        ["a", "1", "Mass|mass effect|Pleural_effusion"],
        ["b", "1", "Cold| Nodule/Mass "],
        ["c", "1", ""],
        ["d", "1", "[]"],
    )
    column, other, blank = "says", "Pleural_effusion", "--blank ignore or negative"
    blanks, named = errors_of(content, ["a", "b", "c"], NAMES)
    assert named == f"labels.csv line 2: {column} names {other!r}; expected 'Pleural effusion'"
    assert blanks == f"labels.csv line 4: says is blank; say how to read blank cells: {blank}"


@pytest.mark.parametrize(
    ("cell", "separator", "names"),
    [
        ("['a b', ' c']", ",", ["a b", "c"]),
        ('["a"]', ",", ["a"]),
        ("[]", ",", []),
        ("[nan]", ",", []),
        ("nan", ",", []),
        ("a|b||", "|", ["a", "b"]),
        (" a|b ", "", ["a|b"]),
        ("", "", []),
    ],
)
def test_names_in_a_cell(cell, separator, names):
    assert names_in(cell, separator) == names


@pytest.mark.parametrize(
    ("cell", "fits"),
    [
        ("a/b/one.jpg", ["a/b/one.jpg"]),
        ("a/b/one", ["a/b/one.jpg"]),
        ("b/one.jpg", ["a/b/one.jpg"]),
        ("one.dcm", ["a/b/one.jpg"]),
        ("Data-v1/train/a/b/one.jpg", ["a/b/one.jpg"]),
        ("./a\\b\\one.jpg", ["a/b/one.jpg"]),
        ("c/one.jpg", []),
        ("ne.jpg", []),
        ("two", ["a/two.png", "c/two.png"]),
        ("c/two", ["c/two.png"]),
        ("two.png", ["a/two.png", "c/two.png"]),
        ("top.png", ["top.png"]),
        ("d/top", ["d/top.png"]),
        ("", []),
        ("/", []),
    ],
)
def test_a_cell_means_the_only_image_that_fits(cell, fits):
    images = ["a/b/one.jpg", "a/two.png", "c/two.png", "top.png", "d/top.png"]
    assert sorted(ImageMatcher(images).find(cell)) == fits


@pytest.mark.parametrize(
    "name", ["", "/a", "a//b", "../a", "a/../b", "a/.", "a\\b", " a", "a\nb", "x" * 256, "a/", 5]
)
def test_names_that_leave_the_folder_of_images_are_none(name):
    assert not is_image_path(name)


def test_images_are_found_in_folders_and_by_patterns(tmp_path):
    names = ["a/b/1.jpg", "a/2.PNG", "3.dicom", "notes.txt", ".hidden/4.png", "a/.5.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == ["3.dicom", "a/2.PNG", "a/b/1.jpg"]
    assert find_images(tmp_path, ["a/**/*.jpg", "*.txt"]) == ["a/b/1.jpg", "notes.txt"]
    for pattern in ("../*", "/etc/*", "a/../../*", ""):
        with pytest.raises(DatasetInvalid, match="--images is"):
            find_images(tmp_path, [pattern])
    (tmp_path / "a\\b.png").touch()
    with pytest.raises(DatasetInvalid, match="expected a path of 1 to 255"):
        find_images(tmp_path)


def test_ages_of_other_tables_are_read_and_texts_without_a_value_are_no_slice():
    rules = replace(NAMES, sex="sex", age="age", view="view")
    rows = [["a", "62.0", "nan", "PA"], ["b", "062Y", "F", ""], ["c", "unknown", "F", " PA "]]
    content = table(
        ["path", "who", "says", "age", "sex", "view"],
        *([image, "1", "Mass", *about] for image, *about in rows),
    )
    parsed = parse_labels(content, FILE, ["a", "b", "c"], FINDINGS, rules)
    parts = {part.name: part.rows.tolist() for part in parsed.cohort(("sex", "age", "view")).slices}
    assert parts == {
        "sex=F": [False, True, True],
        "age=60-79": [True, True, False],
        "view=PA": [True, False, True],
    }


def test_a_patient_is_a_part_of_a_path():
    rules = replace(COLUMNS, patient="path", patient_part=2)
    content = table(
        ["path", *FINDINGS],
        ["x/p1/a.png", 1, 0, 0],
        ["x/p1/b.png", 1, 0, 0],
        ["x/p2/a.png", 1, 0, 0],
    )
    cohort = cohort_of(content, ["x/p1/a.png", "x/p1/b.png", "x/p2/a.png"], rules)
    assert cohort.patient_count == 2
    assert cohort.patients[0] == cohort.patients[1]
    (error,) = errors_of(table(["path", *FINDINGS], ["a.png", 1, 0, 0]), ["a.png"], rules)
    assert "path, part 2 between slashes, is blank or too long" in error


def test_a_message_never_shows_an_identifier_of_a_patient():
    secret = "Jane Doe " * 40
    content = table(["path", "who", *FINDINGS], ["a", secret, "1", "0", "?"], ["a", "x", 1, 1, 1])
    assert not any("Jane" in error for error in errors_of(content, ["a"], COLUMNS))


def test_labels_without_a_known_image_are_no_labels_but_defined(tmp_path):
    rows = [["path", "who", *FINDINGS], ["a", "1", "", "1", "0"], ["b", "1", "1", "0", "0"]]
    cohort = cohort_of(table(*rows), ["a", "b"], replace(COLUMNS, blank=LabelPolicy.IGNORE))
    assert cohort.known.tolist() == [[False, True, True], [True, True, True]]
    assert not np.logical_and(cohort.labels, ~cohort.known).any()
