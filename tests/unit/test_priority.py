"""Hosts that are busy for long yield to the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.backends.priority import niceness

SECONDS = st.floats(0, 4000)


@given(SECONDS, SECONDS, st.integers(1, 32))
def test_a_host_that_is_busy_for_longer_never_has_more_weight(
    one: float, other: float, together: int
) -> None:
    first, second = (
        niceness(seconds, together, restorable=True) for seconds in sorted((one, other))
    )
    assert 0 <= first <= second <= 19


@given(st.floats(0, 10), st.integers(1, 32))
def test_the_hosts_of_one_owner_share_the_weight_of_one(seconds: float, together: int) -> None:
    alone = niceness(seconds, 1, restorable=True)
    each = niceness(seconds, together, restorable=True)
    weight = together * 1.25**-each
    assert each == 19 or weight <= 1.25**-alone * 1.25


def test_runs_of_ordinary_models_have_full_weight() -> None:
    assert niceness(0.15, 1, restorable=True) == 0


def test_a_niceness_that_cannot_be_lowered_again_is_for_models_that_never_end() -> None:
    assert niceness(29, 8, restorable=False) == 0
    assert niceness(31, 1, restorable=False) == 19
