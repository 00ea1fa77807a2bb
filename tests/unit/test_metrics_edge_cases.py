"""Every row of the design's table of edge cases, under its name there."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from cxreval.datasets.truth import load_truth
from cxreval.errors import DatasetInvalid, InvalidProbability, MalformedField, MissingImages
from cxreval.metrics.auroc import auroc
from cxreval.metrics.cohort import Cohort
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import FINDING_UNDEFINED, NO_LABELS, ONE_CLASS_ONLY
from cxreval.metrics.resampling import FindingResampler
from cxreval.metrics.scorers import SCORERS
from cxreval.wire.status import CODES, grpc
from tests.support.scoring import describe

score = partial(SCORERS["2"].score, recorded=("auroc",))

RANKED = [name for name, metric in METRICS.items() if metric.ranks_only]
IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 7)]


def row(name):
    """Marks a test with its row of the table."""
    return pytest.mark.parametrize("case", [pytest.param(name, id=name)])


def cohort(labels, known=None):
    """Returns a cohort with one image per patient."""
    labels = np.array(labels, np.bool_)
    known = np.ones_like(labels) if known is None else np.array(known, np.bool_)
    names = tuple(f"finding {number}" for number in range(labels.shape[1]))
    return Cohort(names, labels, known, np.arange(len(labels)), len(labels))


def figures(cohort, probabilities, replicates=20):
    """Returns the values by metric and finding, and the evidence."""
    values, evidence = score(cohort, np.array(probabilities, np.float32), 1, replicates)
    return {(value.metric, value.finding): value for value in values}, evidence


def no_nan(values):
    numbers = [value.value for value in values] + [value.defined_mean for value in values]
    return all(number is None or np.isfinite(number) for number in numbers)


def labelled(directory, rows, findings=("Mass", "Hernia")):
    """Returns the truth of a label table with one column per finding."""
    file = directory / "labels.csv"
    lines = [
        f"{image},{int(image[:8])},{','.join(cells)}"
        for image, cells in zip(IMAGES, rows, strict=False)
    ]
    file.write_text("\n".join([f"Image Index,Patient ID,{','.join(findings)}", *lines, ""]))
    return load_truth(
        replace(describe(directory, "small", IMAGES[: len(rows)], file), findings=findings),
        directory,
    )


@row("one class only")
@pytest.mark.parametrize("present", [False, True])
def test_one_class_is_absent_with_a_reason_and_never_a_number(case, present):
    found, evidence = figures(cohort([[present]] * 4), [[0.1], [0.2], [0.3], [0.4]])
    for metric in RANKED:
        value = found[metric, "finding 0"]
        assert (value.value, value.undefined_reason) == (None, ONE_CLASS_ONLY)
        assert (value.interval, value.interval_undefined_reason) == (None, "")
        assert (value.positive_images, value.negative_images) == ((4, 0) if present else (0, 4))
    assert found["brier", "finding 0"].value is not None
    assert found["auroc", "finding 0"].analytic_standard_error is None
    assert np.isnan(evidence.replicates[0].values).all()
    assert evidence.roc_curves == ()
    assert no_nan(found.values())


@row("macro with an undefined class")
def test_macro_of_an_undefined_class_is_absent_beside_the_count_and_mean_of_the_defined(case):
    probabilities = [[0.9, 0.5], [0.2, 0.5], [0.6, 0.1], [0.1, 0.1]]
    found, evidence = figures(
        cohort([[True, False], [True, False], [False, False], [False, False]]), probabilities
    )
    macro = found["auroc", ""]
    assert (macro.value, macro.undefined_reason, macro.interval) == (None, FINDING_UNDEFINED, None)
    assert (macro.defined_findings, macro.defined_mean) == (1, 0.75)
    assert macro.analytic_standard_error is None
    assert np.isnan(evidence.replicates[-1].values).all()
    assert found["brier", ""].defined_findings == 2
    assert no_nan(found.values())


@row("weighted with an undefined class")
def test_weights_that_leave_one_class_make_it_undefined(case):
    scores, positive = np.float32([0.1, 0.9, 0.4]), np.array([False, True, True])
    for weights in ([1, 0, 0], [0, 1, 2], [0, 0, 0], [0.5, 0.0, 0.0]):
        assert auroc(scores, positive, np.array(weights)) is None
    replicates = FindingResampler(scores, positive, np.arange(3), 3).replicates(
        np.float32([[3, 0], [0, 1], [0, 2]])
    )
    assert all(np.isnan(values).all() for values in replicates.values())


@row("empty")
@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_no_images_give_no_value(case, metric):
    assert metric.compute(np.zeros(0, np.float32), np.zeros(0, np.bool_)) is None


@row("empty")
def test_an_empty_table_of_predictions_is_an_invalid_argument(case):
    with pytest.raises(MissingImages, match="6 of 6 images have no prediction") as caught:
        PredictionTable(image_rows(IMAGES), ("Mass",)).check_complete()
    assert CODES[type(caught.value)] is grpc.StatusCode.INVALID_ARGUMENT


@row("nan score")
@pytest.mark.parametrize("value", [np.nan, -np.nan])
def test_nan_is_refused_with_its_image_and_finding(case, value):
    refused_with_image_and_finding(value)


@row("inf score")
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_with_its_image_and_finding(case, value):
    refused_with_image_and_finding(value)


def refused_with_image_and_finding(value):
    table = PredictionTable(image_rows(IMAGES), ("Mass", "Hernia"))
    with pytest.raises(
        InvalidProbability, match=f"probability of Hernia for image '{IMAGES[2]}'"
    ) as caught:
        table.add(IMAGES[:4], np.float32([0, 0, 0, 0, 0, value, value, 0]))
    assert CODES[type(caught.value)] is grpc.StatusCode.INVALID_ARGUMENT
    named = caught.value.metadata
    assert (named["image"], named["finding"], named["count"]) == (IMAGES[2], "Hernia", "2")
    assert table.image_count == 0
    with pytest.raises(InvalidProbability, match="score of row 1"):
        auroc(np.float32([0.5, value]), np.array([True, False]))


@row("ties; -0.0 and 0.0; subnormals")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_count_half_zeros_are_tied_and_subnormals_are_not(case, dtype):
    smallest = np.finfo(dtype).smallest_subnormal
    pairs = [
        (0.5, 0.5, 0.5),
        (-0.0, 0.0, 0.5),
        (0.0, -0.0, 0.5),
        (smallest, 0.0, 1.0),
        (2 * smallest, smallest, 1.0),
    ]
    for high, low, expected in pairs:
        assert auroc(np.array([high, low], dtype), np.array([True, False])) == expected
        assert (
            auroc(np.array([high, low], dtype), np.array([True, False]), np.array([2, 3]))
            == expected
        )


@row("ties; -0.0 and 0.0; subnormals")
@pytest.mark.parametrize("metric", RANKED)
def test_both_zeros_are_one_score_for_every_ranked_metric(case, metric):
    scores, positive = np.float32([0, 0, 0, 0.5, 0.5]), np.array([True, False, True, True, False])
    signed = np.float32([-0.0, 0.0, 0.0, 0.5, 0.5])
    assert METRICS[metric].compute(signed, positive) == METRICS[metric].compute(scores, positive)
    weights = np.ones((5, 1), np.float32)
    of_signed, of_plain = (
        FindingResampler(s, positive, np.arange(5), 5).replicates(weights) for s in (signed, scores)
    )
    assert of_signed[metric] == of_plain[metric]


@row("logits")
@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # A sigmoid saturates here: all but the first would be tied.
        ([20, 30, 40, 50], 0.75),
        ([-50, 30, -20, 0.5], 0.75),
        ([-1e30, 1e30, 1e-30, 2e30], 0.75),
    ],
)
def test_logits_are_ranked_as_they_are(case, scores, expected):
    scores = np.sort(np.float32(scores))
    positive = np.array([False, True, False, True])
    assert auroc(scores, positive) == expected


@row("logits")
@pytest.mark.parametrize("value", [1.0000001, -1e-45, 20.0])
def test_a_table_of_predictions_takes_probabilities_and_no_logits(case, value):
    table = PredictionTable(image_rows(IMAGES), ("Mass",))
    with pytest.raises(InvalidProbability, match=r"expected a number within \[0, 1\]"):
        table.add(IMAGES[:1], np.float32([value]))


@row("label -1 / nan / 0.5 / {1, 2}")
@pytest.mark.parametrize("label", ["-1", "nan", "0.5", "2", "1.0", "True", " 1", "?"])
def test_a_label_other_than_0_1_or_nothing_is_refused_with_its_line(case, label, tmp_path):
    with pytest.raises(
        DatasetInvalid,
        match=re.escape(
            f"line 3: Hernia is {label!r}; expected 1 for present, 0 for absent, or nothing"
        ),
    ):
        labelled(tmp_path, [["0", "1"], ["1", label]])


@row("label -1 / nan / 0.5 / {1, 2}")
@pytest.mark.parametrize("labels", [[-1, 1], [np.nan, 1.0], [0.5, 1.0], [1, 2]])
def test_labels_that_are_not_boolean_are_refused(case, labels):
    with pytest.raises(MalformedField, match="expected bool; leave out unknown labels"):
        auroc(np.float32([0.1, 0.9]), np.array(labels))


@row("unknown labels")
def test_an_unknown_label_is_left_out_cell_by_cell(case, tmp_path):
    truth = labelled(tmp_path, [["0", "1"], ["1", ""], ["", "0"], ["1", "1"], ["0", "0"]])
    known = [[True, True], [True, False], [False, True], [True, True], [True, True]]
    np.testing.assert_array_equal(truth.cohort.known, known)
    probabilities = np.linspace(0, 1, 10, dtype=np.float32).reshape(5, 2)
    found, _ = figures(truth.cohort, probabilities)
    for column, name in enumerate(truth.cohort.findings):
        at = truth.cohort.known[:, column]
        for metric, definition in METRICS.items():
            value = found[metric, name]
            assert value.value == definition.compute(
                probabilities[at, column], truth.cohort.labels[at, column]
            )
            assert value.positive_images + value.negative_images == 4


@row("unknown labels")
def test_a_finding_without_any_label_is_undefined_in_every_metric(case, tmp_path):
    truth = labelled(tmp_path, [["0", ""], ["1", ""], ["1", ""], ["0", ""]])
    found, evidence = figures(truth.cohort, np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2))
    for metric in METRICS:
        value = found[metric, "Hernia"]
        assert (value.value, value.undefined_reason) == (None, NO_LABELS)
        assert (value.positive_images, value.negative_images, value.positive_patients) == (0, 0, 0)
        macro = found[metric, ""]
        assert (macro.value, macro.undefined_reason, macro.defined_findings) == (
            None,
            FINDING_UNDEFINED,
            1,
        )
        assert macro.defined_mean == found[metric, "Mass"].value
    assert [curve.finding for curve in evidence.roc_curves] == ["Mass"]
    assert no_nan(found.values())


@row("zero weight")
def test_a_row_of_weight_zero_is_dropped(case):
    scores, positive = np.float32([0.1, 0.9, 0.5, 0.7]), np.array([False, True, True, False])
    for dtype in (np.int64, np.float64, np.bool_):
        assert auroc(scores, positive, np.array([1, 1, 0, 0], dtype)) == 1.0
    replicates = FindingResampler(scores, positive, np.arange(4), 4).replicates(
        np.float32([[1], [1], [0], [0]])
    )
    assert {name: values.tolist() for name, values in replicates.items()} == {
        name: [1.0] for name in RANKED
    }


@row("negative weight")
@pytest.mark.parametrize("weights", [[1, -1], [1.0, -1e-9], [-2, -2]])
def test_a_negative_weight_is_refused(case, weights):
    with pytest.raises(MalformedField, match="negative") as caught:
        auroc(np.float32([0.1, 0.9]), np.array([False, True]), np.array(weights))
    assert CODES[type(caught.value)] is grpc.StatusCode.INVALID_ARGUMENT


@row("(N, 1) multilabel")
def test_one_column_is_one_label(case):
    scores, positive = (
        np.float32([[0.1], [0.9], [0.5], [0.5]]),
        np.array([[False], [True], [True], [False]]),
    )
    assert auroc(scores[:, 0], positive[:, 0]) == 0.875
    found, _ = figures(cohort(positive), scores)
    assert found["auroc", "finding 0"].value == found["auroc", ""].value == 0.875
    assert found["auroc", ""].defined_findings == 1
