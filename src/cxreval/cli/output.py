"""Output of the command line: tables for terminals, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cxreval.client import (
    Board,
    EntryComparison,
    Event,
    Kind,
    LeaderboardEntry,
    SotaStep,
    Submission,
    Tier,
)
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.fields import printable
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import NOT_COVERED, Interval, MetricValue

_NUMBERS = ("#", "difference", "95 % interval", "p", *(metric.label for metric in METRICS.values()))
_DISPUTED = "disputed; `cxreval submission history` says why"
_INDENT = "    "
_NAMES = ("model", "organisation", "first", "second", "rank: share")


class Terminal(Console):
    """A console that prints text literally: no markup, and no control characters."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Renders anything that is printed, including progress bars, without control characters.

        Rich's own control codes are kept.
        """
        for text, style, control in super().render(renderable, options):
            yield Segment(
                text if control else "\n".join(map(printable, text.split("\n"))), style, control
            )


console = Terminal()
errors = Terminal(stderr=True)


def print_json(value: Any) -> None:
    """Prints dataclasses, and collections of them, as JSON on standard output."""
    json.dump(value, sys.stdout, indent=2, default=_plain)
    sys.stdout.write("\n")


def fields(record: Any) -> dict[str, Any]:
    """Returns a dataclass as the dict that `print_json` prints."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return fields(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def progress_bars() -> Progress:
    """Returns progress bars on standard error, so that standard output has only JSON."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
    )


def percent(score: float | None) -> str:
    """Formats a value of 0 to 1 as the board shows it: 0 to 100 with two decimals."""
    return "undefined" if score is None else f"{100 * score:.2f}"


def percent_interval(interval: Interval) -> str:
    """Formats the bounds of an interval as the board shows them."""
    return f"{percent(interval.low)}-{percent(interval.high)}"


def print_item(head: str, about: Iterable[str]) -> None:
    """Prints an item of a list: a line that is never wrapped, and indented details below it.

    The first line can be copied as a whole.
    """
    console.print(Text(head), soft_wrap=True)
    for line in Text("\n".join(about)).wrap(
        console, max(console.width - len(_INDENT), 20), overflow="fold"
    ):
        console.print(Text(_INDENT) + line, soft_wrap=True)


def moment(time: datetime | None) -> str:
    """Formats a time in UTC, to the second; `never` for None."""
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "never"


def print_board(
    benchmark: BenchmarkSpec,
    board: Board,
    steps: list[SotaStep],
    metric: str = "",
    findings: Sequence[str] = (),
) -> None:
    """Prints the board: evaluated rows, claims, steps of the state of the art, the audit head.

    `metric`, `findings`: those that the board is of; empty for the benchmark's own.
    """
    metric, all_findings = metric or benchmark.ranking_metric, len(benchmark.findings)
    console.print(Text(benchmark.title, style="bold"))
    kind = (
        "Synthetic: generated phantoms, not radiographs of patients. "
        if benchmark.synthetic
        else ""
    )
    console.print(
        f"{kind}{benchmark.image_count} images of {benchmark.patient_count} patients, "
        f"{all_findings} findings, metric {metric} "
        f"({'mean over the findings below' if findings else 'macro'}, "
        f"{_direction(benchmark, metric)} is better, 0-100). "
        f"Digest {benchmark.digest[:12]}."
    )
    if findings:
        console.print(Text(f"Findings: {', '.join(findings)}."))
    label = metric_label(metric)
    evidence = [entry for entry in board if entry.tier is not Tier.CLAIMED]
    claims = [entry for entry in board if entry.tier is Tier.CLAIMED]
    console.print()
    if metric not in benchmark.metric_names:
        console.print(
            f"The benchmark records no replicates of {metric}, so rows are in the order of their "
            "scores, without ranks.\n"
        )
    elif evidence:
        console.print(
            f"Intervals and ranges of ranks are 95 %, from {benchmark.replicates} resamples "
            "of the patients; rows that they cannot tell apart share a rank (=).\n"
        )
        left_out = max(
            (entry.spread.undefined_replicates for entry in evidence if entry.spread), default=0
        )
        if left_out:
            console.print(f"{_left_out(left_out, benchmark)}\n")
    if evidence:
        console.print(_rows("Run or scored here", label, evidence, all_findings))
    else:
        console.print("Nothing has been run or scored here yet.\n")
    if claims:
        title = "Only claimed, never ranked with rows that were run or scored"
        console.print(_rows(title, label, claims, all_findings))
    if steps:
        console.print(_steps(label, steps))
    console.print(f"Head of the audit chain:\n{board.audit_head.place}:{board.audit_head.digest}")


def print_events(events: list[Event], *, named: bool = False) -> None:
    """Prints events of submissions, oldest first, with the submission's name if `named`."""
    for event in events:
        about = [event.submission] if named else []
        about += [f"by {event.actor}", *([f"why: {event.reason}"] if event.reason else [])]
        print_item(f"{moment(event.time)}  {event.change:<13}  {event.status}", about)


