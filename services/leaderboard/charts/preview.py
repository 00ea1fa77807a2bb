"""The picture that a link to a row shows elsewhere (Open Graph), as SVG and as PNG.

Crawlers of Open Graph read PNG only. Pillow draws it from the same parts as the SVG, with the font
that Pillow carries. That font has ASCII only: accents are left out there, and a name that needs
other letters is replaced by its identifier.
"""

import unicodedata
from dataclasses import dataclass
from html import escape
from io import BytesIO

from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from services.leaderboard.charts import svg
from services.leaderboard.charts import text as texts
from services.leaderboard.charts.scales import Estimate, Measure, Scale, drawn, ticks

WIDTH, HEIGHT = 1200, 630
_LEFT, _RIGHT = 80, WIDTH - 80
_PAPER, _INK, _QUIET, _BLUE, _GRID = "#ffffff", "#1a1c1e", "#565c63", "#0067a5", "#dfe3e7"
_ASCII = str.maketrans({"×": "x", "−": "-", "–": "-", "—": "-", "·": "-"})


@dataclass(frozen=True, slots=True)
class Preview:
    """What the picture shows of a row: names, each with an identifier in ASCII, and figures.

    `line` is a sentence below the score, such as `Rank 1 of 12, as of 3 March 2026`.
    """

    title: tuple[str, str]
    model: tuple[str, str]
    line: str
    estimate: Estimate
    span: tuple[float, float]
    measure: Measure


@dataclass(frozen=True, slots=True)
class _Text:
    x: float
    y: float
    words: str
    size: int
    colour: str
    middle: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    x: float
    y: float
    end: float
    bottom: float
    wide: int
    colour: str


@dataclass(frozen=True, slots=True)
class _Dot:
    x: float
    y: float
    radius: float


_Part = _Text | _Line | _Dot


def chart(preview: Preview, *, prefix: str = "preview") -> Markup:
    """Returns the picture as SVG of 1200 × 630 with its own colours."""
    title = escape(f"{texts.clean(preview.model[0])} on {texts.clean(preview.title[0])}")
    body = "".join(map(_element, _parts(preview, preview.title[0], preview.model[0])))
    mark = escape(prefix)
    return Markup(  # noqa: S704 - every piece is escaped
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-labelledby="{mark}-t"><title id="{mark}-t">{title}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{_PAPER}"/>'
        f'<g font-family="system-ui,sans-serif">{body}</g></svg>'
    )


def png(preview: Preview) -> bytes:
    """Returns the picture as a PNG file of 1200 × 630."""
    image = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    draw = ImageDraw.Draw(image)
    for part in _parts(preview, _ascii(*preview.title), _ascii(*preview.model)):
        match part:
            case _Text():
                font = ImageFont.load_default(part.size)
                words = part.words.translate(_ASCII)
                anchor = "ms" if part.middle else "ls"
                draw.text((part.x, part.y), words, part.colour, font, anchor)
            case _Line():
                draw.line((part.x, part.y, part.end, part.bottom), part.colour, part.wide)
            case _Dot():
                draw.circle((part.x, part.y), part.radius, _BLUE)
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _parts(preview: Preview, title: str, model: str) -> list[_Part]:
    measure = preview.measure
    room = _RIGHT - _LEFT
    parts: list[_Part] = [
        _Line(0, 6, WIDTH, 6, 12, _BLUE),
        _Text(_LEFT, 90, texts.shorten(title, room, 36), 36, _QUIET),
    ]
    for place, words in enumerate(texts.wrap(model, room, 52, 2)):
        parts.append(_Text(_LEFT, 165 + 66 * place, words, 52, _INK))
    point = drawn(preview.estimate)
    score = measure.written(preview.estimate.value) if point else "no score"
    parts.append(_Text(_LEFT, 350, score, 96, _BLUE))
    beside = _LEFT + texts.width(score, 96) + 30
    parts.append(_Text(beside, 310, measure.axis, 28, _QUIET))
    if point and point.interval:
        words = f"95 % interval {measure.interval(preview.estimate)}"
        parts.append(_Text(beside, 348, words, 28, _QUIET))
    if point:
        parts += _axis(preview, point.value, point.interval)
    parts.append(_Text(_LEFT, 585, texts.shorten(preview.line, room, 28), 28, _QUIET))
    return parts


def _axis(preview: Preview, value: float, interval: tuple[float, float] | None) -> list[_Part]:
    scale = Scale(*preview.span, _LEFT + 20, _RIGHT - 20)
    parts: list[_Part] = []
    for tick in ticks(*preview.span, preview.measure, 8):
        x = scale(tick.value)
        parts += [_Line(x, 400, x, 480, 2, _GRID), _Text(x, 514, tick.label, 24, _QUIET, True)]
    if interval:
        low, high = map(scale, interval)
        parts.append(_Line(low, 440, high, 440, 8, _BLUE))
        parts += [_Line(end, 424, end, 456, 6, _BLUE) for end in (low, high)]
    return [*parts, _Dot(scale(value), 440, 18)]


def _element(part: _Part) -> str:
    match part:
        case _Text():
            anchor = ' text-anchor="middle"' if part.middle else ""
            place = f'x="{svg.number(part.x)}" y="{svg.number(part.y)}"{anchor}'
            return (
                f'<text {place} font-size="{part.size}" fill="{part.colour}">'
                f"{escape(part.words)}</text>"
            )
        case _Line():
            start = f"M{svg.number(part.x)} {svg.number(part.y)}"
            end = f"L{svg.number(part.end)} {svg.number(part.bottom)}"
            return f'<path d="{start}{end}" stroke="{part.colour}" stroke-width="{part.wide}"/>'
        case _Dot():
            return f'<path d="{svg.disc(part.x, part.y, part.radius)}" fill="{_BLUE}"/>'


def _ascii(name: str, identifier: str) -> str:
    """Returns the name without accents, or the identifier if other letters remain."""
    plain = unicodedata.normalize("NFKD", texts.clean(name)).translate(_ASCII)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return plain if plain and plain.isascii() else identifier
