"""A table of predictions equals a dictionary for every order, batching and mistake."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cxreval.errors import (
    DuplicateImage,
    InvalidProbability,
    MalformedBatch,
    MissingImages,
    UnknownImage,
)
from cxreval.metrics.predictions import PredictionTable, image_rows

FINDINGS = ("Mass", "Nodule", "Hernia")
IMAGES = [f"{number:08d}_000.png" for number in range(8)]
ROWS = image_rows(IMAGES)
VALUES = st.tuples(*[st.floats(0, 1, width=32)] * len(FINDINGS))
PREDICTIONS = st.fixed_dictionaries(dict.fromkeys(IMAGES, VALUES))
SOME_IMAGES = st.lists(st.sampled_from(IMAGES), max_size=10)
OUTSIDE = st.one_of(
    st.floats(max_value=0, exclude_max=True, width=32),
    st.floats(min_value=1, exclude_min=True, width=32),
)


def values_of(images, predictions):
    return np.array([value for image in images for value in predictions[image]], np.float32)


def expected_digest(predictions):
    """Returns the digest by its definition."""
    names = "".join(f"{image}\n" for image in sorted(predictions)).encode()
    rows = b"".join(
        struct.pack("<3f", *(value + 0.0 for value in predictions[image]))
        for image in sorted(predictions)
    )
    return hashlib.sha256(names + rows).hexdigest()


class TableBesideADictionary(RuleBasedStateMachine):
    """Makes every call on a table and on a dictionary."""

    def __init__(self):
        super().__init__()
        self.table = PredictionTable(ROWS, FINDINGS)
        self.model = {}

    @rule(images=SOME_IMAGES, predictions=PREDICTIONS, by_row=st.booleans())
    def add(self, images, predictions, by_row):
        """Adds images; images that exist are repeated with equal values."""
        images = sorted(images, key=lambda image: predictions[image])
        predictions = predictions | self.model
        self._add(images, values_of(images, predictions), by_row)
        self.model |= {image: predictions[image] for image in images}

    @precondition(lambda self: self.model)
    @rule(images=SOME_IMAGES, data=st.data(), by_row=st.booleans())
    def add_another_value(self, images, data, by_row):
        """Adds a batch in which one existing image has another value."""
        image = data.draw(st.sampled_from(sorted(self.model)))
        images = [*(other for other in images if other != image), image]
        predictions = dict.fromkeys(IMAGES, (0.25,) * 3) | self.model
        predictions[image] = (
            predictions[image][0],
            predictions[image][1],
            1 - predictions[image][2] / 2,
        )
        if predictions[image] == self.model[image]:
            return
        with pytest.raises(DuplicateImage, match="1 image is predicted twice") as caught:
            self._add(images, values_of(images, predictions), by_row)
        assert caught.value.metadata["image"] == image

    @rule(images=SOME_IMAGES.filter(len), data=st.data(), wrong=OUTSIDE, by_row=st.booleans())
    def add_outside_the_range(self, images, data, wrong, by_row):
        values = np.zeros((len(images), len(FINDINGS)), np.float32)
        at, column = (
            data.draw(st.integers(0, len(images) - 1)),
            data.draw(st.integers(0, len(FINDINGS) - 1)),
        )
        values[at:, column] = wrong
        with pytest.raises(InvalidProbability) as caught:
            self._add(images, values, by_row)
        named = caught.value.metadata
        assert (named["image"], named["finding"], named["count"]) == (
            images[at],
            FINDINGS[column],
            str(len(images) - at),
        )

    @rule(images=SOME_IMAGES, data=st.data(), by_row=st.booleans(), count=st.integers(1, 3))
    def add_unknown(self, images, data, by_row, count):
        at = data.draw(st.integers(0, len(images)))
        strangers = [f"stranger {number}" for number in range(count)]
        mixed = [*images[:at], *strangers, *images[at:]]
        values = np.zeros((len(mixed), len(FINDINGS)), np.float32)
        with pytest.raises(UnknownImage) as caught:
            self._add(mixed, values, by_row)
        assert caught.value.metadata["count"] == str(count)
        if not by_row:
            assert caught.value.metadata["image"] == "stranger 0"

    @rule(images=SOME_IMAGES, difference=st.sampled_from([-1, 1, 3]), by_row=st.booleans())
    def add_another_number_of_values(self, images, difference, by_row):
        size = max(len(images) * len(FINDINGS) + difference, 0)
        if size == len(images) * len(FINDINGS):
            return
        with pytest.raises(
            MalformedBatch, match=f"has {size} probabilities for {len(images)} images"
        ):
            self._add(images, np.zeros(size, np.float32), by_row)

    def _add(self, images, values, by_row):
        if by_row:
            self.table.add_rows(
                np.array([ROWS.get(image, len(ROWS)) for image in images], np.intp), values
            )
        else:
            self.table.add(images, values)

    @invariant()
    def table_holds_what_the_dictionary_holds(self):
        assert self.table.image_count == len(self.model)
        assert self.table.seen_rows().tolist() == [
            ROWS[image] for image in IMAGES if image in self.model
        ]
        assert self.table.missing() == [image for image in IMAGES if image not in self.model]
        expected = np.array([self.model.get(image, (0,) * 3) for image in IMAGES], np.float32)
        np.testing.assert_array_equal(self.table.probabilities, expected)

    @invariant()
    def only_a_whole_table_is_complete(self):
        missing = self.table.missing()
        if not missing:
            self.table.check_complete()
            assert self.table.sha256() == expected_digest(self.model)
            return
        with pytest.raises(
            MissingImages, match=f"{len(missing)} of 8 images have no prediction"
        ) as caught:
            self.table.check_complete()
        assert caught.value.metadata["image"] == missing[0]


TestTableBesideADictionary = TableBesideADictionary.TestCase
TestTableBesideADictionary.settings = settings(
    max_examples=60, stateful_step_count=15, deadline=None
)


@given(PREDICTIONS, st.permutations(IMAGES), st.integers(1, 8), st.lists(st.sampled_from(IMAGES)))
def test_the_digest_does_not_depend_on_order_batching_or_repeats(
    predictions, order, size, repeated
):
    table = PredictionTable(ROWS, FINDINGS)
    for first in range(0, len(order), size):
        batch = order[first : first + size]
        table.add(batch, values_of(batch, predictions))
    table.add(repeated, values_of(repeated, predictions))
    assert table.sha256() == expected_digest(predictions)


def test_the_sign_of_a_zero_does_not_change_the_digest():
    digests = set()
    for zeros in ([0.0, -0.0], [-0.0, 0.0], [0.0], [-0.0]):
        table = PredictionTable(image_rows(["a"]), ["Mass"])
        for zero in zeros:
            table.add(["a"], np.float32([zero]))
        digests.add(table.sha256())
    assert len(digests) == 1


@pytest.mark.parametrize(
    "other", [{"names": ["a", "c"]}, {"values": [0.1, 0.3]}, {"values": [0.2, 0.1]}]
)
def test_other_images_or_values_have_another_digest(other):
    def digest(names=("a", "b"), values=(0.1, 0.2)):
        table = PredictionTable(image_rows(names), ["Mass"])
        table.add(names, np.float32(values))
        return table.sha256()

    assert digest(**other) != digest()


def test_a_batch_that_contradicts_itself_names_the_first_that_does():
    table = PredictionTable(ROWS, FINDINGS)
    values = np.float32([[0.1] * 3, [0.2] * 3, [0.2] * 3, [0.3] * 3, [0.1, 0.1, 0.2]])
    with pytest.raises(
        DuplicateImage, match="2 images are predicted twice with different values"
    ) as caught:
        table.add([IMAGES[0], IMAGES[1], IMAGES[1], IMAGES[1], IMAGES[0]], values)
    assert caught.value.metadata["image"] == IMAGES[1]
    assert table.image_count == 0


@pytest.mark.parametrize(("low", "high"), [(-1, 0), (7, 8), (-9, -8)])
def test_a_row_outside_the_benchmark_is_refused_rather_than_counted_from_the_end(low, high):
    table = PredictionTable(ROWS, FINDINGS)
    with pytest.raises(UnknownImage):
        table.add_rows(np.array([low, high]), np.zeros(6, np.float32))
    assert table.image_count == 0


def test_a_table_does_not_keep_the_callers_memory():
    table, values = PredictionTable(ROWS, FINDINGS), np.full(24, 0.5, np.float32)
    table.add(IMAGES, values)
    values[:] = 0
    assert (table.probabilities == 0.5).all()
