"""Dots and whiskers in rows on one axis: what charts of findings, slices and differences share."""

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from services.leaderboard.charts import svg
from services.leaderboard.charts import text as texts
from services.leaderboard.charts.scales import Estimate, Measure, Scale, drawn, ticks

_STACKED_BELOW = 480  # in a narrower layout a row's name stands above its marks
_GAP = 14  # between columns
_NAME = 20  # height of a name above its marks
_EDGE = 8  # from the end of the axis to the edge of the picture: half a mark, half a label


@dataclass(frozen=True, slots=True)
class Series:
    """How one kind of mark is drawn: its name in the legend, its CSS class and its shape."""

    name: str
    kind: str
    shape: Callable[[float, float, float], str]
    radius: float = 4.5


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its name, the estimates that it has, each of a series, and the texts beside it.

    A row without estimates is a heading of the rows below it.
    """

    name: str
    marks: tuple[tuple[Series, Estimate], ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart of rows shows.

    `span`: ends of the axis. `columns`: titles of the texts beside the rows. `line`: a value that
    is drawn through all rows, with its name. `ends`: words at the left and right of that line.
    """

    measure: Measure
    rows: tuple[Row, ...]
    series: tuple[Series, ...]
    span: tuple[float, float]
    caption: str
    columns: tuple[str, ...] = ()
    line: tuple[float, str] | None = None
    ends: tuple[str, str] | None = None
    signed: bool = False


@dataclass(frozen=True, slots=True)
class _Layout:
    """Places in user units: ends of the axis, right edges of the columns, heights of rows."""

    width: float
    stacked: bool
    left: float
    right: float
    edges: tuple[float, ...]
    row: float
    heading: float

    def height(self, row: Row) -> float:
        return self.row if row.marks else self.heading


def picture(chart: Chart, width: int, prefix: str, heading: str, description: str) -> Markup:
    """Returns the chart in the layout of a width in user units; `prefix` begins its ids."""
    layout = _layout(chart, width)
    scale = Scale(*chart.span, layout.left, layout.right)
    top, head = _head(chart, layout, scale)
    bands, rows = [], []
    bottom = top
    for place, row in enumerate(chart.rows):
        if place % 2:
            bands.append(svg.band(svg.Box(0, bottom, width, bottom + layout.height(row)), "band"))
        rows += _row(chart, row, bottom, layout, scale)
        bottom += layout.height(row)
    foot, axis = _axis(chart, layout, scale, top, bottom)
    body = [*head, *bands, *axis, *rows]
    return svg.document(prefix, (width, foot), heading, description, body)


def _layout(chart: Chart, width: int) -> _Layout:
    double = any(len(row.marks) > 1 for row in chart.rows)
    if width < _STACKED_BELOW:
        return _Layout(width, True, _EDGE, width - _EDGE, (), 48 if double else 38, 26)
    named = max((texts.width(texts.drawable(row.name), svg.SIZE) for row in chart.rows), default=0)
    left = min(named, 0.36 * width) + _GAP
    edges: list[float] = []
    edge: float = width
    for column in reversed(range(len(chart.columns))):
        cells = [chart.columns[column], *(r.columns[column] for r in chart.rows if r.columns)]
        edges.insert(0, edge)
        edge -= max(texts.width(texts.drawable(cell), svg.SMALL) for cell in cells) + _GAP
    return _Layout(width, False, left, edge - _EDGE, tuple(edges), 34 if double else 26, 26)


def _head(chart: Chart, layout: _Layout, scale: Scale) -> tuple[float, list[object]]:
    """Returns the height of legend, column titles and words above the axis, and these."""
    body: list[object] = []
    y = 0.0
    if len(chart.series) > 1:
        x = 0.0
        y += 14
        for series in chart.series:
            words = svg.label(x + 18, y, series.name, room=layout.width - 18)
            if words.box.right > layout.width and x:
                x, y = 0.0, y + 18
                words = svg.label(x + 18, y, series.name, room=layout.width - 18)
            whisker = f"M{svg.number(x)} {svg.number(y - 4)}h14"
            body += [svg.path(whisker, f"ci {series.kind}"), _mark(series, x + 7, y - 4), words]
            x = words.box.right + 16
        y += 8
    if chart.columns:
        y += 14
        if layout.stacked:
            body.append(svg.small(layout.width, y, " · ".join(chart.columns), "end", layout.width))
        for edge, name in zip(layout.edges, chart.columns, strict=False):
            body.append(svg.small(edge, y, name, "end"))
    if chart.ends and chart.line:
        if layout.stacked or not chart.columns:
            y += 16
        middle = scale(chart.line[0])
        before, after = chart.ends
        body.append(svg.small(middle - 8, y, before, "end", middle - 8 - layout.left))
        body.append(svg.small(middle + 8, y, after, "start", layout.right - middle - 8))
    return y + 8, body


