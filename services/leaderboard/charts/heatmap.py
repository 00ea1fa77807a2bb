"""Colours of the cells in a table of models × findings: a class of charts.css for each value."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.leaderboard.charts.scales import Measure, finite

CLASSES = 9  # q0 (worst) to q8 (best)


@dataclass(frozen=True, slots=True)
class Shades:
    """Equal steps from `worst` to `best`; `worst` is the higher one if lower is better."""

    worst: float
    best: float

    def of(self, value: float | None) -> str:
        """Returns the class of a value, `q0` to `q8`; no class for an absent value."""
        number = finite(value)
        if number is None:
            return ""
        if self.worst == self.best:
            return f"q{CLASSES // 2}"
        share = (number - self.worst) / (self.best - self.worst)
        return f"q{min(max(int(share * CLASSES), 0), CLASSES - 1)}"

    def legend(self, measure: Measure) -> list[tuple[str, str]]:
        """Returns each class with the first value that has it, worst first."""
        step = (self.best - self.worst) / CLASSES
        return [
            (f"q{place}", measure.written(self.worst + place * step)) for place in range(CLASSES)
        ]


def shades(values: Iterable[float | None], *, higher_is_better: bool = True) -> Shades:
    """Returns the shades that the values of a table need.

    The same is for differences to the best (lower is better) and for ranks (lower is better).
    """
    numbers = [number for number in map(finite, values) if number is not None]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    return Shades(low, high) if higher_is_better else Shades(high, low)
