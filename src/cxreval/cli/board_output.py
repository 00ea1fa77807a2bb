"""Output of boards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from cxreval.cli.columns import Column, as_name
from cxreval.cli.output import (
    LADDER,
    console,
    metric_label,
    percent,
    percent_interval,
    print_table,
    step_rule,
)
from cxreval.client import Board, Kind, LeaderboardEntry, SotaStep, Tier
from cxreval.client.evidence_text import agreements
from cxreval.datasets.benchmark import BenchmarkSpec, StepRule
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import NOT_COVERED, TrainingVerdict, absence

CLAIMS_RULE = (
    "Claims have no intervals, so each has its own rank: of equal figures the one with the earlier "
    "declared date is first, and of equal dates the one that was submitted first."
)
_DISPUTED = "disputed; `cxreval submission history` says why"


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
    if benchmark.steps is not StepRule.ANY:
        console.print(f"Steps of the state of the art count for {step_rule(benchmark)}.")
    if benchmark.ladder:
        console.print(f"{LADDER[0].upper()}{LADDER[1:]}.")
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
            console.print(f"{left_out_replicates(left_out, benchmark)}\n")
    if evidence:
        _print_rows("Run or scored here", metric, evidence, all_findings)
    else:
        console.print("Nothing has been run or scored here yet.\n")
    if claims:
        title = "Only claimed, never ranked with rows that were run or scored"
        console.print(f"{CLAIMS_RULE}\n")
        _print_rows(title, metric, claims, all_findings)
    if steps:
        _print_steps(metric_label(metric), steps)
    head = f"{board.audit_head.place}:{board.audit_head.digest}"
    console.print(f"Head of the audit chain:\n{head}", soft_wrap=True)  # in one line, to be copied


def _direction(benchmark: BenchmarkSpec, metric: str) -> str:
    directions = {item.id: item.direction for item in benchmark.metrics}
    known = METRICS.get(metric)
    return directions.get(metric) or (known.direction if known else "an unknown direction")


def _print_rows(title: str, metric: str, entries: list[LeaderboardEntry], findings: int) -> None:
    """Prints rows of a board, as many of their columns as fit, and notes on them."""
    run = any(entry.spread for entry in entries)
    # A board of checkpoints only needs no column for the kind.
    kinds = run and any(entry.kind is not Kind.CHECKPOINT for entry in entries)
    # Nor does one of complete models for what they cover.
    partial = run and any(len(entry.covered_findings) < findings for entry in entries)
    held = Counter(entry.rank for entry in entries)
    ranks = [
        "-" if entry.rank is None else f"{'=' if held[entry.rank] > 1 else ''}{entry.rank}"
        for entry in entries
    ]
    columns = [
        Column("#", ranks, right=True),
        Column("id", short_ids([entry.submission for entry in entries]), spare=1),
        Column("model", [as_name(entry.model) for entry in entries], wraps_to=10),
        Column("organisation", [as_name(entry.organisation) for entry in entries], 10, spare=3),
    ]
    if kinds:
        columns.append(Column("kind", [entry.kind for entry in entries], spare=4))
        columns.append(Column("tier", [entry.tier for entry in entries], spare=5))
    opened = ["yes" if entry.open_source else "no" for entry in entries]
    columns.append(Column("open", opened, spare=7))
    columns.append(Column("submitted", [entry.submitted_date for entry in entries], spare=6))
    if partial:
        covered = [f"{len(entry.covered_findings)} of {findings}" for entry in entries]
        columns.append(Column("covers", covered, spare=1))
    verdicts = [entry.training_verdict or TrainingVerdict.UNDECLARED for entry in entries]
    if any(verdict is not TrainingVerdict.UNDECLARED for verdict in verdicts):
        columns.append(Column("trained on", verdicts, spare=2))
    scores = [_score(entry) for entry in entries]
    if run:
        columns.append(Column(metric_label(metric), scores, right=True))
        columns.append(Column("ranks", [_rank_range(entry) for entry in entries], spare=2))
    else:
        columns.append(Column("source", [entry.source_kind for entry in entries], spare=2))
        columns.append(Column(metric_label(metric), scores, right=True))
    styles = ["bold reverse" if entry.sota else None for entry in entries]
    tiers = sorted({entry.tier for entry in entries})
    notes = [*_notes(entries, findings), *_legend(entries)]
    print_table(f"{title} ({', '.join(tiers)})", columns, notes, styles)


def short_ids(submissions: Sequence[str]) -> list[str]:
    """Returns the beginnings of the ids that distinguish these submissions, 8 or more characters.

    Every command takes one in place of the name.
    """
    ids = [submission.rpartition("/")[2] for submission in submissions]
    length = 8
    while len({text[:length] for text in ids}) < len({*ids}):
        length += 1
    return [text[:length] for text in ids]


def _score(entry: LeaderboardEntry) -> str:
    """Formats the score; on a second line its interval, or in short why one of them is absent."""
    if entry.interval:
        return f"{percent(entry.score)}\n{percent_interval(entry.interval)}"
    if entry.tier is Tier.CLAIMED:
        return percent(entry.score)
    reason = _absent(entry)
    return f"{percent(entry.score)}\n{absence(reason)[0] if reason else 'no interval'}"


def _absent(entry: LeaderboardEntry) -> str:
    """Returns the reason why a row has no score, or else no interval."""
    return entry.rank_undefined_reason if entry.score is None else entry.interval_undefined_reason


def _legend(entries: Sequence[LeaderboardEntry]) -> list[str]:
    """Returns a sentence for each reason why a score, a rank or an interval is absent."""
    notes = []
    for entry in entries:
        reason = _absent(entry)
        if reason and entry.interval is None and entry.tier is not Tier.CLAIMED:
            short, long = absence(reason)
            lacks = "undefined" if entry.score is None else "no interval"
            notes.append(f"{short}: {lacks}, {long}.")
        if entry.rank is None and entry.rank_undefined_reason:
            notes.append(f"- as a rank: {absence(entry.rank_undefined_reason)[1]}.")
    return list(dict.fromkeys(notes))


def _rank_range(entry: LeaderboardEntry) -> str:
    spread = entry.spread
    if spread is None or spread.rank_low is None:
        return "-"
    return (
        str(spread.rank_low)
        if spread.rank_low == spread.rank_high
        else f"{spread.rank_low}-{spread.rank_high}"
    )


def _notes(entries: list[LeaderboardEntry], findings: int) -> list[str]:
    return [
        f"{entry.model}: {note}"
        for entry in entries
        for note in (
            _DISPUTED * entry.disputed,
            entry.note,
            *agreements(entry.kind, entry.replay, entry.reproduction),
            overlap(entry),
            _coverage(entry, findings),
            _disagreement(entry),
        )
        if note
    ]


def overlap(entry: LeaderboardEntry) -> str:
    """Returns how much of the benchmark a model was trained on, with its score on the rest."""
    if entry.training_verdict is not TrainingVerdict.OVERLAP:
        return ""
    trained = (
        f"trained on {entry.overlap_images} images and {entry.overlap_patients} patients of the "
        "benchmark"
    )
    if entry.clean_score is None:
        return trained
    bounds = f" ({percent_interval(entry.clean_interval)})" if entry.clean_interval else ""
    return f"{trained}; {percent(entry.clean_score)}{bounds} on the other patients"


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


def _print_steps(label: str, steps: list[SotaStep]) -> None:
    columns = [
        Column("date", [_step_date(step) for step in steps], spare=2),
        Column("model", [as_name(step.model) for step in steps], wraps_to=10),
        Column("organisation", [as_name(step.organisation) for step in steps], 10, spare=4),
        Column("tier", [step.tier for step in steps], spare=3),
        Column(label, [percent(step.score) for step in steps], right=True),
        Column(
            "improvement",
            [(step.significance or "not tested").replace("-", " ") for step in steps],
            spare=1,
        ),
    ]
    if any(step.not_counted for step in steps):
        counted = [f"no, {step.training_verdict}" if step.not_counted else "yes" for step in steps]
        columns.append(Column("counts", counted))
    print_table("Steps of the state of the art", columns)


def _step_date(step: SotaStep) -> str:
    """Returns the date that steps follow: of publication, or of a claim the declared one."""
    if step.tier is Tier.CLAIMED or step.publish_time is None:
        return step.submitted_date
    return step.publish_time.date().isoformat()


def left_out_replicates(count: int, benchmark: BenchmarkSpec) -> str:
    """Returns the sentence about resamples in which every score is undefined."""
    return (
        f"{count} of {benchmark.replicates} resamples are left out of the ranks: every score is "
        "undefined there."
    )
