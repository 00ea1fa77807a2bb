"""The state of the art over time: its steps as a stair line among all other rows of a board."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import count

from markupsafe import Markup

from services.leaderboard.charts import dates, svg
from services.leaderboard.charts import text as texts
from services.leaderboard.charts.placement import Crowd
from services.leaderboard.charts.scales import Estimate, Measure, Scale, domain, drawn, ticks


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
        """Whether a row of this look is a step of the state of the art."""
        return self not in {Look.ENTRY, Look.CLAIM}


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: its model, the time that orders it, its figure, and what it is."""

    model: str
    time: datetime
    estimate: Estimate
    look: Look


@dataclass(frozen=True, slots=True)
class _Mark:
    """An entry with its place in the picture; `whisker`: top and bottom of its interval."""

    entry: Entry
    x: float
    y: float
    whisker: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class _Plot:
    """The area of the marks, with its two scales."""

    area: svg.Box
    time: Scale
    value: Scale

    def mark(self, entry: Entry) -> _Mark | None:
        point = drawn(entry.estimate)
        if point is None:
            return None
        ends = point.interval and (self.value(point.interval[1]), self.value(point.interval[0]))
        return _Mark(entry, self.time(dates.seconds(entry.time)), self.value(point.value), ends)


_TIPS = 60  # more marks of a look are one path, without text under the pointer
_NAMED = 10  # more steps have numbers instead of names
_NUMBERED = 40  # of more steps, every 5th, 10th, 50th, ... has its number
_HEADROOM = 16  # above the marks, for labels
_HOUR = 3600.0
_LTR = "\N{LEFT-TO-RIGHT MARK}"  # keeps a score behind a name that is written from right to left


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
    shown = [e for e in entries if drawn(e.estimate) and not (end and dates.seconds(e.time) > end)]
    heading = f"State of the art over time, {measure.axis}"
    if not shown:
        words = svg.small(0, 20, "No row has a score at this time.")
        return svg.document(prefix, (width, 32), heading, words.words, [words])
    top, legend = _legend([look for look in Look if look in {e.look for e in shown}], width)
    plot = _plot(shown, measure, end, width, top + 16 + _HEADROOM)
    caption = svg.small(0, top + 10, f"{measure.axis}; strokes: 95 % interval", room=width)
    marks = [mark for mark in map(plot.mark, shown) if mark]
    stair = sorted((m for m in marks if m.entry.look.is_step), key=lambda m: (m.x, -m.y))
    foot, notes = _notes(len(entries) - len(shown), plot, width)
    body = [*legend, caption, *_axes(plot, measure, width), *_drawn(marks, stair, plot, measure)]
    body += [*_labels(stair, marks, plot, measure), *notes]
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
    parts = [
        f"{dates.day(e.time)} {e.model} {measure.written(e.estimate.value)} ({e.look})"
        for e in taken
    ]
    claims = sum(entry.look is Look.CLAIM for entry in entries)
    counts = f"{len(entries):,} rows, {claims:,} of them claims, {len(taken):,} steps"
    return f"{counts}: {svg.sentences(parts)}" if parts else counts


# The axes


def _plot(
    entries: Sequence[Entry], measure: Measure, end: float | None, width: float, top: float
) -> _Plot:
    span = domain([entry.estimate for entry in entries], measure)
    labels = [tick.label for tick in ticks(*span, measure, 6)]
    left = max(texts.width(label, svg.SMALL) for label in labels) + 8
    times = [dates.seconds(entry.time) for entry in entries]
    first, last = min(times), max(times)
    margin = 0.04 * (last - first) if last > first else 24 * _HOUR
    margin = max(margin, _HOUR / 4)
    area = svg.Box(left, top, width - 8, top + (260 if width > 480 else 220))
    return _Plot(
        area,
        Scale(first - margin, max(last + margin, end or last), area.left, area.right),
        Scale(*span, area.bottom, area.top),
    )


def _axes(plot: _Plot, measure: Measure, width: float) -> list[object]:
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


def _notes(left_out: int, plot: _Plot, width: float) -> tuple[float, list[object]]:
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
    marks: Sequence[_Mark], stair: Sequence[_Mark], plot: _Plot, measure: Measure
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


def _single(mark: _Mark, measure: Measure) -> str:
    entry = mark.entry
    score = f"{measure.written(entry.estimate.value)} ({measure.interval(entry.estimate)})"
    tip = f"{entry.model}, {dates.day(entry.time)}: {score}, {entry.look}"
    return svg.path(_shape(entry.look, mark.x, mark.y), _CLASSES[entry.look], tip)


def _dots(marks: Sequence[_Mark]) -> str:
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


def _whiskers(marks: Sequence[_Mark]) -> str:
    """Returns the intervals as upright strokes; those that cover each other are one stroke."""
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


# The labels of the steps


