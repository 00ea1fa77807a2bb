"""Curves of each finding in small panels: ROC, precision-recall and calibration.

A page lays the panels out by the class `panels`: as many in a row as have room.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from services.leaderboard.charts import svg
from services.leaderboard.charts import text as texts
from services.leaderboard.charts.scales import Measure, Scale, finite, fixed

_WIDTH, _HEIGHT = 160, 172
_PLOT = svg.Box(26, 20, 152, 146)
_X = Scale(0, 1, _PLOT.left, _PLOT.right)
_Y = Scale(0, 1, _PLOT.bottom, _PLOT.top)
_TOLERANCE = 0.35  # user units: less than a pixel on any screen


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of one finding: points (x, y) in [0, 1] in order, and the figure that sums it up.

    `prevalence`: share of positive images, the precision of a random classifier. `images`: number
    of images of each point, of a calibration curve. A curve without points has a `reason`.
    """

    finding: str
    points: Sequence[tuple[float, float]]
    value: float | None = None
    prevalence: float | None = None
    images: Sequence[int] = ()
    reason: str = ""


def roc(curves: Sequence[Curve], measure: Measure, *, prefix: str = "roc") -> Markup:
    """Returns a panel for each finding: sensitivity against false positive rate."""
    axes = ("false positive rate", "sensitivity")
    return _panels(curves, measure, prefix, "ROC curve", axes, _roc)


def precision_recall(curves: Sequence[Curve], measure: Measure, *, prefix: str = "pr") -> Markup:
    """Returns a panel for each finding: precision against recall, and a line at the prevalence."""
    axes = ("recall", "precision")
    return _panels(curves, measure, prefix, "Precision-recall curve", axes, _precision_recall)


def calibration(curves: Sequence[Curve], measure: Measure, *, prefix: str = "cal") -> Markup:
    """Returns a panel for each finding: share of positives against mean probability.

    The area of a point grows with the number of its images.
    """
    axes = ("mean probability", "share of positives")
    return _panels(curves, measure, prefix, "Calibration", axes, _calibration)


def table(curves: Sequence[Curve], measure: Measure) -> svg.Table:
    """Returns the figures behind the panels."""
    return svg.Table(
        ("Finding", measure.unit, "Prevalence, %", "Points", "Why without curve"),
        tuple(
            (
                curve.finding,
                measure.written(curve.value),
                _percent(curve.prevalence),
                f"{len(_points(curve)):,}",
                "" if len(_points(curve)) else curve.reason or "undefined",
            )
            for curve in curves
        ),
    )


def thinned(points: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Returns those of the points (n, 2) whose line is within `tolerance` of the line of all.

    By Douglas and Peucker, "Algorithms for the reduction of the number of points required to
    represent a digitized line or its caricature", Cartographica 10 (1973).
    """
    kept = np.zeros(len(points), bool)
    kept[[0, -1]] = True
    spans = [(0, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = _distances(points[first + 1 : last], points[first], points[last])
        far = int(np.argmax(distances))
        if distances[far] > tolerance:
            middle = first + 1 + far
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    return points[kept]


def _distances(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the distance of each point from the stretch between `start` and `end`."""
    from_start = points - start
    along = end - start
    length = float(along @ along)
    if length:
        share = np.minimum(np.maximum(from_start @ along / length, 0), 1)
        from_start -= share[:, None] * along
    squares: NDArray[np.float64] = from_start * from_start
    return np.sqrt(squares[:, 0] + squares[:, 1])


def _panels(
    curves: Sequence[Curve],
    measure: Measure,
    prefix: str,
    kind: str,
    axes: tuple[str, str],
    draw: Callable[[Curve, NDArray[np.float64]], list[object]],
) -> Markup:
    panels = "".join(
        _panel(curve, measure, f"{prefix}-{place}", kind, axes, draw)
        for place, curve in enumerate(curves)
    )
    return Markup(f'<div class="panels">{panels}</div>')  # noqa: S704


def _panel(
    curve: Curve,
    measure: Measure,
    prefix: str,
    kind: str,
    axes: tuple[str, str],
    draw: Callable[[Curve, NDArray[np.float64]], list[object]],
) -> Markup:
    points = _points(curve)
    value = svg.label(
        _PLOT.right, 12, measure.written(curve.value), kind="bold", anchor="end", size=svg.SMALL
    )
    name = svg.label(0, 12, curve.finding, room=value.box.left - 6, size=svg.SMALL)
    body: list[object] = [name, value, svg.band(_PLOT, "panel")]
    if len(points):
        body += draw(curve, points)
        what = f"{measure.unit} {measure.written(curve.value)}; {axes[1]} against {axes[0]}, 0 to 1"
    else:
        what = f"no curve, {curve.reason or 'undefined'}"
        lines = texts.wrap(what, _PLOT.right - _PLOT.left - 12, svg.SMALL, 6)
        body += [
            svg.small(_PLOT.left + 6, _PLOT.top + 18 + 14 * place, line)
            for place, line in enumerate(lines)
        ]
    # The axes of all panels are alike: they are written once, in the first panel.
    own = prefix.endswith("-0")
    shared = f"{prefix.rpartition('-')[0]}-axes"
    body += [f'<g id="{shared}">', *_axes(axes), "</g>"] if own else [f'<use href="#{shared}"/>']
    return svg.document(prefix, (_WIDTH, _HEIGHT), f"{kind}, {curve.finding}", what, body)


def _axes(axes: tuple[str, str]) -> list[object]:
    across, up = axes
    middle = (_PLOT.top + _PLOT.bottom) / 2
    turned = f'transform="translate(12 {svg.number(middle)}) rotate(-90)" text-anchor="middle"'
    return [
        svg.small(_PLOT.left - 7, _PLOT.bottom, "0", "end"),
        svg.small(_PLOT.left - 7, _PLOT.top + 9, "1", "end"),
        f'<text {turned} class="quiet small">{up}</text>',
        svg.small(_PLOT.left, _PLOT.bottom + 16, "0", "middle"),
        svg.small((_PLOT.left + _PLOT.right) / 2, _PLOT.bottom + 16, across, "middle"),
        svg.small(_PLOT.right, _PLOT.bottom + 16, "1", "middle"),
    ]


def _points(curve: Curve) -> NDArray[np.float64]:
    """Returns the finite points of a curve, shape (n, 2), within [0, 1]."""
    points = np.asarray(curve.points, np.float64).reshape(-1, 2)
    return np.clip(points[np.isfinite(points).all(axis=1)], 0, 1)


def _line(points: NDArray[np.float64]) -> str:
    """Returns the commands of the thinned line through points in [0, 1]."""
    places = np.column_stack(
        [
            _X.start + points[:, 0] * (_X.end - _X.start),
            _Y.start + points[:, 1] * (_Y.end - _Y.start),
        ]
    )
    return svg.polyline(thinned(places, _TOLERANCE).tolist())


def _diagonal() -> str:
    ends = f"M{_PLOT.left} {_PLOT.bottom}L{_PLOT.right} {_PLOT.top}"
    return svg.path(ends, "zero")


def _roc(_: Curve, points: NDArray[np.float64]) -> list[object]:
    return [_diagonal(), svg.path(_line(points), "curve")]


def _precision_recall(curve: Curve, points: NDArray[np.float64]) -> list[object]:
    share = finite(curve.prevalence)
    body: list[object] = [svg.path(_line(points), "curve")]
    if share is not None:
        y = _Y(share)
        body.append(svg.path(f"M{_PLOT.left} {svg.number(y)}H{_PLOT.right}", "zero"))
        body.append(_beside(f"prevalence {_percent(share)} %", y, points))
    return body


def _beside(words: str, y: float, points: NDArray[np.float64]) -> svg.Label:
    """Returns the label of a line at `y`, at the end and on the side where the curve is not."""
    labels = [
        svg.Label(x, height, words, "halo", anchor, "", svg.SMALL)
        for height in (y - 5, y + 13)
        for x, anchor in ((_PLOT.right - 4, "end"), (_PLOT.left + 4, "start"))
    ]
    across = _X.start + points[:, 0] * (_X.end - _X.start)
    up = _Y.start + points[:, 1] * (_Y.end - _Y.start)

    def covered(label: svg.Label) -> int:
        box = label.box
        if box.top < _PLOT.top or box.bottom > _PLOT.bottom:
            return len(points) + 1
        inside = (box.left < across) & (across < box.right) & (box.top < up) & (up < box.bottom)
        return int(inside.sum())

    return min(labels, key=covered)


def _calibration(curve: Curve, points: NDArray[np.float64]) -> list[object]:
    body: list[object] = [_diagonal(), svg.path(_line(points), "curve")]
    total = sum(curve.images) or 1
    for (x, y), images in zip(points, curve.images, strict=False):
        radius = svg.number(max(1.2, 5 * (max(images, 0) / total) ** 0.5))
        tip = f"{images:,} images: {fixed(x, 3)}, {fixed(y, 3)}"
        place = f'cx="{svg.number(_X(x))}" cy="{svg.number(_Y(y))}" r="{radius}"'
        body.append(f'<circle class="mark a" {place}>{svg.title(tip)}</circle>')
    return body


def _percent(share: float | None) -> str:
    number = finite(share)
    return "–" if number is None else fixed(100 * number, 1)
