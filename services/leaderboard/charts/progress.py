"""The state of the art over time: its steps as a stair line among all other rows of a board."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from markupsafe import Markup

from services.leaderboard.charts import dates, svg
from services.leaderboard.charts import text as texts
from services.leaderboard.charts.history import HEADROOM, Entry, Look, Mark, Plot
from services.leaderboard.charts.scales import Measure, Scale, domain, drawn, ticks
from services.leaderboard.charts.step_labels import step_labels

__all__ = ["Entry", "Look", "chart", "steps", "table"]


_TIPS = 60  # more marks of a look are one path, without text under the pointer
_HOUR = 3600.0


def steps(entries: Iterable[Entry]) -> list[Entry]:
    """Returns the steps in the order of their numbers in the chart, which start at 1."""
    found = [entry for entry in entries if entry.look.is_step and drawn(entry.estimate)]
    return sorted(found, key=lambda entry: dates.seconds(entry.time))


def chart(
    entries: Sequence[Entry],
    measure: Measure,
    *,
    until: datetime | None = None,
    width: int = svg.WIDE,
    prefix: str = "progress",
) -> Markup:
    """Returns the history of a board.

    A step has its model's name beside it if all names have room, else its number in `steps`. The
    time axis ends at `until`, or after the last entry; later entries are counted below the axis.
    """
    end = None if until is None else dates.seconds(until)
    shown = [
        e for e in entries if drawn(e.estimate) and (end is None or dates.seconds(e.time) <= end)
    ]
    heading = f"State of the art over time, {measure.axis}"
    if not shown:
        words = svg.small(0, 20, "No row has a score at this time.")
        return svg.document(prefix, (width, 32), heading, words.words, [words])
    top, legend = _legend([look for look in Look if look in {e.look for e in shown}], width)
    plot = _plot(shown, measure, end, width, top + 16 + HEADROOM)
    caption = svg.small(0, top + 10, f"{measure.axis}; strokes: 95 % interval", room=width)
    marks = [mark for mark in map(plot.mark, shown) if mark]
    stair = [mark for mark in map(plot.mark, steps(shown)) if mark]
    foot, notes = _notes(len(entries) - len(shown), plot, width)
    body = [*legend, caption, *_axes(plot, measure, width), *_drawn(marks, stair, plot, measure)]
    body += [*step_labels(stair, marks, plot, measure), *notes]
    return svg.document(prefix, (width, foot), heading, _description(shown, measure), body)


def table(entries: Iterable[Entry], measure: Measure) -> svg.Table:
    """Returns the data behind the chart, by time."""
    return svg.Table(
        ("Date", "Model", measure.unit, "95 % interval", "What it is"),
        tuple(
            (
                dates.day(entry.time),
                entry.model,
                measure.written(entry.estimate.value),
                measure.interval(entry.estimate),
                entry.look.value,
            )
            for entry in sorted(entries, key=lambda entry: dates.seconds(entry.time))
        ),
    )


def _description(entries: Sequence[Entry], measure: Measure) -> str:
    taken = steps(entries)
    claims = sum(entry.look is Look.CLAIM for entry in entries)
    counts = f"{len(entries):,} rows, {claims:,} of them claims, {len(taken):,} steps"
    parts = [
        f"{dates.day(e.time)} {e.model} {measure.written(e.estimate.value)} ({e.look})"
        for e in reversed(taken)
    ]
    return f"{counts}, newest first: {svg.sentences(parts, 8)}" if parts else counts


# The axes


def _plot(
    entries: Sequence[Entry], measure: Measure, end: float | None, width: float, top: float
) -> Plot:
    span = domain([entry.estimate for entry in entries], measure)
    labels = [tick.label for tick in ticks(*span, measure, 6)]
    left = max(texts.width(label, svg.SMALL) for label in labels) + 8
    times = [dates.seconds(entry.time) for entry in entries]
    first, last = min(times), max(times)
    margin = 0.04 * (last - first) if last > first else 24 * _HOUR
    margin = max(margin, _HOUR / 4)
    area = svg.Box(left, top, width - 8, top + (260 if width > 480 else 220))
    return Plot(
        area,
        Scale(
            first - margin, max(last + margin, last if end is None else end), area.left, area.right
        ),
        Scale(*span, area.bottom, area.top),
    )


def _axes(plot: Plot, measure: Measure, width: float) -> list[object]:
    area = plot.area
    body: list[object] = []
    grid = ""
    for tick in ticks(plot.value.low, plot.value.high, measure, 6):
        y = plot.value(tick.value)
        grid += f"M{svg.number(area.left)} {svg.number(y)}H{svg.number(area.right)}"
        body.append(svg.small(area.left - 6, y + 4, tick.label, "end"))
    most = max(3, int((area.right - area.left) // 66))
    marks = dates.date_ticks(plot.time.low, plot.time.high, most)
    line = f"M{svg.number(area.left)} {svg.number(area.bottom)}H{svg.number(area.right)}"
    line += "".join(
        f"M{svg.number(plot.time(tick.value))} {svg.number(area.bottom)}v5" for tick in marks
    )
    places = [(plot.time(tick.value), tick.label) for tick in marks]
    seconds = [(plot.time(tick.value), tick.second) for tick in marks]
    body += svg.axis_labels(places, area.bottom + 17, width)
    body += svg.axis_labels(seconds, area.bottom + 31, width)
    return [svg.path(grid, "grid"), svg.path(line, "axis"), *body]


def _notes(left_out: int, plot: Plot, width: float) -> tuple[float, list[object]]:
    """Returns the height of the picture, and the lines below the time axis."""
    y = plot.area.bottom + 36
    lines: list[object] = []
    if left_out:
        number = "1 row is" if left_out == 1 else f"{left_out:,} rows are"
        note = f"{number} not drawn: without a score, or dated after the end of the axis."
        for words in texts.wrap(note, width, svg.SMALL):
            y += 15
            lines.append(svg.small(0, y, words))
    return y + 4, lines


# The marks


def _shape(look: Look, x: float, y: float) -> str:
    match look:
        case Look.FIRST | Look.NOT_TESTED:
            return svg.square(x, y, 4.5)
        case Look.SIGNIFICANT | Look.WITHIN_NOISE:
            return svg.disc(x, y, 5)
        case Look.CLAIM:
            return svg.diamond(x, y, 5.5)
        case _:
            return svg.disc(x, y, 3)


_CLASSES = {
    Look.FIRST: "mark a",
    Look.SIGNIFICANT: "mark a",
    Look.WITHIN_NOISE: "mark a open",
    Look.NOT_TESTED: "mark a open",
    Look.ENTRY: "mark c",
    Look.CLAIM: "mark b",
}


def _legend(looks: Sequence[Look], width: float) -> tuple[float, list[object]]:
    """Returns the height of the legend, and its marks and words."""
    x, y = 6.0, 12.0
    body: list[object] = []
    for look in looks:
        words = svg.label(x + 10, y, look.value)
        if words.box.right > width:
            x, y = 6.0, y + 18
            words = svg.label(x + 10, y, look.value)
        body += [svg.path(_shape(look, x, y - 4), _CLASSES[look]), words]
        x = words.box.right + 18
    return y + 14, body


def _drawn(
    marks: Sequence[Mark], stair: Sequence[Mark], plot: Plot, measure: Measure
) -> list[object]:
    """Returns the marks and the stair line, the most important on top."""
    tips = _TIPS if plot.area.right > 480 else 0  # a narrow screen has no pointer
    rest = [mark for mark in marks if not mark.entry.look.is_step]
    body: list[object] = [svg.path(_whiskers(rest), "ci c")]
    if stair:
        line = f"M{svg.number(stair[0].x)} {svg.number(stair[0].y)}"
        line += "".join(f"H{svg.number(m.x)}V{svg.number(m.y)}" for m in stair[1:])
        body.append(svg.path(f"{line}H{svg.number(plot.area.right)}", "stair"))
        body.append(svg.path(_whiskers(stair), "ci a faint"))
    for look in reversed(Look):
        group = [mark for mark in marks if mark.entry.look is look]
        if look is Look.ENTRY and len(group) > tips:
            body.insert(1, svg.path(_dots(group), "dots"))
        elif len(group) > tips:
            shapes = "".join(_shape(look, mark.x, mark.y) for mark in group)
            body.append(svg.path(shapes, _CLASSES[look]))
        else:
            body += [_single(mark, measure) for mark in group]
    return body


def _single(mark: Mark, measure: Measure) -> str:
    entry = mark.entry
    score = f"{measure.written(entry.estimate.value)} ({measure.interval(entry.estimate)})"
    tip = f"{entry.model}, {dates.day(entry.time)}: {score}, {entry.look}"
    return svg.path(_shape(entry.look, mark.x, mark.y), _CLASSES[entry.look], tip)


def _dots(marks: Sequence[Mark]) -> str:
    """Returns strokes without length, which round caps make dots: the shortest form of many."""
    places = sorted({(round(mark.x), round(mark.y)) for mark in marks})
    return _strokes([(x, y, 0) for x, y in places])


def _strokes(strokes: Iterable[tuple[int, int, int]]) -> str:
    """Returns upright strokes (x, top, length), each placed relative to the end of the last one."""
    commands, at = "", (0, 0)
    for x, top, length in strokes:
        across, down = x - at[0], top - at[1]
        commands += f"m{across}{'' if down < 0 else ' '}{down}v{length}"
        at = x, top + length
    return commands


def _whiskers(marks: Sequence[Mark]) -> str:
    """Returns the intervals as vertical lines; intervals that overlap are drawn as one line."""
    strokes: dict[int, list[list[int]]] = {}
    for x, top, bottom in sorted(
        (round(mark.x), round(mark.whisker[0]), round(mark.whisker[1]))
        for mark in marks
        if mark.whisker
    ):
        column = strokes.setdefault(x, [])
        if column and top <= column[-1][1]:
            column[-1][1] = max(column[-1][1], bottom)
        else:
            column.append([top, bottom])
    return _strokes(
        (x, top, bottom - top) for x, column in strokes.items() for top, bottom in column
    )
