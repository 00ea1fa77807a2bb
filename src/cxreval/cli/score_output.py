"""Output of `cxreval score`: tables of at most 100 columns, and JSON."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from cxreval.cli import output
from cxreval.cli.columns import Column, fitting, left_out_note, table
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.comparison import PairedDifference
from cxreval.metrics.registry import METRICS, Direction, Metric
from cxreval.metrics.report import (
    Contamination,
    Interval,
    MembershipSignal,
    MetricValue,
    Report,
    TrainingVerdict,
    absence,
)

WIDTH = 100

_MACRO = "macro"

UNMATCHED = "no identifier of the list is in this data set"


def _terminal() -> output.Terminal:
    """Returns a console of 100 columns, or of the terminal's width if that is less."""
    terminal = output.Terminal()
    known = terminal.is_terminal or "COLUMNS" in os.environ
    return output.Terminal(width=min(WIDTH, terminal.width) if known else WIDTH)


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


def print_report(name: str, spec: BenchmarkSpec, report: Report, about: str = "") -> None:
    """Prints the values of one table over all images, then by slice.

    `about`: a line on the images, if they are not those of the benchmark.
    """
    console = _terminal()
    console.print(Text(f"{name} on {spec.title}", style="bold"))
    if spec.synthetic:
        console.print("Synthetic: generated phantoms, not radiographs of patients.")
    if about:
        console.print(Text(about))
    console.print(
        f"{report.benchmark}, digest {report.benchmark_digest}\n"
        f"{report.image_count} images of {report.patient_count} patients\n"
        f"intervals: 95 %, {report.replicate_count} resamples of patients, seed {report.seed}\n"
        f"predictions {report.predictions_sha256}\n",
    )
    _print_findings(console, report, METRICS[spec.ranking_metric])
    slices = [value for value in report.metrics if value.slice and not value.finding]
    if slices:
        _print_slices(console, slices)
    for line in training_lines(spec, report):
        console.print(Text(line))


def training_lines(spec: BenchmarkSpec, report: Report) -> list[str]:
    """Returns sentences on the declared training data and on each public training list."""
    declared = report.contamination
    lines = declared_lines(spec, declared) if declared else []
    return [*lines, *map(signal_line, report.membership)]


def declared_lines(spec: BenchmarkSpec, declared: Contamination) -> list[str]:
    """Returns sentences on the declared training data."""
    lines = [f"training data: {declared.verdict}, as declared"]
    if declared.unmatched:
        lines[0] += f"; {UNMATCHED}"
    if declared.verdict is TrainingVerdict.OVERLAP:
        lines[0] += f"; {declared.images} images and {declared.patients} patients of these"
        lines += [
            f"{METRICS[value.metric].label} on the {declared.clean_images} images of the other "
            f"{declared.clean_patients} patients: {_figure(value.value)}"
            f"{f' ({_bounds(value.interval)})' if value.interval else ''}"
            for value in declared.clean_metrics
            if (value.metric, value.finding) == (spec.ranking_metric, "")
        ]
    return lines


def signal_line(signal: MembershipSignal) -> str:
    """Returns a sentence on the images of a public training list."""
    about = f"public list {signal.list}, {signal.member_images} of these images"
    if signal.difference is None:
        return f"{about}: not compared, {absence(signal.undefined_reason)[1]}"
    bounds = signal.interval
    interval = f" (95 %: {bounds.low:+.4f} to {bounds.high:+.4f})" if bounds else ""
    better = "better on them than on the others" if signal.signals else "no clear difference"
    return (
        f"{about}: AUROC {signal.difference:+.4f}{interval} against the other patients, {better}; "
        "a signal, no proof"
    )


