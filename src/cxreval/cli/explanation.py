"""The evidence for a row in sentences, each with the digest that supports it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxreval.audit.chain import AuditEvent
from cxreval.audit.receipts import Receipt
from cxreval.cli.output import LADDER
from cxreval.cli.score_output import declared_lines, signal_line
from cxreval.client import Evaluation, Manifest, Purpose, Submission, Usage
from cxreval.client.evidence_text import agreements
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.report import Report

_PUBLIC = {
    "created": "It was submitted",
    "published": "It was published",
    "disputed": "It was disputed",
    "resolved": "The dispute was closed",
    "corrected": "It was corrected",
    "superseded": "Another submission superseded it",
    "withdrawn": "It was withdrawn",
    "reinstated": "It was reinstated",
    "replayed": "A second run gave the same predictions",
    "replay_differed": "A second run gave other predictions",
    "reproduced": "The submitter's script gave the same predictions",
    "not_reproduced": "The submitter's script gave other predictions",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence about a row; `digest`: the sha256 or commit that supports it, and of what."""

    text: str
    digest: str


def explained(
    submission: Submission,
    benchmark: BenchmarkSpec,
    evaluations: Sequence[Evaluation],
    events: Sequence[AuditEvent],
    receipt: Receipt,
) -> list[Sentence]:
    """Returns the evidence for a row, oldest first.

    Args:
        submission: the submission, which has a row.
        benchmark: its benchmark.
        evaluations: its evaluations that the caller may read, oldest first.
        events: its events in the audit chain that the caller may read.
        receipt: the latest receipt of the row; it should be verified.
    """
    signed = json.loads(receipt.payload)
    return [
        *_submitted(submission, benchmark, signed),
        *(
            item
            for evaluation in evaluations
            for item in _evaluation(evaluation, submission, benchmark, signed)
        ),
        *(_event(event) for event in events if event.change in _PUBLIC),
        *(
            Sentence(f"As of now it is {line}.", _digest("predictions", signed))
            for line in agreements(submission.kind, submission.replay, submission.reproduction)
        ),
        Sentence(
            f"The registry signed version {signed['version']} of the row: tier {signed['tier']}.",
            f"receipt {hashlib.sha256(receipt.payload).hexdigest()}",
        ),
    ]


def _submitted(
    submission: Submission, benchmark: BenchmarkSpec, signed: Mapping[str, Any]
) -> Iterator[Sentence]:
    manifest = submission.manifest
    name = f"{manifest.model} by {manifest.organisation}"
    yield Sentence(
        f"{name} is a submission of kind {submission.kind} to {signed['benchmark']}.",
        f"benchmark {signed['benchmark_digest']}",
    )
    if benchmark.ladder:
        rule = f"The benchmark has the {LADDER}."
        yield Sentence(rule, f"benchmark {signed['benchmark_digest']}")
    if manifest.artifact_sha256:
        yield Sentence("Its file is named by its content.", f"artifact {manifest.artifact_sha256}")
    given = manifest.reproduction
    if given and given.entry_point:
        yield Sentence(
            f"Its script is {given.entry_point} of {given.repository}, frozen at a commit, with "
            f"seed {given.seed}.",
            f"commit {given.commit}",
        )
    if given and given.bundle_sha256:
        yield Sentence("The source bundle holds that commit.", f"bundle {given.bundle_sha256}")
    if given and given.wheelhouse_sha256:
        yield Sentence("Its packages were uploaded.", f"wheelhouse {given.wheelhouse_sha256}")


def _trained(
    manifest: Manifest, benchmark: BenchmarkSpec, report: Report, signed: Mapping[str, Any]
) -> Iterator[Sentence]:
    """Yields what is declared and what was found of the data that the model was trained on."""
    computed = _digest("report", signed)
    declared = manifest.training_data
    if declared is None:
        yield Sentence("It does not declare what the model was trained on.", computed)
    else:
        listed = f"list {declared.list_sha256}" if declared.list_sha256 else computed
        what = f"It declares as training data of this data set: {declared.uses}."
        yield Sentence(what, listed)
    if report.contamination:
        for line in declared_lines(benchmark, report.contamination):
            yield Sentence(f"{line[0].upper()}{line[1:]}.", computed)
    for signal in report.membership:
        line = signal_line(signal)
        yield Sentence(f"{line[0].upper()}{line[1:]}.", f"list {signal.list_sha256}")


def _evaluation(
    evaluation: Evaluation,
    submission: Submission,
    benchmark: BenchmarkSpec,
    signed: Mapping[str, Any],
) -> Iterator[Sentence]:
    ran, identifier = evaluation.provenance, evaluation.name.rpartition("/")[2]
    if evaluation.purpose is Purpose.MEASURE and evaluation.report:
        runtime = ran.get("inference_runtime") or ran.get("isolation") or "the submitted table"
        yield Sentence(
            f"Evaluation {identifier} predicted {evaluation.report.image_count} images with "
            f"{runtime} on {evaluation.update_time:%Y-%m-%d}.",
            _digest("predictions", signed),
        )
        yield Sentence("Its report was computed from them.", _digest("report", signed))
        yield from _trained(submission.manifest, benchmark, evaluation.report, signed)
    if tree := ran.get("source_tree_sha256"):
        yield Sentence(f"Evaluation {identifier} unpacked the files of the commit.", f"tree {tree}")
    if evaluation.usage and evaluation.limits:
        yield Sentence(
            f"Evaluation {identifier} ran the script with Python "
            f"{ran.get('interpreter', 'unknown')} in {ran.get('isolation', 'isolation')}: "
            f"{_used(evaluation.usage, evaluation.limits)}.",
            f"lock {ran.get('lock_sha256', 'unknown')}",
        )
    if found := evaluation.agreement:
        yield Sentence(
            f"Evaluation {identifier} compared {found.images} of {found.images_total} images: "
            f"largest difference {found.max_difference:.3g}, at most {found.tolerance:g} agrees; "
            f"it {found.verdict}.",
            _digest("predictions", signed),
        )


def _used(usage: Usage, limits: Usage) -> str:
    return (
        f"{usage.wall:.1f} of {limits.wall:.0f} s, {usage.cpu:.1f} of {limits.cpu:.0f} s on "
        f"processors, {usage.peak_memory_bytes >> 20} of {limits.peak_memory_bytes >> 20} MiB"
    )


def _event(event: AuditEvent) -> Sentence:
    reason = f": {event.reason}" if event.reason else ""
    return Sentence(
        f"{_PUBLIC[event.change]} on {event.time[:10]} by {event.actor}{reason}.",
        f"event {event.place}:{event.digest}",
    )


def _digest(what: str, signed: Mapping[str, Any]) -> str:
    return f"{what} {signed.get(f'{what}_sha256') or 'none'}"
