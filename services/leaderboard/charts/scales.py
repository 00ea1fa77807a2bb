"""Values, scales, ticks and number formats of all charts."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

_LARGEST = 1e12  # a larger figure is no figure of a chart


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, in the metric's own unit.

    What is absent is None; `reason` says why `value` is.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """The part of an estimate that a chart draws: finite, and `low` <= `high`."""

    value: float
    interval: tuple[float, float] | None


def finite(value: float | None) -> float | None:
    """Returns the value, or None if no chart can draw it."""
    if value is None or not math.isfinite(value) or abs(value) > _LARGEST:
        return None
    return float(value)


def drawn(estimate: Estimate) -> Point | None:
    """Returns what a chart draws of an estimate, or None if its value is absent."""
    value, low, high = finite(estimate.value), finite(estimate.low), finite(estimate.high)
    if value is None:
        return None
    if low is None or high is None:
        return Point(value, None)
    return Point(value, (min(low, high), max(low, high)))


@dataclass(frozen=True, slots=True)
class Measure:
    """What an axis measures: a metric's name, its direction and how its values are written.

    Values are multiplied by `factor` and written with `decimals`. `lowest` and `highest` bound the
    metric, None where it has no bound.
    """

    name: str = "AUROC"
    factor: float = 100.0
    decimals: int = 2
    higher_is_better: bool = True
    lowest: float | None = 0.0
    highest: float | None = 1.0

    @property
    def unit(self) -> str:
        """The metric's name with its factor, such as `AUROC × 100`."""
        return self.name if self.factor == 1 else f"{self.name} × {self.factor:g}"

    @property
    def axis(self) -> str:
        """The title of an axis, such as `AUROC × 100, higher is better`."""
        return f"{self.unit}, {'higher' if self.higher_is_better else 'lower'} is better"

    def written(self, value: float | None) -> str:
        """Returns a value as text, or an en dash if it is absent."""
        number = finite(value)
        return "–" if number is None else fixed(number * self.factor, self.decimals)

    def signed(self, value: float | None) -> str:
        """Returns a difference as text with its sign, or an en dash if it is absent."""
        text = self.written(value)
        positive = value is not None and value > 0 and text.strip("0.–") != ""
        return f"+{text}" if positive else text

    def interval(self, estimate: Estimate) -> str:
        """Returns `low to high` as text, or an en dash without an interval."""
        point = drawn(estimate)
        if point is None or point.interval is None:
            return "–"
        low, high = point.interval
        return f"{self.written(low)} to {self.written(high)}"


def fixed(number: float, decimals: int) -> str:
    """Returns the number with its decimals and thousands separators; zero has no sign."""
    text = f"{number:,.{decimals}f}"
    if not text.strip("-0.,"):
        return text.removeprefix("-")
    return text.replace("-", "−")


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map of [`low`, `high`] to coordinates [`start`, `end`]; `low` < `high`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Returns the coordinate of a value; one outside of the range is drawn at its end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether the value lies in the range."""
        return self.low <= value <= self.high


def domain(
    estimates: Iterable[Estimate], measure: Measure, *, around: float | None = None
) -> tuple[float, float]:
    """Returns the range of an axis that holds the estimates, with a margin of 4 % on each side.

    The margin ends at the metric's bounds. With `around`, that value is in the middle of the axis
    and the metric's bounds do not apply, as for differences.
    """
    values = []
    for point in filter(None, map(drawn, estimates)):
        values += [point.value, *(point.interval or ())]
    low, high = (min(values), max(values)) if values else (around or 0.0, around or 1.0)
    least = max(10.0 / measure.factor / 10**measure.decimals, 1e-6 * max(abs(low), abs(high)))
    if around is not None:
        reach = 1.06 * max(abs(low - around), abs(high - around), least)
        return around - reach, around + reach
    margin = max(0.04 * (high - low), (least - (high - low)) / 2)
    low, high = low - margin, high + margin
    if measure.lowest is not None and min(values, default=low) >= measure.lowest:
        low = max(low, measure.lowest)
    if measure.highest is not None and max(values, default=high) <= measure.highest:
        high = min(high, measure.highest)
    return low, high


@dataclass(frozen=True, slots=True)
class Tick:
    """A position on an axis with its label; `second` is a second line, or empty."""

    value: float
    label: str
    second: str = ""


def ticks(
    low: float, high: float, measure: Measure, most: int, *, signed: bool = False
) -> list[Tick]:
    """Returns 2 to `most` (5 or more) ticks in [`low`, `high`] at round values, in order.

    `signed`: positive labels have their sign, as for differences.
    """
    first, last = low * measure.factor, high * measure.factor
    step, decimals = next(
        (step, decimals)
        for step, decimals in _steps((last - first) / most)
        if len(_multiples(first, last, step)) <= most
    )
    marks = []
    for multiple in _multiples(first, last, step):
        label = fixed(multiple * step, decimals)
        value = min(max(multiple * step / measure.factor, low), high)
        marks.append(Tick(value, f"+{label}" if signed and multiple > 0 else label))
    return marks


def _multiples(first: float, last: float, step: float) -> range:
    """Returns the multiples of a step in [`first`, `last`], with room for rounding at the ends."""
    return range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)


def _steps(least: float) -> Iterable[tuple[float, int]]:
    """Yields 1, 2, 5, 10, ... times a power of ten from below `least` on, with its decimals."""
    for exponent in count(math.floor(math.log10(least)) - 1):
        for factor in (1, 2, 5):
            yield factor * 10.0**exponent, max(0, -exponent)