def _print_findings(console: output.Terminal, report: Report, ranking: Metric) -> None:
    """Prints a row for each finding: the ranking metric with its interval, then the others."""
    values: dict[str, dict[str, MetricValue]] = {}
    for value in report.metrics:
        if not value.slice:
            values.setdefault(value.finding, {})[value.metric] = value
    others = [METRICS[name] for name in values[""] if name != ranking.name]
    scores = [by_metric[ranking.name] for by_metric in values.values()]
    columns = [
        Column("finding", [finding or _MACRO for finding in values], wraps_to=10),
        _numbers(ranking.label, [_figure(score.value) for score in scores]),
        _numbers("95 %\ninterval", [_bounds(score.interval) for score in scores], spare=1),
        _numbers("images\nwith it", [str(score.positive_images) for score in scores], spare=2),
        _numbers("patients\nwith it", [str(score.positive_patients) for score in scores], spare=3),
    ]
    columns += [
        _numbers(
            metric.label.replace(" ", "\n", 1),
            [_figure(by_metric[metric.name].value) for by_metric in values.values()],
            spare=3 + place,
        )
        for place, metric in enumerate(others, 1)
    ]
    lower = [
        metric.label
        for metric in (ranking, *others)
        if metric.direction is Direction.LOWER_IS_BETTER
    ]
    notes = [note for score in scores for note in _notes(score)]
    better = f"{' and '.join(lower)}: lower is better; all others: higher."
    _print(console, "", columns, [better, *notes], section=len(values) - 2)


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
        return [f"{name}: undefined, {absence(score.undefined_reason)[1]}{rest}."]
    if score.interval is None:
        return [f"{name}: no interval, {absence(score.interval_undefined_reason)[1]}."]
    return []


def _print_slices(console: output.Terminal, macros: Sequence[MetricValue]) -> None:
    label = METRICS[macros[0].metric].label
    images = [str(macro.positive_images + macro.negative_images) for macro in macros]
    columns = [
        Column("slice", [macro.slice for macro in macros], wraps_to=10),
        _numbers(label, [_figure(macro.value) for macro in macros]),
        _numbers("95 %\ninterval", [_bounds(macro.interval) for macro in macros], spare=1),
        _numbers("images", images, spare=2),
        _numbers("with a\nfinding", [str(macro.positive_images) for macro in macros], spare=4),
        _numbers("patients", [str(macro.positive_patients) for macro in macros], spare=3),
    ]
    notes = [note for macro in macros for note in _notes(macro)]
    title = f"Macro {label} by slice"
    _print(console, title, columns, ["Patients: those with a finding.", *notes])


def print_comparison(
    names: Sequence[str], metric: Metric, differences: Sequence[PairedDifference]
) -> None:
    """Prints the paired differences and a sentence with the conclusion."""
    console = _terminal()
    first, second = names
    bounds = [
        f"{pair.low:+.4f} to {pair.high:+.4f}"
        if pair.low is not None and pair.high is not None
        else "-"
        for pair in differences
    ]
    adjusted = [_p(pair.adjusted_p_value) if pair.finding else "" for pair in differences]
    columns = [
        Column("finding", [pair.finding or _MACRO for pair in differences], wraps_to=10),
        _numbers("first", [_figure(pair.first) for pair in differences], spare=3),
        _numbers("second", [_figure(pair.second) for pair in differences], spare=4),
        _numbers("difference", [f"{pair.difference:+.4f}" for pair in differences]),
        _numbers("95 %\ninterval", bounds, spare=2),
        _numbers("p", [_p(pair.p_value) for pair in differences], spare=5),
        _numbers("p, Holm", adjusted, spare=1),
        _numbers("told\napart", ["yes" if pair.separable else "no" for pair in differences]),
    ]
    count = sum(bool(pair.finding) for pair in differences)
    note = (
        "Each interval is for its row alone. "
        f"Holm's correction is over the {count} findings, one family; the macro is one question "
        "asked beforehand, a family of its own, and its p is not corrected. "
        "Told apart: p, corrected where it is, below 0.05."
    )
    title = f"{metric.label} of {first} less that of {second}, on the same resamples"
    _print(console, title, columns, [note], section=len(differences) - 2)
    console.print(Text(_verdict(first, second, metric, differences), style="bold"))


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


def _print(
    console: output.Terminal,
    title: str,
    columns: Sequence[Column],
    notes: Sequence[str],
    section: int = -1,
) -> None:
    """Prints as many of the columns as fit, with a line below the row `section`, and notes."""
    shown, left_out = fitting(columns, console.width, edge=False)
    console.print(table(title, shown, sections=[section], edge=False))
    console.print(Text("\n" + "\n".join([*notes, *left_out_note(left_out)]) + "\n"))


def _numbers(head: str, cells: Sequence[str], spare: int = 0) -> Column:
    return Column(head, cells, spare=spare, right=True)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _bounds(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.4f}-{interval.high:.4f}"


def _p(value: float, equals: str = "") -> str:
    return f"{equals}{value:.4f}" if value >= 0.0001 else "< 0.0001"