def metric_label(name: str) -> str:
    """Returns the short name of a metric; its name when this version does not know it."""
    return METRICS[name].label if name in METRICS else name


def _direction(benchmark: BenchmarkSpec, metric: str) -> str:
    directions = {item.id: item.direction for item in benchmark.metrics}
    known = METRICS.get(metric)
    return directions.get(metric) or (known.direction if known else "an unknown direction")


def _rows(title: str, label: str, entries: list[LeaderboardEntry], findings: int) -> Table:
    tiers = sorted({entry.tier for entry in entries})
    run = any(entry.spread for entry in entries)
    # A board of checkpoints only needs no column for the kind.
    kinds = run and any(entry.kind is not Kind.CHECKPOINT for entry in entries)
    # Nor does one of complete models for what they cover.
    partial = run and any(len(entry.covered_findings) < findings for entry in entries)
    columns = [
        "#",
        "model",
        "organisation",
        *(["kind", "tier"] if kinds else []),
        "open",
        "submitted",
        *(["covers"] if partial else []),
    ]
    columns += [label, "ranks"] if run else ["source", label]
    table = _table(f"{title} ({', '.join(tiers)})", *columns)
    table.caption, table.caption_justify = _notes(entries, findings), "left"
    held = Counter(entry.rank for entry in entries)
    for entry in entries:
        table.add_row(
            "-" if entry.rank is None else f"{'=' if held[entry.rank] > 1 else ''}{entry.rank}",
            Text(entry.model),
            Text(entry.organisation),
            *([entry.kind, entry.tier] if kinds else []),
            "yes" if entry.open_source else "no",
            entry.submitted_date,
            *([f"{len(entry.covered_findings)} of {findings}"] if partial else []),
            *(
                [_score(entry), _rank_range(entry)]
                if run
                else [entry.source_kind, percent(entry.score)]
            ),
            style="bold reverse" if entry.sota else None,
        )
    return table


def _score(entry: LeaderboardEntry) -> str:
    """Formats the score, with its interval on a second line."""
    return percent(entry.score) + (
        f"\n{percent_interval(entry.interval)}" if entry.interval else ""
    )


def _rank_range(entry: LeaderboardEntry) -> str:
    spread = entry.spread
    if spread is None or spread.rank_low is None:
        return "-"
    return (
        str(spread.rank_low)
        if spread.rank_low == spread.rank_high
        else f"{spread.rank_low}-{spread.rank_high}"
    )


def _table(title: str, *columns: str) -> Table:
    """Returns a table that fits into 80 columns: only names may wrap."""
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        justify: JustifyMethod = "right" if column in _NUMBERS else "left"
        table.add_column(column, justify=justify, no_wrap=column not in _NAMES, overflow="fold")
    return table


def _notes(entries: list[LeaderboardEntry], findings: int) -> Text | None:
    notes = [
        f"{entry.model}: {note}"
        for entry in entries
        for note in (
            _DISPUTED * entry.disputed,
            entry.note,
            _coverage(entry, findings),
            _disagreement(entry),
        )
        if note
    ]
    return Text("\n".join(notes)) if notes else None


