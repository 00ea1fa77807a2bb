"""SVG as text: numbers, elements, whole pictures. All text of strangers is escaped here.

The elements carry presentation attributes and classes only, so that a page with the content
security policy `style-src 'self'` shows them; `static/charts.css` has their colours.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from services.leaderboard.charts import text as texts

WIDE, NARROW = 720, 320  # widths of the two layouts of a chart, in user units
SIZE = 12  # of a label's font, in user units; of an axis' font: SMALL
SMALL = 11


@dataclass(frozen=True, slots=True)
class Table:
    """The data behind a chart: a header, and rows with as many cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Box:
    """The rectangle that something covers, in user units."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two have more than an edge in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def number(value: float) -> str:
    """Returns a coordinate with at most one decimal.

    Raises:
        ValueError: it is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"a coordinate is {value}; draw only what scales.drawn returns")
    short = f"{value:.1f}".removesuffix(".0")
    return "0" if short == "-0" else short


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text at (`x`, `y`), its base line; `anchor` is start, middle or end.

    `words` are drawable and fit; `full` is the whole text, shown under the pointer if they lack it.
    """

    x: float
    y: float
    words: str
    kind: str = ""
    anchor: str = "start"
    full: str = ""
    size: float = SIZE

    @property
    def box(self) -> Box:
        """What the text covers."""
        wide = texts.width(self.words, self.size, bold=self.kind == "bold")
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return Box(left, self.y - 0.95 * self.size, left + wide, self.y + 0.3 * self.size)

    def __str__(self) -> str:
        """Returns the SVG element."""
        attributes = f'x="{number(self.x)}" y="{number(self.y)}"'
        if self.anchor != "start":
            attributes += f' text-anchor="{self.anchor}"'
        kind = f"{self.kind} small".strip() if self.size == SMALL else self.kind
        if kind:
            attributes += f' class="{kind}"'
        whole = texts.clean(self.full)
        tip = title(whole) if whole not in self.words else ""
        return f"<text {attributes}>{tip}{escape(self.words)}</text>"


def label(
    x: float,
    y: float,
    words: str,
    *,
    room: float = math.inf,
    kind: str = "",
    anchor: str = "start",
    size: float = SIZE,
) -> Label:
    """Returns a label whose text is shortened to `room` user units."""
    fitting = texts.shorten(words, room / (texts.BOLD if kind == "bold" else 1), size)
    return Label(x, y, fitting, kind, anchor, words, size)


def small(x: float, y: float, words: str, anchor: str = "start", room: float = math.inf) -> Label:
    """Returns a label of an axis or a caption, in the quieter colour."""
    return label(x, y, words, room=room, kind="quiet", anchor=anchor, size=SMALL)


def axis_labels(places: Sequence[tuple[float, str]], y: float, width: float) -> list[Label]:
    """Returns the labels of ticks, inside of the picture; one without room is left out.

    `places`: x and words of each tick, in the order of x.
    """
    labels: list[Label] = []
    for x, words in places:
        half = texts.width(words, SMALL) / 2
        centred = small(min(max(x, half), width - half), y, words, "middle")
        if words and (not labels or labels[-1].box.right + 4 <= centred.box.left):
            labels.append(centred)
    return labels


def title(words: str) -> str:
    """Returns a title, which a browser shows under the pointer."""
    return f"<title>{escape(texts.clean(words))}</title>"


def path(commands: str, kind: str, tip: str = "") -> str:
    """Returns a path of a class, with the text that is shown under the pointer."""
    if not tip:
        return f'<path class="{kind}" d="{commands}"/>'
    return f'<path class="{kind}" d="{commands}">{title(tip)}</path>'


def polyline(points: Sequence[Sequence[float]]) -> str:
    """Returns the commands of a line through points (x, y), in the shortest form: relative."""
    commands, before = "", (0, 0)
    for x, y in points:
        at = round(10 * x), round(10 * y)
        across, down = (_short((now - then) / 10) for now, then in zip(at, before, strict=True))
        commands += f"{'l' if commands else 'M'}{across}{'' if down[0] == '-' else ' '}{down}"
        before = at
    return commands


def _short(value: float) -> str:
    """Returns a coordinate without the zero before its point."""
    return number(value).replace("0.", ".", 1) if abs(value) < 1 else number(value)


def band(box: Box, kind: str) -> str:
    """Returns a filled rectangle of a class."""
    return (
        f'<rect class="{kind}" x="{number(box.left)}" y="{number(box.top)}"'
        f' width="{number(box.right - box.left)}" height="{number(box.bottom - box.top)}"/>'
    )


def disc(x: float, y: float, radius: float) -> str:
    """Returns the commands of a circle."""
    r = number(radius)
    arc = f"a{r} {r} 0 1 0 {number(2 * radius)} 0a{r} {r} 0 1 0 {number(-2 * radius)} 0"
    return f"M{number(x - radius)} {number(y)}{arc}z"


def diamond(x: float, y: float, radius: float) -> str:
    """Returns the commands of a square that stands on a corner."""
    r = number(radius)
    return f"M{number(x)} {number(y - radius)}l{r} {r}-{r} {r}-{r}-{r}z"


def square(x: float, y: float, radius: float) -> str:
    """Returns the commands of a square."""
    side = number(2 * radius)
    return f"M{number(x - radius)} {number(y - radius)}h{side}v{side}h-{side}z"


def document(
    prefix: str, size: tuple[float, float], heading: str, description: str, body: Iterable[object]
) -> Markup:
    """Returns a whole picture of `size` (width, height) with its title and description.

    `prefix` begins the ids of the picture and must be unique on a page.
    """
    wide, high = map(number, size)
    mark = escape(prefix)
    return Markup(  # noqa: S704 - every piece is escaped where it is made
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {wide} {high}"'
        f' role="img" aria-labelledby="{mark}-t {mark}-d">'
        f'<title id="{mark}-t">{escape(texts.clean(heading))}</title>'
        f'<desc id="{mark}-d">{escape(texts.clean(description))}</desc>'
        f"{''.join(map(str, body))}</svg>"
    )


def both(draw: Callable[[int, str], Markup], prefix: str) -> Markup:
    """Returns a chart in its two layouts, of which charts.css shows the one that suits the page.

    `draw` takes a layout's width and the prefix of its ids.
    """
    return Markup(  # noqa: S704
        f'<div class="chart-wide">{draw(WIDE, f"{prefix}-w")}</div>'
        f'<div class="chart-narrow">{draw(NARROW, f"{prefix}-n")}</div>'
    )


def sentences(parts: Sequence[str], most: int = 20) -> str:
    """Returns the first `most` parts as a description, with the number of those left out."""
    left = len(parts) - most
    more = [f"and {left:,} more in the table"] if left > 0 else []
    return "; ".join([*parts[:most], *more])
