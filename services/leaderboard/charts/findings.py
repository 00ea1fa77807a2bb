"""Each finding of a model with its interval, beside the same of the state of the art."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from services.leaderboard.charts import rows, svg
from services.leaderboard.charts.scales import Estimate, Measure, domain, drawn

CAPTION = "95 % interval, patients resampled"


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding: the figure of the model and of the other one, and its positives."""

    name: str
    estimate: Estimate
    other: Estimate | None = None
    images: int | None = None
    patients: int | None = None


def chart(
    findings: Sequence[Finding],
    measure: Measure,
    *,
    model: str,
    other: str = "",
    width: int = svg.WIDE,
    prefix: str = "findings",
) -> Markup:
    """Returns the findings as dots with whiskers, the other model's as hollow diamonds."""
    own = rows.Series(model, "a", svg.disc)
    theirs = rows.Series(other, "b", svg.diamond, 5)
    lines = []
    for finding in findings:
        marks = [(own, finding.estimate)]
        if finding.other is not None:
            marks.append((theirs, finding.other))
        columns = (measure.written(finding.estimate.value), _positives(finding))
        lines.append(rows.Row(finding.name, tuple(marks), columns))
    compared = any(finding.other is not None for finding in findings)
    estimates = [e for f in findings for e in (f.estimate, f.other) if e is not None]
    drawing = rows.Chart(
        measure,
        tuple(lines),
        (own, theirs) if compared else (own,),
        domain(estimates, measure),
        f"{measure.axis}; {CAPTION}",
        columns=(measure.unit, "positive images / patients"),
    )
    heading = f"{measure.unit} of each finding: {model}"
    heading += f" and {other}" if compared else ""
    return rows.picture(drawing, width, prefix, heading, _description(findings, measure))


def table(
    findings: Sequence[Finding], measure: Measure, *, model: str, other: str = ""
) -> svg.Table:
    """Returns the data behind the chart."""
    return svg.Table(
        (
            "Finding",
            f"{model}, {measure.unit}",
            "95 % interval",
            f"{other or 'Other'}, {measure.unit}",
            "95 % interval",
            "Positive images",
            "Positive patients",
        ),
        tuple(
            (
                finding.name,
                *_cells(finding.estimate, measure),
                *_cells(finding.other or Estimate(None), measure),
                _count(finding.images),
                _count(finding.patients),
            )
            for finding in findings
        ),
    )


def _cells(estimate: Estimate, measure: Measure) -> tuple[str, str]:
    return measure.written(estimate.value), measure.interval(estimate)


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _positives(finding: Finding) -> str:
    return f"{_count(finding.images)} / {_count(finding.patients)}"


def _description(findings: Sequence[Finding], measure: Measure) -> str:
    return svg.sentences(
        [
            f"{f.name} {measure.written(f.estimate.value)} ({measure.interval(f.estimate)})"
            if drawn(f.estimate)
            else f"{f.name}: no value, {f.estimate.reason or 'undefined'}"
            for f in findings
        ]
    )
