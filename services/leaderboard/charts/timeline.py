"""The life of a submission: its events from top to bottom, with the time between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from markupsafe import Markup

from services.leaderboard.charts import dates, svg
from services.leaderboard.charts import text as texts

_SHOWN = 24  # events; of more, those in the middle are left out
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 31_556_952


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a submission, with its time and a note such as its reason."""

    name: str
    time: datetime
    note: str = ""


def chart(events: Sequence[Event], *, width: int = svg.WIDE, prefix: str = "timeline") -> Markup:
    """Returns the events by time. A line between two grows with the logarithm of its time."""
    ordered = sorted(events, key=lambda event: dates.seconds(event.time))
    half, left_out = _SHOWN // 2, max(0, len(ordered) - _SHOWN)
    body: list[object] = []
    y = before = 2.0
    for place, event in enumerate(ordered):
        if half <= place < half + left_out:
            continue
        if place:
            words, length = _between(ordered[place - 1], event)
            if left_out and place == half + left_out:
                words, length = f"{left_out:,} events are left out here; the table has them", 30
            body.append(svg.small(26, y + length / 2 + 4, words))
            line = f"M9 {svg.number(before)}V{svg.number(y + length + 8)}"
            body.insert(0, svg.path(line, "axis"))
            y += length
        before = y + 8
        y = _event(event, y, width, body)
    heading = "Life of the submission"
    described = [f"{dates.minute(event.time)} {event.name}" for event in ordered]
    return svg.document(prefix, (width, y + 4), heading, svg.sentences(described), body)


def table(events: Sequence[Event]) -> svg.Table:
    """Returns the data behind the chart, by time."""
    ordered = sorted(events, key=lambda event: dates.seconds(event.time))
    times = [dates.seconds(event.time) for event in ordered]
    gaps = [
        "–",
        *(duration(after - before) for before, after in pairwise(times)),
    ]
    return svg.Table(
        ("Time", "Event", "After", "Note"),
        tuple(
            (dates.minute(event.time), event.name, gap, event.note)
            for event, gap in zip(ordered, gaps, strict=False)
        ),
    )


def duration(seconds: float) -> str:
    """Returns a time span in the one or two units that matter: `3.2 s`, `2 h 5 min`, `41 days`."""
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < _HOUR:
        minutes, rest = divmod(seconds, _MINUTE)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if seconds < 2 * _DAY:
        hours, minutes = divmod(seconds // _MINUTE, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if seconds < 2 * _YEAR:
        return f"{seconds / _DAY:.0f} days"
    return f"{seconds / _YEAR:,.1f} years"


def _between(before: Event, after: Event) -> tuple[str, float]:
    """Returns the words between two events, and the height between them."""
    seconds = dates.seconds(after.time) - dates.seconds(before.time)
    return f"{duration(seconds)} later", 20 + 4 * math.log10(1 + seconds)


def _event(event: Event, y: float, width: int, body: list[object]) -> float:
    """Draws an event at `y`, and returns the height where the next line begins."""
    when = dates.minute(event.time)
    body.append(svg.path(svg.disc(9, y + 8, 5), "mark a"))
    body.append(svg.label(26, y + 12, event.name, room=width - 26, kind="bold"))
    body.append(svg.small(26, y + 27, when))
    y += 27
    for line in texts.wrap(event.note, width - 26, svg.SMALL, 3) if event.note else []:
        y += 14
        body.append(svg.small(26, y, line))
    return y + 8
