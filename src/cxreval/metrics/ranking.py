"""Ranks and state-of-the-art steps: a pure function of entries, so that a board can never be stale."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from cxreval.errors import MalformedField

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to rank: higher scores are better, None is undefined; the date is `YYYY-MM-DD` or `YYYY-MM`."""

    id: str
    score: float | None
    submitted_date: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """Where an entry stands: `rank` is 1 for the best and None without a score; `sota_step`: it broke the record."""

    id: str
    rank: int | None
    sota_step: bool


def latest_day(submitted_date: str) -> date:
    """The last day a date can mean: nobody gains precedence by leaving out the day.

    Raises:
        MalformedField: it is neither `YYYY-MM-DD` nor `YYYY-MM`.
    """
    try:
        if _DAY.fullmatch(submitted_date):
            return date.fromisoformat(submitted_date)
        if _MONTH.fullmatch(submitted_date):
            first = date.fromisoformat(f"{submitted_date}-01")
            return first.replace(day=calendar.monthrange(first.year, first.month)[1])
    except ValueError:
        pass
    expected = "YYYY-MM-DD or YYYY-MM"
    message = f"submitted_date is {submitted_date!r}; expected {expected}"
    raise MalformedField(message, field="submitted_date", value=submitted_date, expected=expected)


def rank(entries: Sequence[Entry]) -> list[Ranked]:
    """Ranks entries best first, ties by submission date and then by the order given; those without a score come last.

    An entry is a state-of-the-art step when its score is above every score submitted before it. Of the entries of one
    day only the best can be one.

    Raises:
        MalformedField: a date is malformed.
    """
    days = {entry.id: latest_day(entry.submitted_date) for entry in entries}
    scored = [(entry, entry.score) for entry in entries if entry.score is not None]
    best_first = sorted(scored, key=lambda pair: (-pair[1], days[pair[0].id]))
    steps, record = set(), float("-inf")
    for entry, score in sorted(best_first, key=lambda pair: days[pair[0].id]):
        if score > record:
            steps.add(entry.id)
            record = score
    ranked = [Ranked(entry.id, place, entry.id in steps) for place, (entry, _) in enumerate(best_first, start=1)]
    return ranked + [Ranked(entry.id, None, False) for entry in entries if entry.score is None]
