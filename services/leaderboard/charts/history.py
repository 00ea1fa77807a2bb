"""The rows of a board in the order of time, and their places in a picture of its progress."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.leaderboard.charts import dates, svg
from services.leaderboard.charts.scales import Estimate, Scale, drawn

HEADROOM = 16  # above the marks, for labels


class Look(StrEnum):
    """What a row is in the history of a board; all but the last two are steps."""

    FIRST = "first score"
    SIGNIFICANT = "significant step"
    WITHIN_NOISE = "step within noise"
    NOT_TESTED = "step, not tested"
    ENTRY = "other row"
    CLAIM = "claim"

    @property
    def is_step(self) -> bool:
        """Whether rows of this kind are steps of the state of the art."""
        return self not in {Look.ENTRY, Look.CLAIM}


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the chart: its model, its time, its score with the interval, and its kind."""

    model: str
    time: datetime
    estimate: Estimate
    look: Look


@dataclass(frozen=True, slots=True)
class Mark:
    """An entry with its place in the picture; `whisker`: top and bottom of its interval."""

    entry: Entry
    x: float
    y: float
    whisker: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Plot:
    """The area of the marks, with its two scales."""

    area: svg.Box
    time: Scale
    value: Scale

    def mark(self, entry: Entry) -> Mark | None:
        """Returns the place of an entry, or None if it has no score."""
        point = drawn(entry.estimate)
        if point is None:
            return None
        ends = point.interval and (self.value(point.interval[1]), self.value(point.interval[0]))
        return Mark(entry, self.time(dates.seconds(entry.time)), self.value(point.value), ends)