def _row(chart: Chart, row: Row, top: float, layout: _Layout, scale: Scale) -> list[object]:
    if not row.marks:
        return [svg.label(0, top + 18, row.name, room=layout.width, kind="bold")]
    body: list[object] = []
    high = layout.height(row)
    if layout.stacked:
        beside = svg.small(layout.width, top + 15, " · ".join(row.columns), "end", layout.width / 2)
        body += [svg.label(0, top + 15, row.name, room=beside.box.left - _GAP), beside]
        middle = top + _NAME + (high - _NAME) / 2
    else:
        body.append(svg.label(0, top + high / 2 + 4, row.name, room=layout.left - _GAP))
        for edge, words in zip(layout.edges, row.columns, strict=True):
            body.append(svg.small(edge, top + high / 2 + 4, words, "end"))
        middle = top + high / 2
    apart = 12 if layout.stacked else 14
    first = middle - apart * (len(row.marks) - 1) / 2
    for place, (series, estimate) in enumerate(row.marks):
        tip = f"{row.name}, {series.name}: {_written(chart, estimate)}"
        body += _whisker(series, estimate, first + apart * place, scale, tip)
    return body


def _written(chart: Chart, estimate: Estimate) -> str:
    value = (chart.measure.signed if chart.signed else chart.measure.written)(estimate.value)
    return f"{value} ({chart.measure.interval(estimate)})"


def _whisker(series: Series, estimate: Estimate, y: float, scale: Scale, tip: str) -> list[object]:
    point = drawn(estimate)
    if point is None:
        words = f"no value: {estimate.reason or 'undefined'}"
        return [svg.small(scale.start, y + 4, words, room=scale.end - scale.start)]
    body: list[object] = []
    if point.interval:
        low, high = map(scale, point.interval)
        line = f"M{svg.number(low)} {svg.number(y)}H{svg.number(high)}"
        body.append(svg.path(line, f"ci {series.kind}"))
    return [*body, _mark(series, scale(point.value), y, tip)]


def _mark(series: Series, x: float, y: float, tip: str = "") -> str:
    return svg.path(series.shape(x, y, series.radius), f"mark {series.kind}", tip)


def _axis(
    chart: Chart, layout: _Layout, scale: Scale, top: float, bottom: float
) -> tuple[float, list[object]]:
    """Returns the height of the picture, and grid, tick labels and caption."""
    most = 5 if layout.stacked else max(5, int((scale.end - scale.start) // 60))
    marks = ticks(*chart.span, chart.measure, most, signed=chart.signed)
    stretches = _stretches(chart, layout, top)
    grid = "".join(_upright(scale(tick.value), stretches) for tick in marks)
    body: list[object] = [svg.path(grid, "grid")]
    if chart.line:
        value, name = chart.line
        body.append(svg.path(_upright(scale(value), stretches), "zero", name))
    places = [(scale(tick.value), tick.label) for tick in marks]
    body += svg.axis_labels(places, bottom + 15, layout.width)
    left = 0 if layout.stacked else layout.left
    y = bottom + 18
    for words in texts.wrap(chart.caption, layout.width - left, svg.SMALL):
        y += 15
        body.append(svg.small(left, y, words))
    return y + 6, body


def _stretches(chart: Chart, layout: _Layout, top: float) -> list[tuple[float, float]]:
    """Returns where upright lines are drawn: through all rows, or through the marks below names."""
    if not layout.stacked:
        return [(top, top + sum(map(layout.height, chart.rows)))]
    stretches = []
    for row in chart.rows:
        bottom = top + layout.height(row)
        if row.marks:
            stretches.append((top + _NAME, bottom))
        top = bottom
    return stretches


def _upright(x: float, stretches: list[tuple[float, float]]) -> str:
    place = svg.number(x)
    return "".join(f"M{place} {svg.number(top)}V{svg.number(end)}" for top, end in stretches)
