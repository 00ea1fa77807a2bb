"""ROC curves thinned to few points with the same area, and the bins of reliability diagrams."""

import csv
import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve as sklearn_roc_curve

from cxreval.datasets.nih import FINDINGS
from cxreval.metrics.auroc import auroc
from cxreval.metrics.calibration import BINS, calibration_error
from cxreval.metrics.curves import AREA_TOLERANCE, reliability, roc_curve

ROUNDING = 1e-12


def table(seed, size, levels):
    generator = np.random.default_rng(seed)
    positive = generator.random(size) < generator.uniform(0.05, 0.6)
    positive[:2] = True, False
    scores = np.clip(0.3 * positive + generator.random(size) * 0.7, 0, 1)
    return (np.round(scores * levels) / levels).astype(np.float32), positive


def assert_is_a_curve_of(curve, scores, positive):
    x, y = np.array(curve.false_positive_rates), np.array(curve.sensitivities)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert (np.diff(x) + np.diff(y) > 0).all()
    assert abs(np.trapezoid(y, x) - auroc(scores, positive)) <= AREA_TOLERANCE + ROUNDING


@given(st.integers(0, 2**32 - 1), st.integers(2, 3000), st.sampled_from([1, 10, 1000, 10**6]))
def test_a_thinned_curve_keeps_the_area(seed, size, levels):
    scores, positive = table(seed, size, levels)
    assert_is_a_curve_of(roc_curve("Mass", scores, positive), scores, positive)


@given(st.integers(0, 2**32 - 1), st.integers(2, 90), st.sampled_from([3, 10, 10**6]))
def test_a_small_curve_is_complete(seed, size, levels):
    scores, positive = table(seed, size, levels)
    curve = roc_curve("Mass", scores, positive)
    x, y, _ = sklearn_roc_curve(positive, scores, drop_intermediate=False)
    points = set(zip(curve.false_positive_rates, curve.sensitivities, strict=True))
    assert points <= set(zip(x.tolist(), y.tolist(), strict=True))
    # Every point that is left out lies on the line between its neighbours.
    np.testing.assert_allclose(
        np.trapezoid(curve.sensitivities, curve.false_positive_rates), np.trapezoid(y, x)
    )
    highest = {a: max(b for c, b in points if c == a) for a, _ in points}
    for a, b in zip(x, y, strict=True):
        assert (
            b
            <= np.interp(
                a, list(dict(sorted(highest.items()))), [highest[c] for c in sorted(highest)]
            )
            + ROUNDING
        )


def test_a_curve_of_a_hundred_thousand_images_has_few_points():
    scores, positive = table(1, 100_000, 10**6)
    curve = roc_curve("Mass", scores, positive)
    assert_is_a_curve_of(curve, scores, positive)
    assert len(curve.sensitivities) <= 2000


def test_a_few_points_are_exact():
    curve = roc_curve(
        "Mass", np.float32([0.9, 0.8, 0.8, 0.1]), np.array([True, False, True, False])
    )
    assert curve.finding == "Mass"
    assert curve.false_positive_rates == (0.0, 0.0, 0.5, 1.0)
    assert curve.sensitivities == (0.0, 0.5, 1.0, 1.0)


@pytest.mark.parametrize("positive", [[], [True, True], [False, False]])
def test_one_class_has_no_curve(positive):
    assert (
        roc_curve(
            "Mass", np.linspace(0, 1, len(positive), dtype=np.float32), np.array(positive, np.bool_)
        )
        is None
    )


@pytest.mark.parametrize("model", ["densenet121", "resnet50"])
def test_curves_of_real_predictions_keep_the_area(shared, model):
    with (shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv").open(newline="") as file:
        named = {
            row["Image Index"]: row["Finding Labels"].split("|") for row in csv.DictReader(file)
        }
    with gzip.open(shared / "predictions" / model / "preds.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    for finding in FINDINGS:
        scores = np.array([row[f"prob_{finding}"] for row in rows], np.float32)
        positive = np.array([finding in named[row["Image Index"]] for row in rows])
        assert_is_a_curve_of(roc_curve(finding, scores, positive), scores, positive)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([15, 1000]))
def test_the_bins_hold_every_image_and_give_the_calibration_error(seed, size, levels):
    generator = np.random.default_rng(seed)
    probabilities = (generator.integers(0, levels + 1, size) / levels).astype(np.float32)
    positive = generator.random(size) < probabilities
    found = reliability("Mass", probabilities, positive)
    images, means, positives = (
        np.array(part) for part in (found.images, found.mean_probabilities, found.positives)
    )
    assert len(images) == len(means) == len(positives) == BINS
    assert (images.sum(), positives.sum()) == (size, positive.sum())
    assert (means[images == 0] == 0).all()
    gaps = np.abs(images * means - positives).sum() / size
    assert gaps == pytest.approx(calibration_error(probabilities, positive), abs=1e-12)


def test_no_images_leave_the_bins_empty():
    found = reliability("Mass", np.zeros(0, np.float32), np.zeros(0, np.bool_))
    assert (found.images, found.mean_probabilities, found.positives) == (
        (0,) * BINS,
        (0.0,) * BINS,
        (0,) * BINS,
    )
