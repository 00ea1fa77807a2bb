"""The interval of a row inside of the board's table, and the axis above all of them."""

from collections.abc import Iterable

from markupsafe import Markup

from services.leaderboard.charts import svg
from services.leaderboard.charts.scales import Estimate, Measure, Scale, domain, drawn, ticks

WIDTH, HEIGHT = 160, 16
_EDGE = 6


def axis(estimates: Iterable[Estimate], measure: Measure) -> tuple[float, float]:
    """Returns the ends of the common axis of all rows of a table."""
    return domain(estimates, measure)


def row(estimate: Estimate, span: tuple[float, float], *, claim: bool = False) -> Markup:
    """Returns the whisker of a row: a dot, or a hollow diamond of a claim, with its interval.

    A screen reader skips it, because the same numbers are text in the row. What lies outside of
    the axis is cut at its end and has no stroke across it.
    """
    point = drawn(estimate)
    if point is None:
        return Markup("")
    scale = Scale(*span, _EDGE, WIDTH - _EDGE)
    parts = []
    if point.interval:
        low, high = point.interval
        line = f"M{svg.number(scale(low))} 8H{svg.number(scale(high))}"
        line += "".join(f"M{svg.number(scale(end))} 4v8" for end in (low, high) if scale.holds(end))
        parts.append(svg.path(line, "ci a"))
    shape = svg.diamond if claim else svg.disc
    parts.append(svg.path(shape(scale(point.value), 8, 4), "mark b" if claim else "mark a"))
    return _picture(HEIGHT, parts)


def header(span: tuple[float, float], measure: Measure) -> Markup:
    """Returns the axis with its ticks, for the head of the table's column."""
    scale = Scale(*span, _EDGE, WIDTH - _EDGE)
    marks = [(scale(tick.value), tick.label) for tick in ticks(*span, measure, 5)]
    line = f"M{_EDGE} 17H{WIDTH - _EDGE}" + "".join(f"M{svg.number(x)} 15v4" for x, _ in marks)
    parts = [*map(str, svg.axis_labels(marks, 11, WIDTH)), svg.path(line, "axis")]
    return _picture(20, parts)


def _picture(height: int, parts: list[str]) -> Markup:
    return Markup(  # noqa: S704 - coordinates and ticks only
        f'<svg class="chart whisker" viewBox="0 0 {WIDTH} {height}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )
