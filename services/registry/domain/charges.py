"""Which starts of a submission count for a day: each is work, unless no worker took it or the
platform failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cxreval.records import Change, Fault

_STARTS = (Change.CREATED, Change.RETRIED)
_FAILURES = (Change.FAILED, Change.EXPIRED)

WORKED = (*_FAILURES, Change.LEASED)
"""Without one of these, a submission that was called off counts for no day."""

CHARGING = (*_STARTS, *WORKED, Change.CANCELLED)
"""The changes that `charged` judges by."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a submission. `by_platform`: it failed, and the platform did."""

    change: Change
    time: datetime
    by_platform: bool = False

    @classmethod
    def of(cls, change: str, time: datetime, fault: str | None) -> Step:
        """A step out of an event; a failure whose fault nobody recorded is taken for the
        platform's."""
        return cls(Change(change), time, change in _FAILURES and fault != Fault.SUBMISSION)


def charged(history: Iterable[Step]) -> list[datetime]:
    """The moments for which a submission counts, one for each start that does.

    It starts when it is handed in, and with each retry. A start is free when it was called off
    before a worker took it, or failed through the platform. A retry after the platform's fault is
    the same start over again, at its first time: it was paid for already, and the day may be over
    on which it was given back.
    """
    counted: list[datetime] = []
    start, given_back, taken = None, None, False
    for step in history:
        if step.change in _STARTS:
            if start:
                counted.append(start)
            start, given_back, taken = given_back or step.time, None, False
        elif step.change is Change.LEASED:
            taken = True
        elif step.change is Change.CANCELLED and not taken:
            start = None
        elif step.by_platform:
            start, given_back = None, start
    return [*counted, start] if start else counted
