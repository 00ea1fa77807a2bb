"""Output of `cxreval score`: tables of at most 100 columns, and JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from cxreval.cli import output
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.comparison import PairedDifference
from cxreval.metrics.registry import METRICS, Direction, Metric
from cxreval.metrics.report import (
    FINDING_UNDEFINED,
    NO_LABELS,
    NOT_COVERED,
    NOT_RESAMPLED,
    ONE_CLASS_ONLY,
    REPLICATES_UNDEFINED,
    Interval,
    MetricValue,
    Report,
)

WIDTH = 100

_MACRO = "macro"
_REASONS = {
    ONE_CLASS_ONLY: "only one class is there",
    NO_LABELS: "no label is known",
    FINDING_UNDEFINED: "because a finding is",
    NOT_COVERED: "not covered by the predictions",
    NOT_RESAMPLED: "the metric is not resampled",
    REPLICATES_UNDEFINED: "more than 1 % of the resamples have no value",
}
_console = output.Terminal(width=WIDTH)


def short_names(files: Sequence[Path]) -> list[str]:
    """Returns the shortest endings of the paths that distinguish the files.

    A file that is named twice is numbered.
    """
    if len(set(files)) < len(files):
        return [f"{file.name} ({number})" for number, file in enumerate(files, start=1)]
    depth = 1
    while len({file.parts[-depth:] for file in files}) < len(files):
        depth += 1
    return [Path(*file.parts[-depth:]).as_posix() for file in files]


def print_json(reports: Sequence[Report], differences: Sequence[PairedDifference]) -> None:
    """Prints reports and their differences as one JSON object on standard output.

    Undefined replicates are null. File names are not printed.
    """
    report, against = (*reports, None)[:2]
    output.print_json(
        _plain(
            {
                "report": report,
                "against": against,
                "comparison": differences if len(reports) == 2 else None,
            }
        )
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [None if math.isnan(item) else item for item in value.tolist()]
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def print_report(name: str, spec: BenchmarkSpec, report: Report) -> None:
    """Prints the values of one table over all images, then by slice."""
    _console.print(Text(f"{name} on {spec.title}", style="bold"))
    if spec.synthetic:
        _console.print("Synthetic: generated phantoms, not radiographs of patients.")
    _console.print(
        f"{report.benchmark}, digest {report.benchmark_digest}\n"
        f"{report.image_count} images of {report.patient_count} patients\n"
        f"intervals: 95 %, {report.replicate_count} resamples of patients, seed {report.seed}\n"
        f"predictions {report.predictions_sha256}\n",
    )
    _print_findings(report, METRICS[spec.ranking_metric])
    slices = [value for value in report.metrics if value.slice and not value.finding]
    if slices:
        _print_slices(slices)


def _print_findings(report: Report, ranking: Metric) -> None:
    """Prints a row for each finding: the ranking metric with its interval, then the others."""
    values: dict[str, dict[str, MetricValue]] = {}
    for value in report.metrics:
        if not value.slice:
            values.setdefault(value.finding, {})[value.metric] = value
    others = [METRICS[name] for name in values[""] if name != ranking.name]
    table = _table(
        "",
        "finding",
        ranking.label,
        "95 %\ninterval",
        "images\nwith it",
        "patients\nwith it",
        *(metric.label.replace(" ", "\n", 1) for metric in others),
    )
    for finding, by_metric in values.items():
        score = by_metric[ranking.name]
        if not finding:
            table.add_section()
        table.add_row(
            finding or _MACRO,
            _figure(score.value),
            _bounds(score.interval),
            str(score.positive_images),
            str(score.positive_patients),
            *(_figure(by_metric[metric.name].value) for metric in others),
        )
    lower = [
        metric.label
        for metric in (ranking, *others)
        if metric.direction is Direction.LOWER_IS_BETTER
    ]
    notes = [note for by_metric in values.values() for note in _notes(by_metric[ranking.name])]
    _print(table, f"{' and '.join(lower)}: lower is better; all others: higher.", *notes)


def _notes(score: MetricValue) -> list[str]:
    """Returns the reason why a value or its interval is undefined."""
    name = score.slice or score.finding or _MACRO
    if score.value is None:
        rest = ""
        if score.defined_mean is not None:
            rest = (
                f"; over the {score.defined_findings} that have one the mean "
                f"{METRICS[score.metric].label} is {score.defined_mean:.4f}"
            )
        return [f"{name}: undefined, {_REASONS[score.undefined_reason]}{rest}."]
    if score.interval is None:
        return [f"{name}: no interval, {_REASONS[score.interval_undefined_reason]}."]
    return []


def _print_slices(macros: Sequence[MetricValue]) -> None:
    label = METRICS[macros[0].metric].label
    table = _table(
        f"Macro {label} by slice",
        "slice",
        label,
        "95 %\ninterval",
        "images",
        "with a\nfinding",
        "patients",
    )
    for macro in macros:
        table.add_row(
            Text(macro.slice),
            _figure(macro.value),
            _bounds(macro.interval),
            str(macro.positive_images + macro.negative_images),
            str(macro.positive_images),
            str(macro.positive_patients),
        )
    notes = [note for macro in macros for note in _notes(macro)]
    _print(table, "Patients: those with a finding.", *notes)


def print_comparison(
    names: Sequence[str], metric: Metric, differences: Sequence[PairedDifference]
) -> None:
    """Prints the paired differences and a sentence with the conclusion."""
    first, second = names
    table = _table(
        f"{metric.label} of {first} less that of {second}, on the same resamples",
        "finding",
        "first",
        "second",
        "difference",
        "95 %\ninterval",
        "p",
        "p, Holm",
        "told\napart",
    )
    for pair in differences:
        if not pair.finding:
            table.add_section()
        known = pair.low is not None and pair.high is not None
        table.add_row(
            pair.finding or _MACRO,
            _figure(pair.first),
            _figure(pair.second),
            f"{pair.difference:+.4f}",
            f"{pair.low:+.4f} to {pair.high:+.4f}" if known else "-",
            _p(pair.p_value),
            _p(pair.adjusted_p_value) if pair.finding else "",
            "yes" if pair.separable else "no",
        )
    count = sum(bool(pair.finding) for pair in differences)
    _print(
        table,
        "Each interval is for its row alone. "
        f"Holm's correction is over the {count} findings, one family; the macro is one question "
        "asked beforehand, a family of its own, and its p is not corrected. "
        "Told apart: p, corrected where it is, below 0.05.",
    )
    _console.print(Text(_verdict(first, second, metric, differences), style="bold"))


def _verdict(
    first: str, second: str, metric: Metric, differences: Sequence[PairedDifference]
) -> str:
    """Returns the conclusion: the macro mean decides, and the findings are counted."""
    findings = [pair for pair in differences if pair.finding]
    up = 1 if metric.direction is Direction.HIGHER_IS_BETTER else -1
    ahead, behind = (
        sum(pair.separable and sign * pair.difference > 0 for pair in findings)
        for sign in (up, -up)
    )
    rest = (
        f"Of the {len(findings)} findings, {ahead} are better in {first} and {behind} in {second}."
    )
    macro = next((pair for pair in differences if not pair.finding), None)
    if macro is None or macro.low is None or macro.high is None:
        return (
            f"The macro {metric.label} is undefined, at least in some resamples, "
            f"so neither is called better. {rest}"
        )
    better, worse, sign = (first, second, 1) if up * macro.difference >= 0 else (second, first, -1)
    low, high = sorted((sign * macro.low, sign * macro.high))
    evidence = f"95 % interval {low:+.4f} to {high:+.4f}, p {_p(macro.p_value, '= ')}"
    difference = f"macro {metric.label} {sign * macro.difference:+.4f}, {evidence}"
    verdict = f"is better than {worse}" if macro.separable else f"cannot be told apart from {worse}"
    return f"{better} {verdict}: {difference}. {rest}"


def _print(table: Table, *notes: str) -> None:
    _console.print(table)
    _console.print(Text("\n" + "\n".join(notes) + "\n"))


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _bounds(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.4f}-{interval.high:.4f}"


def _p(value: float, equals: str = "") -> str:
    return f"{equals}{value:.4f}" if value >= 0.0001 else "< 0.0001"
