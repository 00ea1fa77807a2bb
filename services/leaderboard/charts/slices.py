"""The figure of a model on each slice of the benchmark: by sex, by age, by view."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from services.leaderboard.charts import rows, svg
from services.leaderboard.charts.findings import CAPTION
from services.leaderboard.charts.scales import Estimate, Measure, domain, finite


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice: what it divides the images by (`sex`), its value (`female`), its figure and size."""

    by: str
    name: str
    estimate: Estimate
    images: int | None = None


def chart(
    slices: Sequence[Slice],
    measure: Measure,
    overall: Estimate,
    *,
    width: int = svg.WIDE,
    prefix: str = "slices",
) -> Markup:
    """Returns the slices as dots with whiskers below a heading each; a line is at `overall`."""
    series = rows.Series("slice", "a", svg.disc)
    lines = []
    for by, group in groupby(slices, key=lambda part: part.by):
        lines.append(rows.Row(by))
        for part in group:
            columns = (measure.written(part.estimate.value), _images(part))
            lines.append(rows.Row(part.name, ((series, part.estimate),), columns))
    whole = finite(overall.value)
    drawing = rows.Chart(
        measure,
        tuple(lines),
        (series,),
        domain([overall, *(part.estimate for part in slices)], measure),
        f"{measure.axis}; {CAPTION}; the line is the figure over all images",
        columns=(measure.unit, "images"),
        line=None if whole is None else (whole, f"all images: {measure.written(whole)}"),
    )
    described = [f"all images {measure.written(overall.value)}"]
    described += [f"{p.by} {p.name} {measure.written(p.estimate.value)}" for p in slices]
    heading = f"{measure.unit} of each slice with its 95 % interval"
    return rows.picture(drawing, width, prefix, heading, svg.sentences(described))


def table(slices: Sequence[Slice], measure: Measure, overall: Estimate) -> svg.Table:
    """Returns the data behind the chart."""
    parts = (Slice("all images", "", overall), *slices)
    return svg.Table(
        ("By", "Slice", measure.unit, "95 % interval", "Images", "Why without value"),
        tuple(
            (
                part.by,
                part.name,
                measure.written(part.estimate.value),
                measure.interval(part.estimate),
                _images(part),
                part.estimate.reason if finite(part.estimate.value) is None else "",
            )
            for part in parts
        ),
    )


def _images(part: Slice) -> str:
    return "–" if part.images is None else f"{part.images:,}"
