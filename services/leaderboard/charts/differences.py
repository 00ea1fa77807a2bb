"""Paired differences of rows of a board with their intervals, around zero."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from services.leaderboard.charts import rows, svg
from services.leaderboard.charts import text as texts
from services.leaderboard.charts.scales import Estimate, Measure, domain, finite

_NAME = 104  # room of each of two names in one row


@dataclass(frozen=True, slots=True)
class Difference:
    """`first` minus `second` in one figure (`Macro mean` or a finding).

    `p_value` is the adjusted one; `separable` says what the paired test finds, None if it was not
    done.
    """

    figure: str
    first: str
    second: str
    estimate: Estimate
    p_value: float | None = None
    separable: bool | None = None


def chart(
    differences: Sequence[Difference],
    measure: Measure,
    *,
    width: int = svg.WIDE,
    prefix: str = "differences",
) -> Markup:
    """Returns the differences around zero: filled dots where the test separates the two rows."""
    separable = rows.Series("separable", "a", svg.disc)
    other = rows.Series("not separable", "b", svg.diamond, 5)
    figures = {d.figure for d in differences}
    one_pair = len({(d.first, d.second) for d in differences}) == 1
    lines = []
    for difference in differences:
        series = separable if difference.separable else other
        name = difference.figure
        if not one_pair:
            pair = f"{_short(difference.first)} − {_short(difference.second)}"
            name = f"{pair}, {name}" if len(figures) > 1 else pair
        columns = (measure.signed(difference.estimate.value), p_value(difference.p_value))
        lines.append(rows.Row(name, ((series, difference.estimate),), columns))
    first, second = ("first", "second")
    if one_pair:
        first, second = differences[0].first, differences[0].second
    what = f"{measure.unit}, {differences[0].figure}" if len(figures) == 1 else measure.unit
    left, right = (second, first) if measure.higher_is_better else (first, second)
    drawing = rows.Chart(
        measure,
        tuple(lines),
        (separable, other),
        domain([d.estimate for d in differences], measure, around=0.0),
        f"Difference in {what}: {first} − {second}; 95 % interval of the paired test",
        columns=("difference", "adjusted p"),
        line=(0.0, "no difference"),
        ends=(f"← {left} better", f"{right} better →"),
        signed=True,
    )
    heading = f"Paired differences in {measure.unit}: {first} minus {second}"
    described = [f"{d.figure}: {verdict(d, measure)}" for d in differences]
    return rows.picture(drawing, width, prefix, heading, svg.sentences(described))


def table(differences: Sequence[Difference], measure: Measure) -> svg.Table:
    """Returns the data behind the chart."""
    return svg.Table(
        (
            "Figure",
            "First",
            "Second",
            f"First − second, {measure.unit}",
            "95 % interval",
            "Adjusted p",
            "In words",
        ),
        tuple(
            (
                d.figure,
                d.first,
                d.second,
                measure.signed(d.estimate.value),
                measure.interval(d.estimate),
                p_value(d.p_value),
                verdict(d, measure),
            )
            for d in differences
        ),
    )


def verdict(difference: Difference, measure: Measure) -> str:
    """Returns which row is better, in words, and whether the paired test separates the two."""
    value = finite(difference.estimate.value)
    if value is None:
        return f"no value, {difference.estimate.reason or 'undefined'}"
    if value == 0:
        return "equal"
    first = (value > 0) == measure.higher_is_better
    better = f"{difference.first if first else difference.second} better"
    if difference.separable is None:
        return better
    return better if difference.separable else f"{better}, not separable"


def _short(model: str) -> str:
    return texts.shorten(model, _NAME, svg.SIZE)


def p_value(value: float | None) -> str:
    """Returns a p-value with three decimals, `< 0.001` below; an en dash if it is absent."""
    number = finite(value)
    if number is None:
        return "–"
    return "< 0.001" if number < 0.001 else f"{number:.3f}"
