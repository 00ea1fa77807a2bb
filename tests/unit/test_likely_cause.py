"""What is probably wrong with values that are no probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cxreval.errors import InvalidProbability
from cxreval.metrics.predictions import PredictionTable, image_rows, likely_cause

values = npst.arrays(np.float32, (3, 2), elements=st.floats(-1e6, 1e6, width=32))


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ([0.5, np.nan], "not a finite number"),
        ([np.inf, 0.5], "not a finite number"),
        ([-np.inf, np.nan], "not a finite number"),
        ([-3.0, 2.0], "these look like logits: set outputs.activation: sigmoid"),
        ([-0.5, 0.5], "these look like logits"),
        ([40.0, 0.5], "percentages, to be divided by 100, or like logits"),
        ([140.0, 0.5], "these look like logits"),
        ([1.0000001, 0.5], "rounding: clip"),
        ([-1e-7, 0.5], "rounding: clip"),
    ],
)
def test_the_cause_is_that_of_the_values(row: list[float], cause: str) -> None:
    assert cause in likely_cause(np.array([row], np.float32))


@given(values)
def test_the_error_names_the_first_image_its_finding_and_value(batch: np.ndarray) -> None:
    good = (batch >= 0) & (batch <= 1)
    assume(not good.all())
    images, findings = ["a.png", "b.png", "c.png"], ["Mass", "Nodule"]
    table = PredictionTable(image_rows(images), findings)

    with pytest.raises(InvalidProbability) as refusal:
        table.add(images, batch)

    row, column = np.argwhere(~good)[0]
    message = refusal.value.message
    assert message.startswith(
        f"probability of {findings[column]} for image {images[row]!r} is {batch[row, column]}; "
    )
    assert message.endswith(likely_cause(batch[~good.all(axis=1)]))
