"""AUROC equals scikit-learn's, ties included, is rounded once, and has the expected invariances."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxreval.errors import InvalidProbability, MalformedField
from cxreval.metrics.auroc import auroc

ONE_ROUNDING = 2.3e-16
"""Distance of adjacent float64 values just below 2, rounded up."""

SMALLEST = 2.0**-149
SUBNORMALS = st.sampled_from([0.0, -0.0, SMALLEST, 2 * SMALLEST, -SMALLEST, 2.0**-126])
# Few distinct values make ties; values in [0, 1] may be one ulp apart; logits exceed [0, 1].
FLOAT32 = st.one_of(
    st.integers(0, 4).map(lambda k: k / 4),
    st.floats(0, 1, width=32),
    st.floats(-50, 50, width=32),
    SUBNORMALS,
)
FLOAT64 = st.one_of(
    FLOAT32, st.floats(-1e30, 1e30), st.sampled_from([5e-324, 1e-323, 1.0, 1.0 + 2**-52])
)


def tables(scores, dtype, most=60):
    """Scores of one type and labels with both classes."""
    rows = st.lists(st.tuples(scores, st.booleans()), min_size=2, max_size=most)
    both = rows.filter(lambda rows: 0 < sum(positive for _, positive in rows) < len(rows))
    return both.map(
        lambda rows: (np.array([s for s, _ in rows], dtype), np.array([p for _, p in rows]))
    )


TABLES = st.one_of(tables(FLOAT32, np.float32), tables(FLOAT64, np.float64))


def pair_count(scores, positive):
    """The AUROC by its definition, in rational numbers."""
    won = sum(
        2 * int((p > scores[~positive]).sum()) + int((p == scores[~positive]).sum())
        for p in scores[positive]
    )
    return Fraction(won, 2 * int(positive.sum()) * int((~positive).sum()))


@given(TABLES)
def test_equals_scikit_learn_to_one_rounding(table):
    scores, positive = table
    assert abs(auroc(scores, positive) - roc_auc_score(positive, scores)) <= ONE_ROUNDING


@given(TABLES)
def test_is_the_fraction_of_pairs_rounded_once(table):
    scores, positive = table
    assert auroc(scores, positive) == float(pair_count(scores, positive))


@pytest.mark.parametrize("distinct", [2, 100, 10**9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scikit_learn_at_the_size_of_the_official_test_split(distinct, dtype):
    generator = np.random.default_rng(distinct)
    labels = generator.random((25_596, 3)) < (0.004, 0.1, 0.5)
    probabilities = (generator.integers(0, distinct, labels.shape) / distinct).astype(dtype)
    found = list(map(auroc, probabilities.T, labels.T))
    np.testing.assert_allclose(
        found, roc_auc_score(labels, probabilities, average=None), rtol=0, atol=ONE_ROUNDING
    )
    assert (
        abs(np.mean(found) - roc_auc_score(labels, probabilities, average="macro")) <= ONE_ROUNDING
    )


@given(st.integers(2, 40), st.integers(1, 14), st.integers(0, 2**32 - 1))
def test_macro_equals_scikit_learn_to_one_rounding(rows, findings, seed):
    generator = np.random.default_rng(seed)
    labels = generator.permuted(
        np.tile((np.arange(rows) < 1 + rows // 3)[:, np.newaxis], findings), axis=0
    )
    probabilities = (generator.integers(0, 8, labels.shape) / 8).astype(np.float32)
    expected = roc_auc_score(labels, probabilities, average="macro")
    values = list(map(auroc, probabilities.T, labels.T))
    assert abs(np.mean(values) - expected) <= ONE_ROUNDING


def test_three_million_rows_are_counted_in_integers():
    generator = np.random.default_rng(7)
    levels = 1 << 16
    codes, positive = generator.integers(0, levels, 3_000_000), generator.random(3_000_000) < 0.3
    high = np.bincount(codes[positive], minlength=levels).tolist()
    low = np.bincount(codes[~positive], minlength=levels).tolist()
    won = below = 0
    for of_positives, of_negatives in zip(high, low, strict=True):
        won += of_positives * (2 * below + of_negatives)
        below += of_negatives
    scores = (codes / levels).astype(np.float32)
    assert auroc(scores, positive) == won / (2 * sum(high) * sum(low))


@given(TABLES, st.randoms())
def test_order_of_rows_does_not_change_a_bit(table, random):
    scores, positive = table
    order = np.array(random.sample(range(scores.size), scores.size))
    assert auroc(scores[order], positive[order]) == auroc(scores, positive)


@given(TABLES)
def test_swapping_the_classes_mirrors_the_value(table):
    scores, positive = table
    assert abs(auroc(scores, ~positive) - (1 - auroc(scores, positive))) <= ONE_ROUNDING


@given(TABLES)
def test_reversing_the_scores_mirrors_the_value(table):
    scores, positive = table
    assert abs(auroc(-scores, positive) - (1 - auroc(scores, positive))) <= ONE_ROUNDING


@given(TABLES, st.data())
def test_an_increasing_map_does_not_change_a_bit(table, data):
    scores, positive = table
    distinct, code = np.unique(scores, return_inverse=True)
    numbers = st.sampled_from([np.float32, np.float64])
    images = st.lists(
        FLOAT32, min_size=distinct.size, max_size=distinct.size, unique_by=lambda value: value + 0.0
    )
    increasing = np.array(sorted(data.draw(images)), data.draw(numbers))
    assert auroc(increasing[code], positive) == auroc(scores, positive)


@given(TABLES, st.integers(2, 5))
def test_repeating_every_row_does_not_change_a_bit(table, times):
    scores, positive = table
    assert auroc(np.tile(scores, times), np.tile(positive, times)) == auroc(scores, positive)


@given(TABLES, st.data())
def test_integer_weights_equal_repeated_rows_to_the_bit(table, data):
    scores, positive = table
    weights = np.array(
        data.draw(st.lists(st.integers(0, 9), min_size=scores.size, max_size=scores.size))
    )
    repeated = auroc(np.repeat(scores, weights), np.repeat(positive, weights))
    for dtype in (np.int64, np.uint8, np.int32):
        assert auroc(scores, positive, weights.astype(dtype)) == repeated


@given(TABLES, st.data())
def test_zero_weights_equal_dropped_rows_to_the_bit(table, data):
    scores, positive = table
    weights = np.array(
        data.draw(
            st.lists(st.sampled_from([0.0, 0.1, 2.5]), min_size=len(scores), max_size=len(scores))
        )
    )
    kept = weights > 0
    assert auroc(scores, positive, weights) == auroc(scores[kept], positive[kept], weights[kept])
    assert auroc(scores, positive, kept.astype(np.int64)) == auroc(scores[kept], positive[kept])


@given(TABLES, st.integers(0, 2**32 - 1))
def test_float_weights_equal_scikit_learns_sample_weight(table, seed):
    scores, positive = table
    weights = np.random.default_rng(seed).uniform(0.01, 10, scores.size)
    expected = roc_auc_score(positive, scores, sample_weight=weights)
    assert auroc(scores, positive, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weight", [2**31, 2**40, 1e-200, 1e200])
def test_equal_weights_of_any_size_give_the_plain_value(weight):
    scores, positive = np.float32([0.1, 0.9, 0.5, 0.9]), np.array([False, True, True, False])
    assert auroc(scores, positive, np.array([weight] * 4)) == auroc(scores, positive) == 0.625


@given(TABLES, st.integers(0, 2**32 - 1))
def test_large_integer_weights_are_rounded_once(table, seed):
    scores, positive = table
    weights = np.random.default_rng(seed).integers(1, 2**32 // scores.size, scores.size)
    won = sum(
        weight
        * sum(
            int(w) * (int(s < score) + int(s <= score))
            for s, w in zip(scores[~positive], weights[~positive], strict=True)
        )
        for score, weight in zip(scores[positive], weights[positive].tolist(), strict=True)
    )
    pairs = int(weights[positive].sum()) * int(weights[~positive].sum())
    assert auroc(scores, positive, weights) == won / (2 * pairs)


@pytest.mark.parametrize("weight", [-1, -1e-300, np.nan, np.inf])
def test_a_negative_or_infinite_weight_is_refused(weight):
    scores, positive = np.float32([0.1, 0.9]), np.array([False, True])
    with pytest.raises(MalformedField, match="negative or not finite") as caught:
        auroc(scores, positive, np.array([1, weight]))
    assert caught.value.metadata["field"] == "weights"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weights", [None, np.array([1, 1, 0])])
def test_a_score_that_is_not_finite_is_refused_by_its_row(value, weights):
    with pytest.raises(InvalidProbability, match="row 2") as caught:
        auroc(np.float32([0.1, 0.9, value]), np.array([False, True, True]), weights)
    assert caught.value.metadata["row"] == "2"


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.object_])
def test_labels_of_another_type_are_refused(dtype):
    with pytest.raises(MalformedField, match="expected bool"):
        auroc(np.float32([0.1, 0.9]), np.array([0, 1], dtype))


@pytest.mark.parametrize(("scores", "weights"), [(3, None), (2, 3), (1, 2)])
def test_different_lengths_are_refused(scores, weights):
    with pytest.raises(MalformedField, match="different lengths"):
        auroc(
            np.zeros(scores, np.float32),
            np.array([False, True]),
            None if weights is None else np.ones(weights),
        )


def test_a_square_of_scores_is_refused_rather_than_ranked_row_by_row():
    with pytest.raises(MalformedField):
        auroc(np.float32([[0.1], [0.9]]), np.array([[False], [True]]))


@pytest.mark.parametrize("positive", [np.zeros(3, bool), np.ones(3, bool), np.zeros(0, bool)])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_class_only_is_undefined(positive, weighted):
    scores = np.linspace(0, 1, positive.size, dtype=np.float32)
    assert auroc(scores, positive, np.ones(positive.size) if weighted else None) is None
