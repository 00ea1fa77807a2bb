"""The random sample of an earlier attempt's predictions that is asked again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.client import Predictions
from cxreval.errors import CxrevalError, DeadlineExceeded, ServiceUnavailable
from cxreval.evaluation import confirmation
from cxreval.evaluation.confirmation import SAMPLED_IMAGES, confirm
from cxreval.evaluation.resume import LeaseKeeper
from cxreval.evaluation.sources import Rows
from cxreval.retry import RetryPolicy

ROW = np.zeros(1, np.float32)


LEASE = cast("Any", SimpleNamespace(evaluation="evaluation", attempt=2, images_done=200))
IMAGES = [f"{number}.png" for number in range(200)]


class Model:
    """A source that is not a table, answers `ROW`, and raises what `error` returns for an image."""

    def __init__(self, error: Any = lambda *_: None) -> None:
        self.error = error
        self.calls = 0
        self.sent: list[str] = []

    def rows(self, images: Sequence[str], *, one_by_one: bool = False) -> Rows:
        """Yields the predictions of the images, in order."""
        assert not one_by_one
        self.calls += 1
        assert self.calls < 1000, "the source is called for ever"
        for image in images:
            if error := self.error(self, image):
                raise error
            self.sent.append(image)
            yield image, ROW

    def repeat_tolerance(self) -> float:
        """Returns 0."""
        return 0.0


class Recorded:
    """A registry with the predictions of attempt 1, whose calls first fail once."""

    def __init__(self, images: Sequence[str] = IMAGES) -> None:
        self.images = tuple(images)
        self.failures = {"read": 1, "confirm": 1}
        self.confirmed: list[int] = []

    def _fail(self, call: str) -> None:
        if self.failures[call]:
            self.failures[call] -= 1
            raise ServiceUnavailable("restarting")

    def read_predictions(self, _lease: object) -> list[Predictions]:
        """Returns the predictions of all images."""
        self._fail("read")
        count = len(self.images)
        return [Predictions(self.images, np.stack([ROW] * count), (1,) * count)]

    def confirm_predictions(self, _lease: object, attempt: int) -> None:
        """Records the confirmation."""
        self._fail("confirm")
        self.confirmed.append(attempt)


def confirmed(source: Model, registry: Recorded) -> dict[str, str]:
    policy = RetryPolicy(
        initial_pause=0.01, max_pause=0.01, deadline_seconds=1.0, from_progress=True
    )
    keeper = LeaseKeeper(cast("Any", registry), LEASE, policy, stall_seconds=60.0)
    return confirm(cast("Any", registry), LEASE, cast("Any", source), IMAGES, keeper)


def test_a_source_that_never_answers_for_one_image_ends_the_confirmation_in_time() -> None:
    """The answers for other images do not count as progress in each retry."""
    registry = Recorded(IMAGES[:3])

    def error(_source: Model, image: str) -> CxrevalError | None:
        return DeadlineExceeded("slow") if image == IMAGES[0] else None

    source = Model(error)
    with pytest.raises(DeadlineExceeded):
        confirmed(source, registry)
    assert len(source.sent) == len(set(source.sent)) <= 2
    assert not registry.confirmed


def test_a_retry_does_not_ask_again_for_what_was_answered() -> None:
    """A source that answers two images a call and then times out is confirmed after 32 calls."""

    def error(source: Model, _image: str) -> CxrevalError | None:
        return DeadlineExceeded("slow") if len(source.sent) >= 2 * source.calls else None

    source, registry = Model(error), Recorded()
    assert confirmed(source, registry)["resumed_images"] == "200"
    assert len(source.sent) == len(set(source.sent)) == SAMPLED_IMAGES
    assert source.calls == SAMPLED_IMAGES // 2
    assert registry.confirmed == [1]


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.integers(0, 63), st.sampled_from([DeadlineExceeded, ServiceUnavailable])))
def test_after_transient_errors_only_the_images_that_are_left_are_asked(
    errors: dict[int, type[CxrevalError]],
) -> None:
    waiting = dict(errors)

    def error(source: Model, _image: str) -> CxrevalError | None:
        kind = waiting.pop(len(source.sent), None)
        return kind("again") if kind else None

    source, registry = Model(error), Recorded()
    assert confirmed(source, registry)["confirmed_sample_images"] == str(SAMPLED_IMAGES)
    assert len(source.sent) == len(set(source.sent)) == SAMPLED_IMAGES
    assert registry.confirmed == [1]


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
