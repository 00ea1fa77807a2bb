"""Declared training data is found among a benchmark's images, by image and by patient."""

import hashlib

import numpy as np
import pytest

from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.training_list import TrainingData, TrainingUse
from cxreval.datasets.truth import load_truth
from cxreval.errors import DatasetInvalid, TrainingListUnavailable
from cxreval.metrics.report import CLEAN_SLICE, NOT_COVERED, TrainingVerdict
from tests.support.scoring import describe, small_table

IMAGES = [f"{patient:08d}_{number:03d}.png" for patient in range(1, 41) for number in (0, 1)]
OUTSIDE = "00000003_007.png"
"""An image outside the benchmark of a patient with images in it."""
ABSENT = "00000099_000.png"
"""An image of a patient without images in the benchmark."""
SALT = "a-salt-of-mine"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("small")
    kinds = ["|".join(FINDINGS), "No Finding", "Mass", "Edema"]
    rows = [(image, kinds[number % 4]) for number, image in enumerate(IMAGES)]
    labels = small_table(directory, [*rows, (OUTSIDE, "Mass"), (ABSENT, "Mass")])
    describe(directory, "small", IMAGES, labels)
    (directory / "train_val_list.txt").write_text(f"{ABSENT}\n{OUTSIDE}\n")
    return directory


@pytest.fixture(scope="module")
def truth(directory):
    return load_truth(load_spec("small", directory), directory)


def counts(truth, uses, *names, salt=""):
    """Returns the numbers of images and patients that a declaration covers."""
    exposure = truth.training.exposure(TrainingData(uses, "", salt), frozenset(names))
    return int(exposure.images.sum()), int(exposure.patients.sum())


def salted(*names):
    return [hashlib.sha256(f"{SALT}{name}".encode()).hexdigest() for name in names]


def test_an_image_outside_the_benchmark_overlaps_by_its_patient(truth):
    assert counts(truth, TrainingUse.IMAGES, OUTSIDE) == (0, 1)
    assert counts(truth, TrainingUse.IMAGES, OUTSIDE, IMAGES[0], IMAGES[1]) == (2, 2)
    assert counts(truth, TrainingUse.IMAGES, ABSENT, "of another data set.png") == (0, 0)
    assert counts(truth, TrainingUse.NONE) == (0, 0)


def test_patients_are_named_by_their_numbers_with_or_without_zeros(truth):
    assert counts(truth, TrainingUse.PATIENTS, "3", "00000004", "99", "nobody") == (0, 2)


def test_salted_hashes_of_images_and_patients_find_the_same(truth):
    images = salted(OUTSIDE, IMAGES[0], ABSENT)
    assert counts(truth, TrainingUse.IMAGES, *images, salt=SALT) == (1, 2)
    assert counts(truth, TrainingUse.PATIENTS, *salted("3", "99"), salt=SALT) == (0, 1)
    assert counts(truth, TrainingUse.IMAGES, *images, salt="another-salt") == (0, 0)


@pytest.mark.parametrize("uses", [TrainingUse.IMAGES, TrainingUse.PATIENTS])
def test_a_list_of_which_nothing_is_in_the_label_table_is_unmatched(truth, uses):
    def unmatched(*names, salt=""):
        return truth.training.exposure(TrainingData(uses, "", salt), frozenset(names)).unmatched

    inside, absent = (IMAGES[0], ABSENT) if uses is TrainingUse.IMAGES else ("00000001", "00000099")
    plain = absent.lstrip("0") if uses is TrainingUse.PATIENTS else absent
    assert unmatched("of another data set.png", f"{inside} ", inside.upper() + "x")
    assert not unmatched("of another data set.png", absent)
    assert not unmatched(inside)
    assert unmatched(*salted("nobody"), salt=SALT)
    assert unmatched(*salted(plain), salt="another-salt")
    assert not unmatched(*salted(plain), salt=SALT)


def test_a_declaration_without_a_list_is_never_unmatched(truth):
    for uses in (TrainingUse.NONE, TrainingUse.NIH_TRAIN_VAL):
        assert not truth.training.exposure(TrainingData(uses), frozenset()).unmatched


def test_lists_of_nih_are_read_from_the_data_set_and_missing_ones_are_named(truth):
    assert counts(truth, TrainingUse.NIH_TRAIN_VAL) == (0, 1)
    for uses in (TrainingUse.NIH_TEST, TrainingUse.NIH_ALL):
        with pytest.raises(TrainingListUnavailable, match=r"test_list\.txt does not exist"):
            counts(truth, uses)


def report(truth, names, covered=()):
    table = truth.table(covered)
    values = np.random.default_rng(1).random((len(IMAGES), len(table.findings)), np.float32)
    table.add(IMAGES, values)
    exposure = truth.training.exposure(TrainingData(TrainingUse.IMAGES), frozenset(names))
    return truth.report(table, exposure)


def test_the_clean_remainder_is_scored_as_a_slice_of_the_other_patients(truth):
    found = report(truth, IMAGES[:20]).contamination
    assert found.verdict is TrainingVerdict.OVERLAP
    assert (found.images, found.patients, found.clean_images, found.clean_patients) == (
        20, 10, 60, 30,
    )  # fmt: skip
    assert [value.finding for value in found.clean_metrics] == [*FINDINGS, ""]
    macro = found.clean_metrics[-1]
    assert macro.slice == CLEAN_SLICE
    assert macro.interval.low < macro.value < macro.interval.high
    whole = report(truth, []).contamination
    assert (whole.verdict, whole.clean_metrics) == (TrainingVerdict.CLEAN, ())


def test_without_a_clean_image_the_remainder_has_no_value(truth):
    found = report(truth, IMAGES).contamination
    assert (found.clean_images, found.clean_patients) == (0, 0)
    assert all(value.value is None and value.undefined_reason for value in found.clean_metrics)


def test_findings_that_are_not_covered_have_no_clean_value(truth):
    found = report(truth, IMAGES[:20], ("Mass",)).contamination
    reasons = {value.finding: value.undefined_reason for value in found.clean_metrics}
    assert [name for name, reason in reasons.items() if reason != NOT_COVERED] == ["Mass"]


def test_a_report_without_a_declaration_says_nothing_about_training_data(truth):
    table = truth.table()
    table.add(IMAGES, np.full((len(IMAGES), len(FINDINGS)), 0.5, np.float32))
    assert truth.report(table).contamination is None
    assert truth.report(table).membership == ()


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [("Bad Name.txt", IMAGES[0], "another name"), ("good.txt", "", "at least one identifier")],
)
def test_a_malformed_public_list_is_named_at_the_start(directory, truth, name, text, match):
    file = directory / "training_lists" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    try:
        with pytest.raises(DatasetInvalid, match=match):
            load_truth(truth.spec, directory)
    finally:
        file.unlink()
