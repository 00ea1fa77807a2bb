"""The names of the steps in a picture of a board's progress, or their numbers."""

from collections.abc import Iterator, Sequence
from itertools import count

from services.leaderboard.charts import svg
from services.leaderboard.charts import text as texts
from services.leaderboard.charts.history import HEADROOM, Look, Mark, Plot
from services.leaderboard.charts.placement import Crowd
from services.leaderboard.charts.scales import Measure

_NAMED = 10  # more steps have numbers instead of names
_NUMBERED = 40  # of more steps, every 5th, 10th, 50th, ... has its number
_LTR = "\N{LEFT-TO-RIGHT MARK}"  # keeps a score behind a name that is written from right to left


def step_labels(
    stair: Sequence[Mark], marks: Sequence[Mark], plot: Plot, measure: Measure
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


def _placed(crowd: Crowd, mark: Mark, words: str, measure: Measure) -> list[object]:
    """Returns the label of a step, with a line to its mark if that is away; none without room."""
    candidates = _beside(mark, words, measure)
    label = crowd.place(candidates, 0) or crowd.place(candidates, 2)
    return [*_leader(mark, label), label] if label else []


def _leader(mark: Mark, label: svg.Label) -> list[object]:
    box = label.box
    x, y = min(max(mark.x, box.left), box.right), min(max(mark.y, box.top), box.bottom)
    if abs(x - mark.x) < 14 and abs(y - mark.y) < 14:
        return []
    start = f"M{svg.number(mark.x)} {svg.number(mark.y)}"
    return [svg.path(f"{start}L{svg.number(x)} {svg.number(y)}", "leader")]


def _name(mark: Mark, measure: Measure, plot: Plot) -> str:
    score = measure.written(mark.entry.estimate.value)
    room = 0.55 * min(plot.area.right - plot.area.left, 340) - texts.width(f" {score}", svg.SMALL)
    return f"{texts.shorten(mark.entry.model, room, svg.SMALL)}{_LTR} {score}"


def _crowd(stair: Sequence[Mark], marks: Sequence[Mark], plot: Plot) -> Crowd:
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
    return Crowd(svg.Box(area.left, area.top - HEADROOM, area.right, area.bottom), hard, soft)


def _around(x: float, y: float, radius: float) -> svg.Box:
    return svg.Box(x - radius, y - radius, x + radius, y + radius)


def _beside(mark: Mark, words: str, measure: Measure) -> list[svg.Label]:
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
    return [_label(mark.x + x, mark.y + y, words, anchor) for x, y, anchor in places]


def _at_end(mark: Mark, words: str, plot: Plot) -> list[svg.Label]:
    """Returns places at the right end of the stair, and in the corners of the plot."""
    area = plot.area
    edges = (mark.y - 9, mark.y + 18, area.bottom - 6, area.top + 8)
    return [
        _label(x, y, words, anchor)
        for y in edges
        for x, anchor in ((area.right, "end"), (area.left + 4, "start"))
    ]


def _label(x: float, y: float, words: str, anchor: str) -> svg.Label:
    return svg.Label(x, y, words, "halo", anchor, "", svg.SMALL)
