"""Analytic standard errors equal MLstatkit's DeLong and, for clusters, Obuchowski's formulas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MLstatkit import Delong_test
from scipy.stats import norm

from cxreval.metrics.delong import covariance, macro_variance, placement_sums

SEEDS = st.integers(0, 2**32 - 1)


def readings(seed, size=120, patient_count=None, findings=2):
    """Scores of some findings with ties, one set of labels, and patients."""
    generator = np.random.default_rng(seed)
    positive = generator.permutation(np.arange(size) < generator.integers(2, size - 1))
    patients = (
        np.arange(size) if patient_count is None else generator.integers(0, patient_count, size)
    )
    mood = generator.normal(size=size)[patients]
    latent = positive + mood + generator.normal(size=(findings, size))
    return np.round(1 / (1 + np.exp(-latent)), 2).astype(np.float32), positive, patients


def sums(scores, positive, patients):
    return placement_sums(scores, positive, patients, int(patients.max()) + 1)


def win(high, low):
    return 1.0 if high > low else 0.5 if high == low else 0.0


def obuchowski(first, second, positive, patients):
    """Equations 3 to 6 of the paper, term by term."""
    places = np.flatnonzero(positive), np.flatnonzero(~positive)
    clusters = sorted(set(patients.tolist()))
    m, n = (len(of_class) for of_class in places)
    theta, v10, v01 = [], [], []
    for scores in (first, second):
        psi = np.array([[win(scores[i], scores[j]) for j in places[1]] for i in places[0]])
        theta.append(psi.sum() / (m * n))
        v10.append(
            [sum(psi[k].mean() for k in range(m) if patients[places[0][k]] == c) for c in clusters]
        )
        v01.append(
            [
                sum(psi[:, k].mean() for k in range(n) if patients[places[1][k]] == c)
                for c in clusters
            ]
        )
    m_i, n_i = ([int((patients[of_class] == c).sum()) for c in clusters] for of_class in places)
    i10, i01, i = sum(x > 0 for x in m_i), sum(x > 0 for x in n_i), len(clusters)

    def from_positives(r, c):
        return v10[r][c] - m_i[c] * theta[r]

    def from_negatives(r, c):
        return v01[r][c] - n_i[c] * theta[r]

    s10 = i10 / ((i10 - 1) * m) * sum(from_positives(0, c) * from_positives(1, c) for c in range(i))
    s01 = i01 / ((i01 - 1) * n) * sum(from_negatives(0, c) * from_negatives(1, c) for c in range(i))
    s11 = i / (i - 1) * sum(from_positives(0, c) * from_negatives(1, c) for c in range(i))
    s11_swapped = i / (i - 1) * sum(from_positives(1, c) * from_negatives(0, c) for c in range(i))
    return s10 / m + s01 / n + (s11 + s11_swapped) / (m * n)


@settings(max_examples=30)
@given(SEEDS)
def test_one_image_a_patient_is_delongs_test(seed):
    (first, second), positive, patients = readings(seed)
    a, b = sums(first, positive, patients), sums(second, positive, patients)
    variance = covariance(a, a) + covariance(b, b) - 2 * covariance(a, b)
    z, p_value, ci_a, ci_b, auc_a, auc_b, info = Delong_test(positive, first, second)
    assert info["method"] == "delong"
    assert variance == pytest.approx(info["var_diff"], abs=1e-10)
    assert (auc_b - auc_a) / math.sqrt(variance) == pytest.approx(z, abs=1e-8)
    assert 2 * norm.sf(abs(auc_b - auc_a) / math.sqrt(variance)) == pytest.approx(
        p_value, abs=1e-10
    )
    for one, (low, high), area in ((a, ci_a, auc_a), (b, ci_b, auc_b)):
        reach = norm.ppf(0.975) * math.sqrt(covariance(one, one))
        assert (max(area - reach, 0), min(area + reach, 1)) == pytest.approx((low, high), abs=1e-10)


@settings(max_examples=25)
@given(SEEDS, st.sampled_from([3, 8, 25]))
def test_several_images_a_patient_are_obuchowskis_formulas(seed, patient_count):
    (first, second), positive, patients = readings(seed, size=40, patient_count=patient_count)
    a, b = sums(first, positive, patients), sums(second, positive, patients)
    if min(a.positive_patients, a.negative_patients) < 2:
        assert covariance(a, b) is None
        return
    assert covariance(a, a) == pytest.approx(
        obuchowski(first, first, positive, patients), abs=1e-12
    )
    assert covariance(a, b) == pytest.approx(
        obuchowski(first, second, positive, patients), abs=1e-12
    )
    assert covariance(a, b) == pytest.approx(covariance(b, a), abs=1e-15)


@given(SEEDS, st.integers(2, 5))
def test_duplicates_within_patients_add_no_certainty_unless_taken_for_new_patients(seed, times):
    (scores, _), positive, patients = readings(seed, size=60, patient_count=30)
    duplicated = [np.tile(column, times) for column in (scores, positive, patients)]
    once, more = sums(scores, positive, patients), sums(*duplicated)
    if min(once.positive_patients, once.negative_patients) < 2:
        return
    assert covariance(more, more) == pytest.approx(covariance(once, once), rel=1e-9, abs=1e-15)
    alone = sums(scores, positive, np.arange(positive.size))
    many = sums(*duplicated[:2], np.arange(times * positive.size))
    assert covariance(many, many) <= covariance(alone, alone) / times * (1 + 1e-9) + 1e-15


def test_alike_images_of_a_patient_widen_the_clustered_error_beyond_the_plain_one():
    (scores, _), positive, patients = readings(1, size=400, patient_count=40)
    positive = np.random.default_rng(1).random(40)[patients] < 0.4
    clustered, plain = sums(scores, positive, patients), sums(scores, positive, np.arange(400))
    assert covariance(clustered, clustered) > 1.5 * covariance(plain, plain)


@given(SEEDS)
def test_the_macro_variance_holds_all_covariances_of_the_findings(seed):
    scores, positive, patients = readings(seed, size=50, patient_count=12, findings=4)
    found = [sums(column, positive, patients) for column in scores]
    size = found[0].influence.size
    pairs = sum(float(a.influence @ b.influence) for a in found for b in found)
    assert macro_variance(found) == pytest.approx(size / (size - 1) * pairs / 4**2, abs=1e-15)


@given(SEEDS)
def test_the_macro_of_one_finding_is_that_finding_when_each_patient_has_both_classes(seed):
    generator = np.random.default_rng(seed)
    patients, positive = np.repeat(np.arange(10), 4), np.tile([True, False, True, False], 10)
    found = sums(generator.random(40, np.float32).round(1), positive, patients)
    assert macro_variance([found]) == pytest.approx(covariance(found, found), abs=1e-15)


@given(SEEDS)
def test_the_influence_of_the_patients_sums_to_nothing(seed):
    (scores, _), positive, patients = readings(seed, size=50, patient_count=12)
    assert sums(scores, positive, patients).influence.sum() == pytest.approx(0, abs=1e-12)


def test_one_class_has_no_placements_and_one_patient_no_variance():
    scores, patients = np.float32([0.1, 0.4, 0.8]), np.arange(3)
    for positive in (np.zeros(3, np.bool_), np.ones(3, np.bool_)):
        assert placement_sums(scores, positive, patients, 3) is None
    lonely = placement_sums(scores, np.array([False, False, True]), patients, 3)
    assert covariance(lonely, lonely) is None
    same = placement_sums(scores, np.array([False, False, True]), np.zeros(3, np.int64), 1)
    assert macro_variance([same]) is None
