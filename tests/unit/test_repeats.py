"""The repeat sample depends on the benchmark alone, and is compared value by value."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import (
    InvalidProbability,
    LeaseLost,
    ModelNotFound,
    NotDeterministic,
    ServiceUnavailable,
    SubmissionFault,
)
from cxreval.evaluation.repeats import SAMPLE_IMAGES, check_repeats, repeat_sample
from cxreval.evaluation.resume import LeaseKeeper
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.retry import RetryPolicy
from services.inference.__main__ import _repeat_tolerance
from services.inference.backends.session import PROVIDERS, Execution

NIH = load_spec("nih-chestxray14")
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
IMAGES = st.lists(st.text(min_size=1, max_size=20).filter(str.isprintable), unique=True)
PROBABILITIES = st.floats(0, 1, width=32)
SEVERAL = [f"{number:08d}_000.png" for number in range(300)]


class Model:
    """A source that returns `rows` and raises each of `errors` before the image of its number."""

    def __init__(self, rows, tolerance=0.0, errors=()):
        self.answers, self.tolerance, self.errors = rows, tolerance, dict(errors)
        self.sent, self.tolerance_errors = [], [ServiceUnavailable("restarting")]

    def rows(self, images, *, one_by_one=False):
        assert one_by_one
        for image in images:
            if error := self.errors.pop(len(self.sent), None):
                raise error
            self.sent.append(image)
            yield image, self.answers[image]

    def repeat_tolerance(self):
        if self.tolerance_errors:
            raise self.tolerance_errors.pop()
        return self.tolerance


def keeper():
    policy = RetryPolicy(
        transient=(ServiceUnavailable, ModelNotFound), initial_pause=0.0, deadline_seconds=5.0
    )
    return LeaseKeeper(None, None, policy, stall_seconds=60.0)


def recorded(images, rows):
    table = PredictionTable(image_rows(images), FINDINGS)
    table.add(images, np.stack([rows[image] for image in images]))
    return table


def random_rows(images, seed=0):
    rng = np.random.default_rng(seed)
    return {image: rng.random(len(FINDINGS), np.float32) for image in images}


def repeats(source, images, rows, lease_keeper=None):
    return check_repeats(source, NIH, images, recorded(images, rows), lease_keeper or keeper())


@given(DIGESTS, st.integers(0, 1000))
@settings(max_examples=50)
def test_the_sample_has_each_image_once_and_at_most_256(digest, count):
    images = [f"{number}.png" for number in range(count)]
    sample = repeat_sample(digest, images)
    assert len(sample) == len(set(sample)) == min(SAMPLE_IMAGES, count)
    assert set(sample) <= set(images)


@given(DIGESTS, IMAGES, st.randoms(use_true_random=False))
def test_the_sample_depends_on_the_benchmark_and_not_on_the_order_of_its_images(
    digest, images, random
):
    shuffled = random.sample(images, len(images))
    assert repeat_sample(digest, shuffled) == repeat_sample(digest, images)


def test_each_benchmark_has_its_own_sample_in_an_order_of_its_own():
    images = [f"{number:08d}_000.png" for number in range(25_596)]
    other = dataclasses.replace(NIH, replicates=NIH.replicates + 1)
    one, two = repeat_sample(NIH.digest, images), repeat_sample(other.digest, images)
    assert one == repeat_sample(NIH.digest, images)
    assert len({*one, *two}) > 1.9 * SAMPLE_IMAGES
    ascending = sum(first < second for first, second in itertools.pairwise(one))
    assert 0.3 < ascending / SAMPLE_IMAGES < 0.7
    # Places in the list are uniform: each eighth of it has 32 images, with deviation 5.3.
    places = np.histogram([int(image[:8]) for image in one], 8, (0, len(images)))[0]
    assert (abs(places - SAMPLE_IMAGES / 8) < 27).all()


def test_the_sample_of_a_benchmark_never_changes():
    assert repeat_sample("ab" * 32, ["a.png", "b.png", "c.png", "d.png"]) == [
        "c.png", "b.png", "a.png", "d.png",
    ]  # fmt: skip


def test_a_model_that_repeats_its_answers_passes_with_difference_0():
    rows = random_rows(SEVERAL)
    model = Model(rows)
    assert repeats(model, SEVERAL, rows) == {
        "repeat_images": "256",
        "repeat_largest_difference": "0",
        "repeat_tolerance": "0",
    }
    assert model.sent == repeat_sample(NIH.digest, SEVERAL)


def test_no_image_is_sent_if_no_model_ran():
    rows = random_rows(SEVERAL)
    model = Model(rows, tolerance=None)
    assert (repeats(model, SEVERAL, rows), model.sent) == ({}, [])


@given(
    st.lists(st.tuples(PROBABILITIES, PROBABILITIES), min_size=14, max_size=70),
    st.sampled_from([0.0, 2e-3, 0.5]),
)
def test_exactly_differences_beyond_the_tolerance_fail(pairs, tolerance):
    pairs = np.array(pairs, np.float32)[: len(pairs) // 14 * 14].reshape(-1, 14, 2)
    images = SEVERAL[: len(pairs)]
    first, second = (dict(zip(images, pairs[:, :, k], strict=True)) for k in range(2))
    differences = np.abs(pairs[:, :, 0].astype(np.float64) - pairs[:, :, 1])
    if differences.max() <= tolerance:
        found = repeats(Model(second, tolerance), images, first)
        assert float(found["repeat_largest_difference"]) == pytest.approx(
            differences.max(), rel=0.01
        )
        return
    with pytest.raises(NotDeterministic) as caught:
        repeats(Model(second, tolerance), images, first)
    error = caught.value
    assert isinstance(error, SubmissionFault)
    facts = error.metadata
    row, column = images.index(facts["image"]), FINDINGS.index(facts["finding"])
    assert differences[row, column] == differences.max()
    assert np.float32(facts["recorded"]) == pairs[row, column, 0]
    assert np.float32(facts["repeated"]) == pairs[row, column, 1]
    assert int(facts["count"]) == (differences > tolerance).any(axis=1).sum()
    for fact in ("image", "finding", "recorded", "repeated", "difference", "tolerance"):
        assert facts[fact] in error.message


def test_one_float_of_one_image_that_is_off_by_the_last_bit_fails_on_a_cpu():
    rows = random_rows(SEVERAL)
    image = repeat_sample(NIH.digest, SEVERAL)[-1]
    row = rows[image].copy()
    row[5] = np.nextafter(row[5], np.float32(2))
    with pytest.raises(NotDeterministic) as caught:
        repeats(Model(rows | {image: row}), SEVERAL, rows)
    facts = caught.value.metadata
    assert (facts["image"], facts["finding"]) == (image, FINDINGS[5])
    assert facts["recorded"] != facts["repeated"]


def test_negative_zero_is_zero():
    zeros = np.zeros(14, np.float32)
    found = repeats(Model({"a.png": -zeros}), ["a.png"], {"a.png": zeros})
    assert found["repeat_largest_difference"] == "0"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-6, 1.000001])
def test_a_repeated_value_that_is_no_probability_is_named(value):
    rows = random_rows(SEVERAL)
    row = rows[SEVERAL[7]].copy()
    row[3] = value
    images = SEVERAL[:20]
    with pytest.raises(InvalidProbability, match=f"{FINDINGS[3]} for image '{SEVERAL[7]}'"):
        repeats(Model(rows | {SEVERAL[7]: row}, tolerance=2e-3), images, rows)


@given(st.dictionaries(st.integers(0, 255), st.sampled_from([ServiceUnavailable, ModelNotFound])))
@settings(max_examples=30)
def test_after_transient_errors_only_the_images_that_are_left_are_sent(errors):
    rows = random_rows(SEVERAL)
    model = Model(rows, errors={number: error("again") for number, error in errors.items()})
    assert repeats(model, SEVERAL, rows)["repeat_images"] == "256"
    assert model.sent == repeat_sample(NIH.digest, SEVERAL)
    assert not model.errors


def test_a_lost_lease_ends_the_sample_at_the_next_image():
    lost = keeper()
    rows = random_rows(SEVERAL)
    model = Model(rows)

    def lose(images, *, one_by_one):
        for number, (image, row) in enumerate(Model.rows(model, images, one_by_one=one_by_one)):
            if number == 3:
                lost._lost = LeaseLost("another worker has it")
            yield image, row

    model.rows = lose
    with pytest.raises(LeaseLost):
        repeats(model, SEVERAL, rows, lost)
    assert len(model.sent) == 4


@pytest.mark.parametrize(
    ("provider", "fp16", "gpu", "tolerance"),
    [
        ("", False, False, 0.0),
        ("cpu", False, False, 0.0),
        ("cpu", False, True, 0.0),
        ("", True, False, 2e-3),
        ("cpu", True, False, 2e-3),
        ("", False, True, 2e-3),
        ("cuda", False, True, 2e-3),
        ("tensorrt", True, True, 2e-3),
    ],
)
def test_only_a_cpu_that_runs_models_as_saved_promises_equal_answers(
    monkeypatch, provider, fp16, gpu, tolerance
):
    available = list(PROVIDERS.values()) if gpu else [PROVIDERS["cpu"]]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: available)
    assert _repeat_tolerance(Execution(provider, fp16)) == tolerance
