"""Loads share memory and places: as many at once as fit, and room is left for other owners."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import ServiceOverloaded
from services.inference.openings import Openings

GIB = 1 << 30


def holding(openings: Openings, owners: list[str], nbytes: int = GIB) -> contextlib.ExitStack:
    """Returns a context of one load of each owner in turn, as far as they are admitted."""
    held = contextlib.ExitStack()
    for owner in owners:
        with contextlib.suppress(ServiceOverloaded):
            held.enter_context(openings.reserved(nbytes, owner))
    return held


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(4, 100))
def test_one_owners_loads_never_keep_another_owner_out(others: list[int], gib: int) -> None:
    openings = Openings(lambda: gib * GIB)

    with holding(openings, ["endless"] * 100), openings.reserved(GIB, "good"):
        pass
    with holding(openings, ["endless"] * 100 + [f"other {n}" for n in others]):
        assert sum(opening.memory_bytes for opening in openings._openings) <= gib * GIB
        assert len(openings._openings) <= 32


def test_an_owner_alone_may_use_half_of_the_memory() -> None:
    openings = Openings(lambda: 8 * GIB)

    with (
        holding(openings, ["one"] * 4),
        pytest.raises(ServiceOverloaded, match="4 of this owner") as refusal,
        openings.reserved(GIB, "one"),
    ):
        pass
    assert refusal.value.metadata["unit"] == "memory"


def test_a_model_larger_than_the_memory_that_is_left_loads_when_it_is_the_only_one() -> None:
    openings = Openings(lambda: GIB)

    with openings.reserved(5 * GIB, "one"):
        pass
    with (
        openings.reserved(GIB // 2, "one"),
        pytest.raises(ServiceOverloaded),
        openings.reserved(5 * GIB, "two"),
    ):
        pass
    with openings.reserved(5 * GIB, "two"):
        pass
