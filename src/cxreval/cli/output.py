"""How things are shown: tables for people on a terminal, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cxreval.client import LeaderboardEntry, SotaStep, Submission, Tier
from cxreval.datasets.benchmark import BenchmarkSpec

console = Console()
errors = Console(stderr=True)


def print_json(value: Any) -> None:
    """Dataclasses, and collections of them, as JSON on standard output."""
    json.dump(value, sys.stdout, indent=2, default=_plain)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def progress_bars() -> Progress:
    """Progress bars on standard error, so that standard output stays clean for JSON."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
    )


def percent(score: float | None) -> str:
    """An AUROC of 0 to 1 as the board shows it: 0 to 100 with two decimals."""
    return "undefined" if score is None else f"{100 * score:.2f}"


def print_board(benchmark: BenchmarkSpec, entries: list[LeaderboardEntry], steps: list[SotaStep]) -> None:
    """The board: rows that were run, claims apart from them, and the steps of the state of the art."""
    console.print(Text(benchmark.title, style="bold"))
    kind = "Synthetic: generated phantoms, not radiographs of patients. " if benchmark.synthetic else ""
    console.print(
        f"{kind}{benchmark.image_count} images of {benchmark.patient_count} patients, "
        f"{len(benchmark.findings)} findings, metric auroc (macro, higher is better, 0-100). "
        f"Digest {benchmark.digest[:12]}."
    )
    evidence = [entry for entry in entries if entry.tier is not Tier.CLAIMED]
    claims = [entry for entry in entries if entry.tier is Tier.CLAIMED]
    console.print()
    if evidence:
        console.print(_rows("Run here", evidence))
    else:
        console.print("Nothing has been run here yet.\n")
    if claims:
        console.print(_rows("Not run here, never ranked with rows that were", claims))
    if steps:
        console.print(_steps(steps))


def _rows(title: str, entries: list[LeaderboardEntry]) -> Table:
    tiers = sorted({entry.tier for entry in entries})
    table = _table(
        f"{title} ({', '.join(tiers)})", "#", "model", "open", "organisation", "submitted", "source", "auroc"
    )
    table.caption, table.caption_justify = _notes(entries), "left"
    for entry in entries:
        table.add_row(
            "-" if entry.rank is None else str(entry.rank),
            Text(entry.model),
            "yes" if entry.open_source else "no",
            Text(entry.organisation),
            entry.submitted_date,
            entry.source_kind,
            percent(entry.score),
            style="bold reverse" if entry.sota else None,
        )
    return table


def _table(title: str, *columns: str) -> Table:
    """A table that fits 80 columns: only names of models and organisations may wrap."""
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        justify: JustifyMethod = "right" if column in ("#", "auroc") else "left"
        table.add_column(column, justify=justify, no_wrap=column not in ("model", "organisation"))
    return table


def _notes(entries: list[LeaderboardEntry]) -> Text | None:
    notes = [f"{entry.model}: {entry.note}" for entry in entries if entry.note]
    return Text("\n".join(notes)) if notes else None


def _steps(steps: list[SotaStep]) -> Table:
    table = _table("Steps of the state of the art", "submitted", "model", "organisation", "tier", "auroc")
    for step in steps:
        table.add_row(step.submitted_date, Text(step.model), Text(step.organisation), step.tier, percent(step.score))
    return table


def print_submission(submission: Submission) -> None:
    """One submission's state."""
    lines = [
        submission.name,
        f"  model     {submission.manifest.model} ({submission.manifest.organisation})",
        f"  state     {submission.status}",
        f"  tier      {submission.tier}",
        f"  images    {submission.images_done} of {submission.images_total}",
    ]
    if submission.failure:
        lines.append(f"  failure   {submission.failure.reason}: {submission.failure.message}")
    console.print(Text("\n".join(lines)))
