"""The bootstrap draws whole patients, and the same ones for every model and version."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.metrics import resampling
from cxreval.metrics.resampling import patient_weights

SEEDS = st.integers(0, 2**64 - 1)


def weights(seed, patient_count, replicates):
    """Returns all pieces side by side, (patient_count, replicates)."""
    return np.concatenate(list(patient_weights(seed, patient_count, replicates)), axis=1)


@given(SEEDS, st.integers(1, 200), st.integers(1, 600))
def test_each_replicate_draws_as_many_patients_as_there_are(seed, patient_count, replicates):
    found = weights(seed, patient_count, replicates)
    assert (found.shape, found.dtype) == ((patient_count, replicates), np.float32)
    np.testing.assert_array_equal(found.sum(axis=0), patient_count)
    np.testing.assert_array_equal(found, np.floor(found))
    assert found.min() >= 0


@given(SEEDS, st.integers(1, 100), st.integers(1, 600), st.integers(1, 600))
def test_fewer_replicates_are_the_first_of_many(seed, patient_count, few, more):
    many = weights(seed, patient_count, few + more)
    np.testing.assert_array_equal(weights(seed, patient_count, few), many[:, :few])


def test_the_first_300_of_2000_are_the_300():
    np.testing.assert_array_equal(weights(9, 2797, 2000)[:, :300], weights(9, 2797, 300))


@pytest.mark.parametrize("chunk", [1, 7, 100, 10_000])
def test_the_size_of_the_pieces_changes_no_draw(chunk, monkeypatch):
    expected = weights(3, 50, 600)
    monkeypatch.setattr(resampling, "_CHUNK", chunk)
    assert {piece.shape[1] for piece in patient_weights(3, 50, 600)} <= {
        min(chunk, 600),
        600 % chunk,
    }
    np.testing.assert_array_equal(weights(3, 50, 600), expected)


@pytest.mark.parametrize(
    ("seed", "draws"),
    [
        (0, [[2, 1, 0, 1, 1, 1], [1, 0, 0, 2, 2, 1], [1, 1, 0, 1, 1, 2], [2, 1, 1, 1, 1, 0]]),
        (
            2**64 - 1,
            [[2, 1, 0, 0, 1, 2], [0, 2, 0, 2, 1, 1], [0, 0, 2, 2, 1, 1], [1, 1, 0, 3, 1, 0]],
        ),
    ],
)
def test_a_seed_gives_the_draws_it_gave_when_it_was_published(seed, draws):
    """Published intervals depend on this stream; changing it requires a new scorer version."""
    assert weights(seed, 6, 4).T.tolist() == draws


def test_the_stream_of_the_official_test_split_has_not_changed():
    digest = hashlib.sha256(weights(1, 2797, 300).T.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "c9532ce2db27edd249254adaaa02dac88d0e20ac5017381574f88d550008ca24"


def test_seeds_give_different_draws():
    assert not np.array_equal(weights(1, 100, 10), weights(2, 100, 10))


def test_draws_have_the_mean_and_variance_of_a_bootstrap():
    found = weights(4, 1000, 1000)
    assert found.mean() == 1
    # Multinomial: 1 - 1/1000; the estimate's own standard error is about 0.0017.
    assert found.var() == pytest.approx(0.999, abs=0.01)
    assert (found == 0).mean() == pytest.approx(np.exp(-1), abs=0.003)


def test_every_patient_is_drawn_equally_often():
    drawn = weights(5, 1000, 2000).sum(axis=1)
    distances = (drawn - 2000) / np.sqrt(2000 * 0.999)
    assert np.abs(distances).max() < 5
    assert distances.std() == pytest.approx(1, abs=0.1)


def test_one_patient_is_always_drawn():
    np.testing.assert_array_equal(weights(6, 1, 300), np.ones((1, 300)))