def _coverage(entry: LeaderboardEntry, findings: int) -> str:
    """Returns what a row that lacks findings covers, and that it is not ranked for it."""
    covered = entry.covered_findings
    if entry.tier is Tier.CLAIMED or len(covered) == findings:
        return ""
    unranked = "not ranked, " if entry.rank_undefined_reason == NOT_COVERED else ""
    return f"{unranked}covers {len(covered)} of {findings} findings: {', '.join(covered)}"


def _disagreement(entry: LeaderboardEntry) -> str:
    spread = entry.spread
    if spread is None or not spread.places_disagree:
        return ""
    mean = f"{spread.mean_finding_rank:.2f}"
    return (
        f"by its mean rank over the findings, {mean}, it would be in place {spread.finding_place}"
    )


def _steps(label: str, steps: list[SotaStep]) -> Table:
    columns = ("submitted", "model", "organisation", "tier", label, "improvement")
    table = _table("Steps of the state of the art", *columns)
    for step in steps:
        names = Text(step.model), Text(step.organisation)
        improvement = (step.significance or "not tested").replace("-", " ")
        table.add_row(step.submitted_date, *names, step.tier, percent(step.score), improvement)
    return table


def print_comparison(
    benchmark: BenchmarkSpec, models: Mapping[str, str], comparison: EntryComparison
) -> None:
    """Prints the comparison of rows.

    `models` has the model of each submission, in the order of the comparison.
    """
    names = {
        submission: f"{number} {models[submission]}" for number, submission in enumerate(models, 1)
    }
    for submission, text in names.items():
        console.print(Text(f"{text}: {submission}"), soft_wrap=True)
    console.print()
    label = metric_label(benchmark.ranking_metric)
    title = f"First minus second, {label} 0-100; p after Holm's correction over all pairs"
    table = _table(title, "first", "second", "difference", "95 % interval", "p", "told apart")
    for pair in comparison.pairs:
        table.add_row(
            Text(names[pair.first]),
            Text(names[pair.second]),
            f"{100 * pair.difference:+.2f}",
            f"{100 * pair.low:+.2f} to {100 * pair.high:+.2f}",
            _p_value(pair.adjusted_p_value),
            "yes" if pair.separable else "no",
        )
    console.print(table)
    table = _table("Share of the resamples in which each has which rank", "model", "rank: share")
    for submission, shares in comparison.rank_frequencies.items():
        reached = [f"{rank}: {share:.1%}" for rank, share in enumerate(shares, 1) if share > 0]
        table.add_row(Text(names[submission]), "  ".join(reached))
    console.print(table)
    if comparison.undefined_replicates:
        console.print(_left_out(comparison.undefined_replicates, benchmark))


def _left_out(count: int, benchmark: BenchmarkSpec) -> str:
    return (
        f"{count} of {benchmark.replicates} resamples are left out of the ranks: every score is "
        "undefined there."
    )


def _p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def print_submission(submission: Submission, score: MetricValue | None = None) -> None:
    """Prints the state of a submission, and its score once it is published."""
    lines = [
        submission.name,
        f"  model     {submission.manifest.model} ({submission.manifest.organisation})",
        f"  state     {submission.status}",
        f"  kind      {submission.kind}",
        f"  tier      {submission.tier or 'none'}",
        f"  etag      {submission.etag}",
        f"  images    {submission.images_done} of {submission.images_total}",
    ]
    if score:
        interval = f" (95 %: {percent_interval(score.interval)})" if score.interval else ""
        lines.append(f"  {metric_label(score.metric):9} {percent(score.value)}{interval}")
    if submission.seconds_left is not None:
        lines.append(f"  left      about {submission.seconds_left:.0f} s")
    if submission.superseded_by:
        lines.append(f"  follower  {submission.superseded_by}")
    if submission.failure:
        lines.append(f"  failure   {submission.failure.reason}: {submission.failure.message}")
    console.print(Text("\n".join(lines)))
