"""The comparison of two evaluations states their largest difference and its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.metrics.predictions import PredictionTable
from cxreval.records import Agreement, Verdict
from services.registry.domain.agreements import Compared, agreement
from tests.support.records import NOON
from tests.support.registry import small_spec

FINDINGS = ("Mass", "Hernia")
probabilities = st.floats(0, 1, width=32)


def agreement_of(first: list[list[float]], second: list[list[float]], allowed: float) -> Agreement:
    images = {f"{row}.png": row for row in range(len(first))}
    tables = [PredictionTable(images, FINDINGS) for _ in range(2)]
    for table, values in zip(tables, (first, second), strict=True):
        table.add(list(images), np.array(values, np.float32))
    row, again = (Compared(name, table) for name, table in zip("ab", tables, strict=True))
    return agreement(row, again, images, small_spec("small"), allowed, None, None, NOON)


@settings(max_examples=50)
@given(st.data(), st.integers(1, 6))
def test_the_largest_difference_its_place_and_the_mean_are_those_of_plain_python(
    data: st.DataObject, images: int
) -> None:
    rows = st.lists(
        st.lists(probabilities, min_size=2, max_size=2), min_size=images, max_size=images
    )
    first, second = data.draw(rows), data.draw(rows)
    found = agreement_of(first, second, 0.01)
    differences = {
        (f"{row}.png", finding): abs(first[row][column] - second[row][column])
        for row in range(images)
        for column, finding in enumerate(FINDINGS)
    }
    assert found.max_difference == max(differences.values())
    if found.max_difference:
        assert differences[found.worst_image, found.worst_finding] == found.max_difference
    assert found.mean_difference == pytest.approx(sum(differences.values()) / len(differences))
    assert (found.verdict is Verdict.AGREES) == all(one <= 0.01 for one in differences.values())
    assert found.images == images


def test_a_tolerance_is_kept_to_its_last_bit() -> None:
    rows = [[0.5, 0.5]], [[0.5 + 2**-10, 0.5]]
    assert agreement_of(*rows, 2**-10).verdict is Verdict.AGREES
    assert agreement_of(*rows, 2**-10 - 1e-12).verdict is Verdict.DIFFERS
    assert not agreement_of(*rows, 2**-10).bit_identical
    assert agreement_of(rows[0], rows[0], 0).bit_identical
