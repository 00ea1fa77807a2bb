"""Slots for streams that take memory or threads, shared fairly by the callers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cxreval.errors import ServiceOverloaded


@dataclass(slots=True, eq=False)
class Slot:
    """The slot of one stream. `used`: when it was last used."""

    caller: str
    task: asyncio.Task[object] | None
    used: float = field(default_factory=time.monotonic)
    lost: bool = False

    def touch(self) -> None:
        """Records that the stream has sent or received a message now."""
        self.used = time.monotonic()


class FairSlots:
    """At most `limit` slots. For one event loop.

    A caller gets a free slot at once. When none is free, it gets the slot of another caller that
    holds at least two more than it: of the caller that holds most, the slot that was not used for
    longest. So a caller that holds no slot is refused only while no caller holds two.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._held: dict[Slot, None] = {}  # a set that keeps the order

    @contextmanager
    def hold(self, caller: str) -> Iterator[Slot]:
        """Holds a slot in the block, which the running task must not leave before the block ends.

        Raises:
            ServiceOverloaded: no slot is free; or, in the block, another caller got this slot.
        """
        if len(self._held) >= self._limit:
            self._take_from_largest(caller)
        slot = Slot(caller, asyncio.current_task())
        self._held[slot] = None
        try:
            yield slot
        except asyncio.CancelledError:
            if not slot.lost or slot.task is None:
                raise
            slot.task.uncancel()
            raise self._overloaded("the slot of this call went to a caller with fewer") from None
        finally:
            self._held.pop(slot, None)

    def _take_from_largest(self, caller: str) -> None:
        held = Counter(slot.caller for slot in self._held)
        largest, most = held.most_common(1)[0]
        if most < held[caller] + 2:
            raise self._overloaded("no slot is free")
        idlest = min((slot for slot in self._held if slot.caller == largest), key=_last_used)
        del self._held[idlest]
        idlest.lost = True
        if idlest.task:
            idlest.task.cancel()

    def _overloaded(self, cause: str) -> ServiceOverloaded:
        message = f"too many {self._name} (limit {self._limit}): {cause}; retry later"
        return ServiceOverloaded(message, limit=self._limit)


def _last_used(slot: Slot) -> float:
    return slot.used
