"""Output of the command line: tables for terminals, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from cxreval.cli.columns import (
    LEFT_TO_RIGHT_MARK,
    Column,
    fitting,
    left_out_note,
    table,
)
from cxreval.client import (
    Event,
    Retirement,
    Submission,
)
from cxreval.client.evidence_text import agreements
from cxreval.datasets.benchmark import BenchmarkSpec, StepRule
from cxreval.fields import printable
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import Interval, MetricValue, absence

_INDENT = "    "

LADDER = (
    "ladder: the figures of an organisation's further submission are withheld unless it is "
    "significantly better than the earlier ones"
)


def step_rule(spec: BenchmarkSpec) -> str:
    """Returns which rows of a benchmark can be steps of the state of the art, as a sentence."""
    if spec.steps is StepRule.ANY:
        return "any row"
    return "rows whose declared training data has no image or patient of the benchmark"


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
            yield Segment(text if control else _printable(text), style, control)


def _printable(text: str) -> str:
    """Returns the text without control characters, except line breaks and our own marks."""
    for kept in ("\n", LEFT_TO_RIGHT_MARK):
        if kept in text:
            return kept.join(map(_printable, text.split(kept)))
    return printable(text)


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


def print_table(
    title: str,
    columns: Sequence[Column],
    notes: Sequence[str] = (),
    styles: Sequence[str | None] = (),
) -> None:
    """Prints as many of the columns as fit, then notes, the last on what is left out."""
    shown, left_out = fitting(columns, console.width)
    console.print(table(title, shown, styles))
    console.print(Text("".join(f"{note}\n" for note in (*notes, *left_out_note(left_out)))))


def moment(time: datetime | None) -> str:
    """Formats a time in UTC, to the second, as RFC 3339 does; `never` for None."""
    if time is None:
        return "never"
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def retired(retirement: Retirement | None) -> str:
    """Returns a line about the retirement of a benchmark; empty for None."""
    if retirement is None:
        return ""
    successor = retirement.superseded_by
    instead = f", superseded by {successor}" if successor else ""
    return f"Retired on {retirement.time:%Y-%m-%d}{instead}: {retirement.reason}"


def print_events(events: list[Event], *, named: bool = False) -> None:
    """Prints events of submissions, oldest first, with the submission's name if `named`."""
    for event in events:
        about = [event.submission] if named else []
        about += [f"by {event.actor}", *([f"why: {event.reason}"] if event.reason else [])]
        print_item(f"{moment(event.time)}  {event.change:<13}  {event.status}", about)


def metric_label(name: str) -> str:
    """Returns the short name of a metric; its name when this version does not know it."""
    return METRICS[name].label if name in METRICS else name


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
        if score.interval:
            about = f" (95 %: {percent_interval(score.interval)})"
        else:
            reason = score.undefined_reason or score.interval_undefined_reason
            lacks = "no interval, " if score.value is not None else ""
            about = f" ({lacks}{absence(reason)[1]})" if reason else ""
        lines.append(f"  {metric_label(score.metric):9} {percent(score.value)}{about}")
    lines += [
        f"  evidence  {line}"
        for line in agreements(submission.kind, submission.replay, submission.reproduction)
    ]
    if submission.seconds_left is not None:
        lines.append(f"  left      about {submission.seconds_left:.0f} s")
    if submission.superseded_by:
        lines.append(f"  follower  {submission.superseded_by}")
    if submission.failure:
        lines.append(f"  failure   {submission.failure.reason}: {submission.failure.message}")
    console.print(Text("\n".join(lines)))
