"""Counts the starts of submissions towards the daily quota.

Every start counts, except one that was cancelled before a worker leased it and one that failed by
the platform's fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cxreval.records import Change, Fault

_STARTS = (Change.CREATED, Change.RETRIED)
_FAILURES = (Change.FAILED, Change.EXPIRED)

WORKED = (*_FAILURES, Change.LEASED)
"""A cancelled submission without one of these changes does not count."""

CHARGING = (*_STARTS, *WORKED, Change.CANCELLED)
"""The changes that `charged` reads."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a submission. `by_platform`: a failure by the platform's fault."""

    change: Change
    time: datetime
    by_platform: bool = False

    @classmethod
    def of(cls, change: str, time: datetime, fault: str | None) -> Step:
        """Returns the step of an event; a failure without a recorded fault is the platform's."""
        return cls(Change(change), time, change in _FAILURES and fault != Fault.SUBMISSION)


def charged(history: Iterable[Step]) -> list[datetime]:
    """Returns the times of those starts of a submission that count.

    A submission starts when it is created and with each retry. A start does not count if it was
    cancelled before a worker leased it, or failed by the platform's fault. A retry after the
    platform's fault counts at the time of the start that failed, because that start used the quota
    of its day.

    Args:
        history: the submission's changes, oldest first.
    """
    counted: list[datetime] = []
    start, refunded, leased = None, None, False
    for step in history:
        if step.change in _STARTS:
            if start:
                counted.append(start)
            start, refunded, leased = refunded or step.time, None, False
        elif step.change is Change.LEASED:
            leased = True
        elif step.change is Change.CANCELLED and not leased:
            start = None
        elif step.by_platform:
            start, refunded = None, start
    return [*counted, start] if start else counted
