"""Invariances that every metric of the registry must have."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.metrics.registry import METRICS
from cxreval.metrics.resampling import CalibrationResampler, FindingResampler

SEEDS = st.integers(0, 2**32 - 1)
TOLERANCE = {"auroc": 0.0}
"""Allowed difference of a metric from its slow counterpart; 1e-12 if not listed."""

every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
ranked_metrics = pytest.mark.parametrize(
    "metric",
    [pytest.param(metric, id=name) for name, metric in METRICS.items() if metric.ranks_only],
)


def table(seed, most=80):
    """Scores with ties, both classes, and patients with several images.

    Some patients have no images.
    """
    generator = np.random.default_rng(seed)
    size = int(generator.integers(2, most))
    levels = int(generator.choice([2, 5, 1000]))
    positive = generator.random(size) < generator.uniform(0.1, 0.9)
    positive[:2] = generator.permuted([True, False])
    scores = (generator.integers(0, levels, size) / (levels - 1)).astype(np.float32)
    patient_count = int(generator.integers(1, size + 3))
    return scores, positive, generator.integers(0, patient_count, size), patient_count


def replicates(scores, positive, patients, patient_count, weights):
    """Returns every metric under the weights, by name."""
    at = scores, positive, patients, patient_count
    return FindingResampler(*at).replicates(weights) | CalibrationResampler(*at).replicates(weights)


def close(metric, found, expected):
    return math.isclose(found, expected, rel_tol=0, abs_tol=TOLERANCE.get(metric, 1e-12))


@given(SEEDS)
def test_every_metric_has_replicates(seed):
    scores, positive, patients, count = table(seed)
    found = replicates(scores, positive, patients, count, np.ones((count, 3), np.float32))
    assert set(found) == set(METRICS)
    assert all(values.shape == (3,) and values.dtype == np.float64 for values in found.values())


@every_metric
@given(seed=SEEDS)
def test_order_of_rows_does_not_matter(metric, seed):
    scores, positive, *_ = table(seed)
    order = np.random.default_rng(seed).permutation(scores.size)
    found, shuffled = (
        metric.compute(scores, positive),
        metric.compute(scores[order], positive[order]),
    )
    assert shuffled == found if metric.ranks_only else close(metric.name, shuffled, found)


@every_metric
@given(seed=SEEDS)
def test_a_replicate_equals_the_metric_on_repeated_rows(metric, seed):
    scores, positive, patients, count = table(seed)
    weights = np.random.default_rng(seed).poisson(1, (count, 4)).astype(np.float32)
    found = replicates(scores, positive, patients, count, weights)[metric.name]
    for value, column in zip(found, weights.T, strict=True):
        times = column.astype(int)[patients]
        expected = metric.compute(np.repeat(scores, times), np.repeat(positive, times))
        assert np.isnan(value) if expected is None else close(metric.name, value, expected)


@every_metric
@given(seed=SEEDS)
def test_a_replicate_that_draws_each_patient_once_equals_the_value(metric, seed):
    scores, positive, patients, count = table(seed)
    found = replicates(scores, positive, patients, count, np.ones((count, 1), np.float32))[
        metric.name
    ]
    assert close(metric.name, found[0], metric.compute(scores, positive))


@every_metric
@pytest.mark.parametrize("weight", [1, 1_000_003])
def test_replicates_of_very_large_counts_stay_exact(metric, weight):
    scores, positive, patients, count = table(3, most=60)
    found = replicates(scores, positive, patients, count, np.full((count, 1), weight, np.float32))[
        metric.name
    ]
    assert close(metric.name, found[0], metric.compute(scores, positive))


@every_metric
@settings(max_examples=10)
@given(seed=SEEDS)
def test_long_tables_resample_like_short_ones(metric, seed):
    scores, positive, patients, count = table(seed, most=3000)
    weights = np.random.default_rng(seed).poisson(1, (count, 2)).astype(np.float32)
    found = replicates(scores, positive, patients, count, weights)[metric.name]
    times = weights[:, 1].astype(int)[patients]
    expected = metric.compute(np.repeat(scores, times), np.repeat(positive, times))
    assert np.isnan(found[1]) if expected is None else close(metric.name, found[1], expected)


def test_the_auroc_alone_is_the_same_as_among_all():
    scores, positive, patients, count = table(5)
    weights = np.random.default_rng(5).poisson(1, (count, 50)).astype(np.float32)
    resampler = FindingResampler(scores, positive, patients, count)
    alone = resampler.replicates(weights, auroc_only=True)
    assert list(alone) == ["auroc"]
    np.testing.assert_array_equal(alone["auroc"], resampler.replicates(weights)["auroc"])


@ranked_metrics
@given(seed=SEEDS)
def test_an_increasing_map_changes_no_metric_of_ranks(metric, seed):
    scores, positive, patients, count = table(seed)
    distinct, code = np.unique(scores, return_inverse=True)
    generator = np.random.default_rng(seed)
    mapped = np.sort(
        generator.choice(1 << 20, distinct.size, replace=False).astype(np.float32) / (1 << 20)
    )[code]
    assert metric.compute(mapped, positive) == metric.compute(scores, positive)
    weights = generator.poisson(1, (count, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        replicates(mapped, positive, patients, count, weights)[metric.name],
        replicates(scores, positive, patients, count, weights)[metric.name],
    )


@every_metric
@given(seed=SEEDS)
def test_values_lie_between_0_and_1(metric, seed):
    scores, positive, *_ = table(seed)
    assert 0 <= metric.compute(scores, positive) <= 1


@every_metric
@given(seed=SEEDS)
def test_nothing_is_better_than_a_perfect_prediction(metric, seed):
    scores, positive, *_ = table(seed)
    best = {"higher": 1.0, "lower": 0.0}[metric.direction]
    assert metric.compute(positive.astype(np.float32), positive) == best
    found = metric.compute(scores, positive)
    assert found <= best if metric.direction == "higher" else found >= best


@every_metric
@given(seed=SEEDS)
def test_spoiling_a_perfect_prediction_never_improves_it(metric, seed):
    """A perfect prediction is mixed with its opposite, step by step."""
    _, positive, *_ = table(seed)
    generator = np.random.default_rng(seed)
    order, spoilt = generator.permutation(positive.size), positive.astype(np.float32)
    # Each image is changed by itself: for ranks this moves positives below negatives, for means it
    # adds an error.
    found = []
    for image in [None, *order]:
        if image is not None:
            spoilt[image] = 1 - spoilt[image]
        found.append(metric.compute(spoilt, positive))
    sign = 1 if metric.direction == "higher" else -1
    assert found[0] == max(found, key=lambda value: sign * value)
    if metric.name != "calibration_error":  # errors of both classes cancel within a bin
        assert sign * found[0] > sign * found[-1]


@ranked_metrics
@given(seed=SEEDS)
def test_moving_a_negative_up_never_improves_a_metric_of_ranks(metric, seed):
    scores, positive, *_ = table(seed)
    generator = np.random.default_rng(seed)
    worse = scores.copy()
    worse[generator.choice(np.flatnonzero(~positive))] += np.float32(generator.random())
    assert metric.compute(worse, positive) <= metric.compute(scores, positive) + 1e-12


# Average precision may rise: below a group of negatives, the positive meets the precision of those
# it joins.
@pytest.mark.parametrize(
    "name", [name for name, one in METRICS.items() if one.ranks_only and "precision" not in name]
)
@given(seed=SEEDS)
def test_moving_a_positive_down_never_improves_a_metric_of_ranks(name, seed):
    scores, positive, *_ = table(seed)
    generator = np.random.default_rng(seed)
    worse = scores.copy()
    worse[generator.choice(np.flatnonzero(positive))] -= np.float32(generator.random())
    assert METRICS[name].compute(worse, positive) <= METRICS[name].compute(scores, positive)


@given(SEEDS)
def test_moving_a_probability_away_from_its_outcome_never_improves_the_brier_score(seed):
    scores, positive, *_ = table(seed)
    generator = np.random.default_rng(seed)
    image, worse = generator.integers(scores.size), scores.copy()
    worse[image] += (float(not positive[image]) - worse[image]) * generator.random()
    brier = METRICS["brier"].compute
    assert brier(worse, positive) >= brier(scores, positive) - 1e-12


@every_metric
def test_the_registry_says_what_a_reader_needs(metric):
    assert METRICS[metric.name] is metric
    assert metric.definition.endswith(".")
    assert metric.reference
    assert metric.direction in ("higher", "lower")
