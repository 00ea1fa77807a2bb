"""How often each of some rows has each rank among them, over the resamples of patients."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from services.leaderboard.charts import svg
from services.leaderboard.charts import text as texts
from services.leaderboard.charts.scales import finite

_BAR = 30  # height of a bar of 100 %
_ROW = 54


@dataclass(frozen=True, slots=True)
class RankShares:
    """A row of the board and the share of the resamples in which it has rank 1, 2, ..."""

    model: str
    shares: Sequence[float]


def chart(rows: Sequence[RankShares], *, width: int = svg.WIDE, prefix: str = "ranks") -> Markup:
    """Returns a row of bars for each model: one bar a rank, as high as its share."""
    stacked = width < 480
    number = max((len(row.shares) for row in rows), default=0)
    left = 0.0
    if not stacked:
        named = [texts.width(texts.drawable(row.model), svg.SIZE) for row in rows]
        left = min(max(named, default=0), 0.3 * width) + 14
    cell = min((width - left) / max(number, 1), 110)
    headings = [(left + cell * (rank + 0.5), _heading(rank + 1, cell)) for rank in range(number)]
    body: list[object] = [*svg.axis_labels(headings, 14, width)]
    high = _ROW + (18 if stacked else 0)
    for place, row in enumerate(rows):
        top = 22 + place * high
        name = svg.label(
            0, top + (14 if stacked else 42), row.model, room=(width if stacked else left - 14)
        )
        body += [name, *_bars(row, left, top + high - 6, cell)]
    described = [f"{row.model}: {', '.join(map(percent, row.shares))}" for row in rows]
    heading = "Share of the resamples in which a row has each rank, from rank 1 on"
    size = (width, 24 + high * len(rows))
    return svg.document(prefix, size, heading, svg.sentences(described), body)


def table(rows: Sequence[RankShares]) -> svg.Table:
    """Returns the data behind the chart."""
    number = max((len(row.shares) for row in rows), default=0)
    return svg.Table(
        ("Model", *(f"Rank {rank + 1}" for rank in range(number))),
        tuple(
            (row.model, *map(percent, row.shares), *["–"] * (number - len(row.shares)))
            for row in rows
        ),
    )


def percent(share: float | None) -> str:
    """Returns a share as whole percent; `< 1 %` is not 0, and `> 99 %` is not all."""
    number = finite(share)
    if number is None:
        return "–"
    if 0 < number < 0.01:
        return "< 1 %"
    if 0.99 < number < 1:
        return "> 99 %"
    return f"{min(max(100 * number, 0), 100):.0f} %"


def _heading(rank: int, cell: float) -> str:
    return f"rank {rank}" if cell > 48 else str(rank)


def _bars(row: RankShares, left: float, bottom: float, cell: float) -> list[object]:
    base = f"M{svg.number(left)} {svg.number(bottom)}h{svg.number(cell * len(row.shares))}"
    body: list[object] = [svg.path(base, "axis")]
    for rank, share in enumerate(row.shares):
        number = finite(share)
        x = left + cell * rank
        high = _BAR * min(max(number or 0.0, 0.0), 1.0)
        if high:
            bar = svg.Box(x + 4, bottom - high, x + cell - 4, bottom)
            body.append(svg.band(bar, "bar"))
        words = percent(number)
        if texts.width(words, svg.SMALL) <= cell - 2:
            body.append(svg.small(x + cell / 2, bottom - high - 4, words, "middle"))
    return body
