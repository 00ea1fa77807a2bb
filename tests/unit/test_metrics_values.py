"""Average precision, Brier score, calibration error and sensitivity equal reference values."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss

from cxreval.metrics.calibration import BINS, bins, brier, calibration_error
from cxreval.metrics.thresholds import average_precision, required_negatives, sensitivity_at

# Fifteenths and their float32 neighbours sit on the borders of the bins; quarters make ties.
PROBABILITIES = st.one_of(
    st.integers(0, 4).map(lambda k: np.float32(k / 4)),
    st.floats(0, 1, width=32).map(np.float32),
    st.tuples(st.integers(0, 15), st.sampled_from([-1, 0, 1])).map(
        lambda at: np.clip(
            np.nextafter(np.float32(at[0] / 15), np.float32(at[1]) * 2, dtype=np.float32), 0, 1
        )
    ),
)


def tables(fewest_of_each=1):
    rows = st.lists(st.tuples(PROBABILITIES, st.booleans()), min_size=1, max_size=60)
    enough = rows.filter(
        lambda rows: min(sum(p for _, p in rows), sum(not p for _, p in rows)) >= fewest_of_each
    )
    return enough.map(
        lambda rows: (np.array([p for p, _ in rows], np.float32), np.array([p for _, p in rows]))
    )


def slow_sensitivity(specificity, scores, positive):
    """Returns the sensitivity over every threshold, in rational numbers."""
    best = Fraction(0)
    for threshold in [*scores, np.inf]:
        called = scores >= threshold
        reached = Fraction(int((~called & ~positive).sum()), int((~positive).sum()))
        if reached >= specificity:
            best = max(best, Fraction(int((called & positive).sum()), int(positive.sum())))
    return float(best)


def slow_calibration_error(probabilities, positive):
    """Returns Guo's sum over bins (lo, hi], in rational numbers."""
    total = Fraction(0)
    for number in range(BINS):
        low, high = Fraction(number, BINS), Fraction(number + 1, BINS)
        inside = [
            (Fraction(float(p)), bool(y))
            for p, y in zip(probabilities, positive, strict=True)
            if low < Fraction(float(p)) <= high or (number == 0 and p == 0)
        ]
        if inside:
            confidence = sum(p for p, _ in inside) / len(inside)
            accuracy = Fraction(sum(y for _, y in inside), len(inside))
            total += Fraction(len(inside), len(probabilities)) * abs(confidence - accuracy)
    return float(total)


@given(tables())
def test_average_precision_equals_scikit_learn(table):
    scores, positive = table
    assert average_precision(scores, positive) == pytest.approx(
        average_precision_score(positive, scores), abs=1e-12
    )


@given(tables(fewest_of_each=0))
def test_brier_equals_scikit_learn(table):
    probabilities, positive = table
    expected = brier_score_loss(positive, probabilities.astype(np.float64), labels=[False, True])
    assert brier(probabilities, positive) == pytest.approx(expected, abs=1e-12)


@given(tables(fewest_of_each=0))
def test_calibration_error_equals_the_sum_over_bins(table):
    assert calibration_error(*table) == pytest.approx(slow_calibration_error(*table), abs=1e-12)


@given(st.lists(PROBABILITIES, min_size=1, max_size=30))
def test_a_probability_on_a_border_belongs_to_the_bin_below_it(probabilities):
    for probability, number in zip(
        probabilities, bins(np.array(probabilities, np.float32)), strict=True
    ):
        value = Fraction(float(probability))
        assert Fraction(int(number), BINS) < value <= Fraction(int(number) + 1, BINS) or (
            value == 0 == number
        )


@given(tables(), st.sampled_from([Fraction(9, 10), Fraction(19, 20), Fraction(1), Fraction(1, 3)]))
def test_sensitivity_is_the_best_of_all_thresholds(table, specificity):
    assert sensitivity_at(specificity, *table) == slow_sensitivity(specificity, *table)


@pytest.mark.parametrize("negatives", [1, 9, 10, 11, 20, 30, 70, 100, 190, 1000])
@pytest.mark.parametrize("specificity", [Fraction(9, 10), Fraction(19, 20)])
def test_sensitivity_is_exact_where_the_specificity_is_just_reached(negatives, specificity):
    # Positives that exceed all, just enough, one too few and none of the negatives.
    needed = -(-specificity.numerator * negatives // specificity.denominator)
    low = np.arange(negatives)
    high = np.array([negatives, needed, needed - 1, 0]) - 0.5
    scores = ((np.concatenate([low, high]) + 1) / (negatives + 2)).astype(np.float32)
    positive = np.arange(scores.size) >= negatives
    assert sensitivity_at(specificity, scores, positive) == slow_sensitivity(
        specificity, scores, positive
    )
    assert sensitivity_at(specificity, scores, positive) == 0.5


@given(st.integers(1, 10**12), st.integers(0, 1000), st.integers(1, 1000))
def test_required_negatives_are_counted_in_integers(negatives, numerator, denominator):
    specificity = Fraction(min(numerator, denominator), denominator)
    found = int(required_negatives(specificity, np.int64(negatives)))
    assert Fraction(found, negatives) >= specificity
    assert found == 0 or Fraction(found - 1, negatives) < specificity


def test_no_threshold_is_specific_enough_below_a_top_negative():
    scores = np.float32([0.9, 0.8, 0.1])
    assert sensitivity_at(Fraction(9, 10), scores, np.array([False, True, True])) == 0.0
