"""Rows of the tables to the domain's records and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.benchmark import BenchmarkSpec, spec_from_fields
from cxreval.manifest.model import (
    CheckpointFormat,
    ClaimedMetric,
    Endpoint,
    Environment,
    Kind,
    Manifest,
    Reproduction,
    SourceKind,
)
from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.report import Evidence, Interval, MetricValue, Replicates, Report
from cxreval.records import EvaluationState, Failure, Fault, SubmissionState, Tier
from services.registry.domain.records import Benchmark, Evaluation, Submission
from services.registry.store.models import (
    BenchmarkRow,
    CurveRow,
    EvaluationRow,
    ReplicateRow,
    SubmissionRow,
)


def to_json(record: BenchmarkSpec | Manifest | Failure) -> dict[str, Any]:
    """A record as a JSON column holds it."""
    return asdict(record)


def report_json(found: Report) -> dict[str, Any]:
    """A report as a JSON column holds it: without its evidence."""
    fields = asdict(replace(found, evidence=None))
    del fields["evidence"]
    return fields


def benchmark(row: BenchmarkRow) -> Benchmark:
    """A benchmark."""
    return Benchmark(spec_from_fields(row.spec), row.create_time)


def manifest(stored: Mapping[str, Any]) -> Manifest:
    """A manifest out of its JSON."""
    how, where, endpoint = stored["reproduction"], stored["environment"], stored["endpoint"]
    return Manifest(
        **{
            **stored,
            "kind": Kind(stored["kind"]),
            "source_kind": SourceKind(stored["source_kind"]),
            "format": CheckpointFormat(stored["format"]) if stored["format"] else None,
            "endpoint": endpoint and Endpoint(**endpoint),
            "reproduction": how and Reproduction(**how),
            "environment": where
            and Environment(where["python_version"], tuple(where["dependencies"])),
            "output_names": tuple(stored["output_names"]),
            "claimed_metrics": tuple(ClaimedMetric(**claim) for claim in stored["claimed_metrics"]),
        }
    )


def submission(row: SubmissionRow, of: BenchmarkRow, latest: EvaluationRow | None) -> Submission:
    """A submission, with its benchmark's row and that of its latest evaluation."""
    original = manifest(row.manifest)
    return Submission(
        benchmark=of.id,
        id=row.id,
        kind=Kind(row.kind),
        manifest=replace(original, **row.corrections),
        original=original,
        version=row.version,
        state=SubmissionState(row.state),
        tier=Tier(row.tier) if row.tier else None,
        create_time=row.create_time,
        update_time=row.update_time,
        images_total=of.spec["image_count"],
        evaluation=latest.id if latest else None,
        images_done=latest.images_done if latest else 0,
        seconds_left=_seconds_left(latest, of.spec["image_count"]) if latest else None,
        failure=failure(row.failure),
        note=row.note,
        superseded_by=row.superseded_by,
        owner=row.organisation or "",
    )


def _seconds_left(row: EvaluationRow, images: int) -> float | None:
    """At the pace of the present lease until its last record."""
    done = row.images_done - row.images_before
    if (
        row.state != EvaluationState.RUNNING
        or done <= 0
        or row.started is None
        or row.progress_time is None
    ):
        return None
    return (
        (row.progress_time - row.started).total_seconds() / done * max(0, images - row.images_done)
    )


def evaluation(
    row: EvaluationRow, of: SubmissionRow, on: BenchmarkRow, found: Mapping[str, Any] | None
) -> Evaluation:
    """An evaluation, with the rows of its submission and benchmark and its report's JSON."""
    return Evaluation(
        benchmark=on.id,
        submission=of.id,
        id=row.id,
        state=EvaluationState(row.state),
        attempt=row.attempt,
        worker=row.worker,
        images_done=row.images_done,
        create_time=row.create_time,
        update_time=row.update_time,
        report=report(found) if found else None,
        provenance=row.provenance,
        failure=failure(row.failure),
        owner=of.organisation or "",
    )


def report(stored: Mapping[str, Any]) -> Report:
    """A report out of its JSON."""
    return Report(
        **{**stored, "metrics": tuple(_metric_value(value) for value in stored["metrics"])}
    )


def metrics_over_all_images(stored: Mapping[str, Any]) -> tuple[MetricValue, ...]:
    """The values of a report that are of no slice, out of the report's JSON; much faster than the
    whole report."""
    return tuple(_metric_value(value) for value in stored["metrics"] if not value.get("slice"))


def _metric_value(stored: Mapping[str, Any]) -> MetricValue:
    interval = stored.get("interval")
    return MetricValue(**{**stored, "interval": Interval(**interval) if interval else None})


def evidence_rows(number: int, found: Report) -> list[ReplicateRow | CurveRow]:
    """The evidence of an evaluation's report as rows. `number` is the evaluation's."""
    if found.evidence is None:
        return []
    scores = {(item.metric, item.finding): item.value for item in found.metrics if not item.slice}
    replicates = [
        ReplicateRow(
            evaluation_number=number,
            place=place,
            metric=item.metric,
            finding=item.finding,
            score=scores[item.metric, item.finding],
            vector=item.values.astype("<f8", copy=False).tobytes(),
        )
        for place, item in enumerate(found.evidence.replicates)
    ]
    curves = {
        "roc_curves": [asdict(curve) for curve in found.evidence.roc_curves],
        "reliabilities": [asdict(item) for item in found.evidence.reliabilities],
    }
    return [*replicates, CurveRow(evaluation_number=number, curves=curves)]


def evidence(replicates: Sequence[ReplicateRow], curves: CurveRow | None) -> Evidence:
    """The evidence out of its rows, the replicates' in order."""
    stored = curves.curves if curves else {"roc_curves": [], "reliabilities": []}
    return Evidence(
        replicates=tuple(
            Replicates(row.metric, row.finding, vector(row.vector))
            for row in replicates
            if row.vector is not None
        ),
        roc_curves=tuple(RocCurve(**_tuples(curve)) for curve in stored["roc_curves"]),
        reliabilities=tuple(Reliability(**_tuples(item)) for item in stored["reliabilities"]),
    )


def vector(stored: bytes) -> NDArray[np.float64]:
    """Replicates out of their bytes."""
    return np.frombuffer(stored, "<f8").astype(np.float64, copy=False)


def _tuples(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
    }


def failure(stored: Mapping[str, Any] | None) -> Failure | None:
    """A failure out of its JSON."""
    return Failure(stored["reason"], stored["message"], Fault(stored["fault"])) if stored else None
