"""The ladder releases significant improvements over every earlier submission, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.metrics.ladder import FindingScore, released
from cxreval.metrics.registry import Direction

HIGHER, LOWER = Direction.HIGHER_IS_BETTER, Direction.LOWER_IS_BETTER
NAMES = ("Edema", "Hernia", "Mass")
NOISE = np.random.default_rng(0).normal(0, 0.01, (len(NAMES), 200))


def scores(value, names=NAMES, own=0.0, seed=1):
    """Returns scores around a value; `own` is the noise that they do not share with others."""
    extra = np.random.default_rng(seed).normal(0, own, NOISE.shape)
    return {
        name: FindingScore(value, value + NOISE[NAMES.index(name)] + extra[NAMES.index(name)])
        for name in names
    }


def test_the_first_submission_is_released_and_its_copy_is_not():
    assert released(scores(0.8), [], HIGHER)
    assert not released(scores(0.8), [scores(0.8)], HIGHER)


def test_only_a_difference_beyond_the_paired_noise_is_released():
    assert released(scores(0.81, own=0.001), [scores(0.8)], HIGHER)
    assert not released(scores(0.81, own=0.1), [scores(0.8)], HIGHER)
    assert not released(scores(0.79, own=0.001), [scores(0.8)], HIGHER)


def test_where_lower_is_better_a_lower_score_is_released():
    assert released(scores(0.19, own=0.001), [scores(0.2)], LOWER)
    assert not released(scores(0.21, own=0.001), [scores(0.2)], LOWER)


def test_the_best_earlier_submission_counts_whatever_the_order():
    earlier = [scores(0.9), scores(0.7)]
    for order in (earlier, earlier[::-1]):
        assert not released(scores(0.85, own=0.001), order, HIGHER)
        assert released(scores(0.95, own=0.001), order, HIGHER)


def test_a_submission_of_fewer_findings_does_not_reveal_their_scores_again():
    assert not released(scores(0.8, ("Mass",)), [scores(0.8)], HIGHER)
    singles = [scores(0.8, (name,)) for name in NAMES]
    assert not released(scores(0.8), singles, HIGHER)
    assert released(scores(0.1, ("Mass",)), [scores(0.9, ("Edema",))], HIGHER)


def test_undefined_replicates_are_no_improvement():
    undefined = {"Mass": FindingScore(0.9, np.full(200, np.nan))}
    assert not released(undefined, [scores(0.1, ("Mass",))], HIGHER)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 100))
def test_the_released_scores_of_a_sequence_rise_strictly(values, seed):
    kept = []
    for number, value in enumerate(values):
        candidate = scores(value, own=0.001, seed=seed + number)
        if released(candidate, kept, HIGHER):
            kept.append(candidate)
    best = [item["Mass"].score for item in kept]
    assert best == sorted(set(best))
    assert best[0] == pytest.approx(values[0])
