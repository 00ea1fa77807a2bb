"""Converts rows of the tables to the domain's records and back."""

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
    """A record as the value of a JSON column."""
    return asdict(record)


def report_json(report: Report) -> dict[str, Any]:
    """A report as the value of a JSON column, without its evidence."""
    fields = asdict(replace(report, evidence=None))
    del fields["evidence"]
    return fields


def benchmark(row: BenchmarkRow) -> Benchmark:
    """A benchmark from its row."""
    return Benchmark(spec_from_fields(row.spec), row.create_time)


def manifest(stored: Mapping[str, Any]) -> Manifest:
    """A manifest from its JSON."""
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
    """A submission from its row, its benchmark's and its latest evaluation's."""
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
    """Seconds until all images are done, at the rate of the current lease; None if not known."""
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
    row: EvaluationRow, of: SubmissionRow, on: BenchmarkRow, stored: Mapping[str, Any] | None
) -> Evaluation:
    """An evaluation from its row, its submission's, its benchmark's, and its report's JSON."""
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
        report=report(stored) if stored else None,
        provenance=row.provenance,
        failure=failure(row.failure),
        owner=of.organisation or "",
    )


def report(stored: Mapping[str, Any]) -> Report:
    """A report from its JSON, without evidence."""
    return Report(
        **{**stored, "metrics": tuple(_metric_value(value) for value in stored["metrics"])}
    )


def metrics_over_all_images(stored: Mapping[str, Any]) -> tuple[MetricValue, ...]:
    """The values of a report over all images, from its JSON; much faster than the whole report."""
    return tuple(_metric_value(value) for value in stored["metrics"] if not value.get("slice"))


def _metric_value(stored: Mapping[str, Any]) -> MetricValue:
    interval = stored.get("interval")
    return MetricValue(**{**stored, "interval": Interval(**interval) if interval else None})


def evidence_rows(number: int, report: Report) -> list[ReplicateRow | CurveRow]:
    """The evidence of a report as rows. `number` is the evaluation's."""
    if report.evidence is None:
        return []
    scores = {(item.metric, item.finding): item.value for item in report.metrics if not item.slice}
    replicates = [
        ReplicateRow(
            evaluation_number=number,
            place=place,
            metric=item.metric,
            finding=item.finding,
            score=scores[item.metric, item.finding],
            vector=item.values.astype("<f8", copy=False).tobytes(),
        )
        for place, item in enumerate(report.evidence.replicates)
    ]
    curves = {
        "roc_curves": [asdict(curve) for curve in report.evidence.roc_curves],
        "reliabilities": [asdict(item) for item in report.evidence.reliabilities],
    }
    return [*replicates, CurveRow(evaluation_number=number, curves=curves)]


def evidence(replicates: Sequence[ReplicateRow], curves: CurveRow | None) -> Evidence:
    """The evidence from its rows; those of replicates in order."""
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
    """The values under each resample from their bytes: float64, one a replicate."""
    return np.frombuffer(stored, "<f8").astype(np.float64, copy=False)


def _tuples(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
    }


def failure(stored: Mapping[str, Any] | None) -> Failure | None:
    """A failure from its JSON."""
    return Failure(stored["reason"], stored["message"], Fault(stored["fault"])) if stored else None
