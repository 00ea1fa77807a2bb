"""Compares the predictions of a second evaluation with those behind a row; the tier of the row.

A replay runs the same model again, a reproduction runs the submitter's script. The registry
compares what it recorded of both, so the verdict is not the worker's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.manifest.model import Kind
from cxreval.metrics.predictions import PredictionTable
from cxreval.metrics.ranking import Entry, compare
from cxreval.metrics.report import Evidence, Report, macro
from cxreval.records import (
    ENDPOINT_TOLERANCE,
    Agreement,
    Canaries,
    Change,
    Purpose,
    Tier,
    Verdict,
)
from services.registry.domain.records import EVALUATED_TIER

REPLAYED_KINDS = (Kind.CHECKPOINT, Kind.SCRIPT, Kind.ENDPOINT)
"""Kinds whose rows are replayed: what gave the predictions can be asked again."""

CPU = "cpu"
"""The value of `device` in the provenance of a model that ran on a processor."""

_SAME_MACHINE = ("device", "cpu", "inference_runtime")
"""Keys of the provenance that must be the same for two runs to give the same bits."""

CHANGES: Mapping[tuple[Purpose, Verdict], Change] = {
    (Purpose.REPLAY, Verdict.AGREES): Change.REPLAYED,
    (Purpose.REPLAY, Verdict.DIFFERS): Change.REPLAY_DIFFERED,
    (Purpose.REPRODUCE, Verdict.AGREES): Change.REPRODUCED,
    (Purpose.REPRODUCE, Verdict.DIFFERS): Change.NOT_REPRODUCED,
}
"""The change of a submission by the purpose of an evaluation and its verdict."""


@dataclass(frozen=True, slots=True)
class Compared:
    """An evaluation that is compared: its resource name and its predictions.

    `evidence`: of its report; None if it has none.
    """

    name: str
    table: PredictionTable
    report: Report | None = None
    evidence: Evidence | None = None


def tier(kind: Kind, agreements: Mapping[Purpose, Agreement]) -> Tier:
    """Returns the tier of a row, by its latest agreements; that of a claim is claimed.

    A difference takes the row back to the tier of its kind until a later run agrees. The replay of
    an endpoint changes no tier: whether the server ran the same model is not known.
    """
    verdicts = {
        purpose: item.verdict
        for purpose, item in agreements.items()
        if (kind, purpose) != (Kind.ENDPOINT, Purpose.REPLAY)
    }
    if Verdict.DIFFERS not in verdicts.values():
        if Purpose.REPRODUCE in verdicts:
            return Tier.REPRODUCED
        if Purpose.REPLAY in verdicts:
            return Tier.REPLAYED
    return EVALUATED_TIER.get(kind, Tier.CLAIMED)


def tolerance(
    kind: Kind,
    purpose: Purpose,
    spec: BenchmarkSpec,
    first: Mapping[str, str],
    second: Mapping[str, str],
) -> float:
    """Returns the largest difference of a probability that agrees.

    Two runs of a model on processors of the same name, with the same runtime, must give the same
    bits. An endpoint may answer as differently as at the end of its first run. Everything else must
    be within the tolerance of the benchmark.

    Args:
        kind: of the submission.
        purpose: of the second evaluation.
        spec: the benchmark.
        first, second: the provenance of the two evaluations.
    """
    if (kind, purpose) == (Kind.ENDPOINT, Purpose.REPLAY):
        return max(spec.reproduction_tolerance, ENDPOINT_TOLERANCE)
    same = all(key in first and first[key] == second.get(key) for key in _SAME_MACHINE)
    if purpose is Purpose.REPLAY and same and first["device"] == CPU:
        return 0.0
    return spec.reproduction_tolerance


def agreement(
    row: Compared,
    again: Compared,
    images: Mapping[str, int],
    spec: BenchmarkSpec,
    allowed: float,
    canaries: Canaries | None,
    before: Agreement | None,
    now: datetime,
) -> Agreement:
    """Returns how the predictions of a second evaluation agree with those behind a row.

    Args:
        row: the evaluation behind the row; its table is of all images.
        again: the second evaluation; its table is of some or all images, of the same findings.
        images: the row number in the first table of each image of the second, in its order.
        spec: the benchmark.
        allowed: the largest difference that agrees.
        canaries: those of the script's run; None without any.
        before: the comparison of the same purpose before this one; None if this is the first.
        now: the current time.
    """
    first = row.table.probabilities[list(images.values())]
    second = again.table.probabilities
    differences = np.abs(first.astype(np.float64) - second)
    largest = float(differences.max())
    image, finding = np.unravel_index(differences.argmax(), differences.shape)
    found = Agreement(
        evaluation=again.name,
        with_evaluation=row.name,
        verdict=Verdict.AGREES if largest <= allowed else Verdict.DIFFERS,
        images=len(images),
        images_total=spec.image_count,
        bit_identical=first.tobytes() == second.tobytes(),
        max_difference=largest,
        mean_difference=float(differences.mean()),
        worst_image=list(images)[image] if largest else "",
        worst_finding=row.table.findings[finding] if largest else "",
        tolerance=allowed,
        time=now,
        differed_since=_differed_since(before, now if largest > allowed else None),
    )
    if canaries:
        found = replace(
            found,
            canaries=canaries.images,
            canaries_flagged=canaries.flagged,
            canary_difference=canaries.median_difference,
        )
    return _with_score(found, row, again, spec)


def _differed_since(before: Agreement | None, differs: datetime | None) -> datetime | None:
    """Returns the field of an agreement; `differs`: the time of this one, if it differs."""
    if before and before.verdict is Verdict.DIFFERS:
        return before.differed_since or before.time
    return differs


def _with_score(found: Agreement, row: Compared, again: Compared, spec: BenchmarkSpec) -> Agreement:
    """Returns the agreement with the difference of the scores, if both evaluations have one, and
    its paired interval, if each resample has both."""
    entries = [_entry(item, spec.ranking_metric) for item in (again, row)]
    if any(entry.score is None or entry.replicates is None for entry in entries):
        return found
    (pair,) = compare(entries)
    if not np.isfinite([pair.low, pair.high]).all():
        return replace(found, score_difference=pair.difference)
    return replace(
        found, score_difference=pair.difference, score_low=pair.low, score_high=pair.high
    )


def _entry(item: Compared, metric: str) -> Entry:
    """Returns an evaluation as the entry that is compared; without a score if it has no report."""
    value = macro(item.report.metrics, metric) if item.report else None
    replicates = item.evidence.replicates if item.evidence else ()
    vectors = [one.values for one in replicates if (one.metric, one.finding) == (metric, "")]
    return Entry(
        item.name, value.value if value else None, replicates=vectors[0] if vectors else None
    )


def as_json(found: Agreement) -> dict[str, Any]:
    """Returns an agreement as JSON, for a column or a receipt; without a time that it lacks."""
    fields = asdict(found)
    times = {name: fields.pop(name) for name in ("time", "differed_since")}
    written = {
        name: time.isoformat(timespec="microseconds") for name, time in times.items() if time
    }
    return fields | written


def summary(found: Agreement) -> dict[str, str]:
    """Returns the figures of an agreement as the details of an event."""
    return {
        "evaluation": found.evaluation.rpartition("/")[2],
        "images": str(found.images),
        "images_total": str(found.images_total),
        "bit_identical": str(found.bit_identical).lower(),
        "max_difference": f"{found.max_difference:.9g}",
        "tolerance": f"{found.tolerance:g}",
    }


def reason(kind: Kind, purpose: Purpose, found: Agreement, organisation: str) -> str:
    """Returns the sentence of an event; a difference opens a dispute, which names who is to
    answer."""
    if purpose is Purpose.REPRODUCE:
        what = "the submitter's script"
    elif kind is Kind.ENDPOINT:
        what = f"the endpoint, asked again for {found.images} of {found.images_total} images,"
    else:
        what = "a second run of the model"
    since = f"{found.differed_since:%Y-%m-%d}" if found.differed_since else ""
    if found.verdict is Verdict.AGREES:
        return f"{what} gave the row's predictions again; it differed since {since}" * bool(since)
    return (
        f"{what} gave other predictions: a difference of {found.max_difference:.3g} for "
        f"{found.worst_finding}, image {found.worst_image}; expected at most {found.tolerance:g}. "
        f"The contact of {organisation} is asked to answer; an operator closes the dispute"
    )
