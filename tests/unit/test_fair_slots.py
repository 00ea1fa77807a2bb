"""Callers share slots fairly: a caller without one is refused only while none has two."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import ServiceOverloaded
from services.chassis.fair_slots import FairSlots, Slot


class Holders:
    """Tasks that each hold a slot until they are released or lose it."""

    def __init__(self, limit: int) -> None:
        self.slots = FairSlots(limit, "open streams")
        self.held: dict[asyncio.Task[None], Slot] = {}

    def counts(self) -> Counter[str]:
        return Counter(slot.caller for slot in self.held.values())

    async def start(self, caller: str) -> bool:
        """Returns whether a new task of the caller got a slot."""
        task = asyncio.create_task(self._hold(caller))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task in self.held

    async def _hold(self, caller: str) -> None:
        task = asyncio.current_task()
        assert task
        try:
            with self.slots.hold(caller) as slot:
                self.held[task] = slot
                await asyncio.sleep(60)
        except ServiceOverloaded:
            pass
        finally:
            self.held.pop(task, None)

    async def release(self, number: int) -> None:
        """Cancels one of the tasks, as a client does that leaves."""
        if self.held:
            task = list(self.held)[number % len(self.held)]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["release", "touch"]), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(limit=st.integers(1, 8), steps=STEPS)
def test_slots_are_never_exceeded_and_go_from_the_largest_to_a_smaller_caller(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    async def run() -> None:
        holders = Holders(limit)
        for action, number in steps:
            before = holders.counts()
            if action == "release":
                await holders.release(number)
            elif action == "touch" and holders.held:
                list(holders.held.values())[number % len(holders.held)].touch()
            elif action == "start":
                caller = f"caller {number}"
                got = await holders.start(caller)
                after = holders.counts()
                most = max(before.values(), default=0)
                room = before.total() < limit
                assert got == (room or most >= before[caller] + 2)
                lost = before - after
                assert lost.total() == (0 if room or not got else 1)
                for loser in lost:
                    assert before[loser] == most
                    assert after[loser] >= after[caller]
            assert holders.counts().total() <= limit
        while holders.held:
            await holders.release(0)

    asyncio.run(run())


@given(limit=st.integers(2, 40), attackers=st.integers(1, 5))
def test_callers_that_take_all_slots_leave_one_for_the_next_caller(
    limit: int, attackers: int
) -> None:
    async def run() -> None:
        holders = Holders(limit)
        for number in range(2 * limit):
            await holders.start(f"attacker {number % attackers}")
        assert await holders.start("honest") == (attackers < limit)
        for number in range(2 * limit):  # they try again, and do not take it back
            await holders.start(f"attacker {number % attackers}")
        assert holders.counts()["honest"] == (attackers < limit)
        while holders.held:
            await holders.release(0)

    asyncio.run(run())


def test_the_stream_that_loses_its_slot_is_the_one_unused_for_longest() -> None:
    async def run() -> None:
        holders = Holders(3)
        for _ in range(3):
            await holders.start("attacker")
        first, second, third = list(holders.held)
        holders.held[first].touch()
        await holders.start("honest")
        assert (first in holders.held, second in holders.held, third in holders.held) == (
            True, False, True,
        )  # fmt: skip
        while holders.held:
            await holders.release(0)

    asyncio.run(run())
