"""The random sample of an earlier attempt's predictions that is asked again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.evaluation import confirmation
from cxreval.evaluation.confirmation import SAMPLED_IMAGES

ROW = np.zeros(1, np.float32)


class Model:
    """A source that is not a table."""


def sample(count: int) -> list[str]:
    rows = {f"{number}.png": ROW for number in range(count)}
    return confirmation._sample(rows, Model())  # type: ignore[arg-type]


@given(st.integers(0, 300))
def test_sample_has_different_images_and_at_most_64(count: int) -> None:
    images = sample(count)
    assert len(images) == len(set(images)) == min(count, SAMPLED_IMAGES)
    assert set(images) <= {f"{number}.png" for number in range(count)}


@pytest.mark.parametrize("wrong", [10, 50, 100])
def test_sample_misses_wrong_rows_as_rarely_as_stated(wrong: int) -> None:
    """The share of 2,000 samples without a wrong row is the hypergeometric one, within 6 sigma."""
    count, draws = 1000, 2000
    bad = {f"{number}.png" for number in range(wrong)}
    missed = sum(bad.isdisjoint(sample(count)) for _ in range(draws))
    expected = math.comb(count - wrong, SAMPLED_IMAGES) / math.comb(count, SAMPLED_IMAGES)
    assert expected <= (1 - wrong / count) ** SAMPLED_IMAGES
    assert abs(missed / draws - expected) <= 6 * math.sqrt(expected / draws) + 1 / draws


@pytest.mark.parametrize(
    ("answer", "tolerance", "agrees"),
    [
        (0.5, 0.0, True),
        (np.nextafter(np.float32(0.5), np.float32(1)), 0.0, False),
        (0.501, 2e-3, True),
        (0.503, 2e-3, False),
        (float("nan"), 2e-3, False),
    ],
)
def test_answers_agree_within_the_tolerance(answer: float, tolerance: float, agrees: bool) -> None:
    recorded, answers = {"a": np.array([0.5], np.float32)}, {"a": np.array([answer], np.float32)}
    assert confirmation._agrees("a", recorded, answers, tolerance) is agrees
    assert not confirmation._agrees("a", recorded, {}, tolerance)
    assert not confirmation._agrees("a", recorded, {"a": np.zeros(2, np.float32)}, tolerance)
