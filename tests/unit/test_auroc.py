"""AUROC equals scikit-learn's, ties included, and obeys the invariances of the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxreval.metrics.auroc import auroc
from cxreval.metrics.report import FINDING_UNDEFINED, ONE_CLASS_ONLY, auroc_values

# Few distinct values make ties; the full float32 range in [0, 1] has subnormals and neighbours one ulp apart.
SCORES = st.one_of(st.integers(0, 4).map(lambda k: np.float32(k / 4)), st.floats(0, 1, width=32).map(np.float32))
ROWS = st.lists(st.tuples(SCORES, st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(positive for _, positive in rows) < len(rows)
)


def split(rows):
    return np.array([score for score, _ in rows], dtype=np.float32), np.array([positive for _, positive in rows])


@given(ROWS)
def test_equals_scikit_learn_with_ties(rows):
    from sklearn.metrics import roc_auc_score

    scores, positive = split(rows)
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-15)


@given(ROWS)
def test_equals_counting_every_pair(rows):
    scores, positive = split(rows)
    won = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert auroc(scores, positive) == sum(won) / len(won)


@given(ROWS, st.randoms())
def test_order_of_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert auroc(*split(rows)) == auroc(*split(shuffled))


@given(ROWS)
def test_swapping_the_classes_mirrors_the_value(rows):
    scores, positive = split(rows)
    assert auroc(scores, ~positive) == pytest.approx(1 - auroc(scores, positive), abs=1e-15)


@pytest.mark.parametrize("positive", [np.zeros(3, bool), np.ones(3, bool), np.zeros(0, bool)])
def test_one_class_only_is_undefined(positive):
    assert auroc(np.linspace(0, 1, positive.size, dtype=np.float32), positive) is None


def test_macro_is_undefined_when_a_finding_is_and_says_why():
    labels = np.array([[True, False], [False, False]])
    *findings, macro = auroc_values(np.float32([[0.9, 0.5], [0.1, 0.5]]), labels, np.array([7, 7]), ("Mass", "Hernia"))
    assert [(value.value, value.undefined_reason) for value in findings] == [(1.0, ""), (None, ONE_CLASS_ONLY)]
    assert (macro.value, macro.undefined_reason) == (None, FINDING_UNDEFINED)
    assert (macro.positive_images, macro.negative_images, macro.positive_patients) == (1, 1, 1)


@given(arrays(np.float32, (12, 2), elements=st.floats(0, 1, width=32)), st.integers(0, 2**32 - 1))
def test_macro_is_the_plain_mean_over_findings(probabilities, seed):
    from sklearn.metrics import roc_auc_score

    labels = np.random.default_rng(seed).permuted(np.tile([[True], [False]], (6, 2)), axis=0)
    *_, macro = auroc_values(probabilities, labels, np.arange(12), ("Mass", "Nodule"))
    assert macro.value == pytest.approx(roc_auc_score(labels, probabilities, average="macro"), abs=1e-15)