def _labels(
    stair: Sequence[_Mark], marks: Sequence[_Mark], plot: _Plot, measure: Measure
) -> list[object]:
    """Returns the steps' names, or their numbers and the name of the last one."""
    if not stair:
        return []
    if len(stair) <= _NAMED:
        crowd = _crowd(stair, marks, plot)
        named = [_placed(crowd, mark, _name(mark, measure, plot), measure) for mark in stair]
        if all(named):
            return [part for parts in named for part in parts]
    crowd = _crowd(stair, marks, plot)
    last = stair[-1]
    words = f"{len(stair)} {_name(last, measure, plot)}"
    end = crowd.place([*_beside(last, words, measure), *_at_end(last, words, plot)], len(marks))
    parts = [*_leader(last, end), end] if end else []
    every = next(n for n in _strides() if len(stair) <= _NUMBERED * n)
    for number, mark in enumerate(stair[:-1], 1):
        if number % every == 0:
            label = crowd.place(_beside(mark, str(number), measure)[:4], 3)
            parts += [label] if label else []
    return parts


def _strides() -> Iterator[int]:
    yield 1
    for power in count():
        yield from (5 * 10**power, 10 ** (power + 1))


def _placed(crowd: Crowd, mark: _Mark, words: str, measure: Measure) -> list[object]:
    """Returns the label of a step, with a line to its mark if it is further away; empty if no room."""
    candidates = _beside(mark, words, measure)
    label = crowd.place(candidates, 0) or crowd.place(candidates, 2)
    return [*_leader(mark, label), label] if label else []


def _leader(mark: _Mark, label: svg.Label) -> list[object]:
    box = label.box
    x, y = min(max(mark.x, box.left), box.right), min(max(mark.y, box.top), box.bottom)
    if abs(x - mark.x) < 14 and abs(y - mark.y) < 14:
        return []
    start = f"M{svg.number(mark.x)} {svg.number(mark.y)}"
    return [svg.path(f"{start}L{svg.number(x)} {svg.number(y)}", "leader")]


def _name(mark: _Mark, measure: Measure, plot: _Plot) -> str:
    score = measure.written(mark.entry.estimate.value)
    room = 0.55 * min(plot.area.right - plot.area.left, 340) - texts.width(f" {score}", svg.SMALL)
    return f"{texts.shorten(mark.entry.model, room, svg.SMALL)}{_LTR} {score}"


def _crowd(stair: Sequence[_Mark], marks: Sequence[_Mark], plot: _Plot) -> Crowd:
    hard = [_around(mark.x, mark.y, 6) for mark in marks if mark.entry.look is not Look.ENTRY]
    soft = [_around(mark.x, mark.y, 3) for mark in marks if mark.entry.look is Look.ENTRY]
    soft += [svg.Box(m.x - 1, m.whisker[0], m.x + 1, m.whisker[1]) for m in stair if m.whisker]
    ends = [*(mark.x for mark in stair[1:]), plot.area.right]
    for mark, end, after in zip(stair, ends, [*stair[1:], None], strict=True):
        hard.append(svg.Box(mark.x, mark.y - 1, end, mark.y + 1))
        if after:
            top, bottom = sorted((mark.y, after.y))
            hard.append(svg.Box(end - 1, top, end + 1, bottom))
    area = plot.area
    return Crowd(svg.Box(area.left, area.top - _HEADROOM, area.right, area.bottom), hard, soft)


def _around(x: float, y: float, radius: float) -> svg.Box:
    return svg.Box(x - radius, y - radius, x + radius, y + radius)


def _beside(mark: _Mark, words: str, measure: Measure) -> list[svg.Label]:
    """Returns the places of a step's label, best first: outside of the stair, then inside."""
    away = -1 if measure.higher_is_better else 1
    near, far = (-10, 19) if measure.higher_is_better else (19, -10)  # text stands on its base line
    places = [
        (-8, near, "end"),
        (8, near, "start"),
        (-9, 4, "end"),
        (8, far, "start"),
        (-8, near + 14 * away, "end"),
        (8, near + 14 * away, "start"),
        (8, far - 16 * away, "start"),
        (-8, near + 28 * away, "end"),
        (8, far - 32 * away, "start"),
    ]
    return [_label(mark.x + x, mark.y + y, words, anchor, mark) for x, y, anchor in places]


def _at_end(mark: _Mark, words: str, plot: _Plot) -> list[svg.Label]:
    """Returns places at the right end of the stair, and in the corners of the plot."""
    area = plot.area
    edges = (mark.y - 9, mark.y + 18, area.bottom - 6, area.top + 8)
    return [
        _label(x, y, words, anchor, mark)
        for y in edges
        for x, anchor in ((area.right, "end"), (area.left + 4, "start"))
    ]


def _label(x: float, y: float, words: str, anchor: str, mark: _Mark) -> svg.Label:
    return svg.Label(x, y, words, "halo", anchor, mark.entry.model, svg.SMALL)
