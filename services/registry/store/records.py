"""Rows of the tables to the domain's records and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.report import MetricValue, Report
from services.registry.domain.records import (
    Benchmark,
    ClaimedMetric,
    Environment,
    Evaluation,
    EvaluationState,
    Failure,
    Fault,
    Kind,
    Manifest,
    Reproduction,
    SourceKind,
    Submission,
    SubmissionState,
    Tier,
)
from services.registry.store.models import BenchmarkRow, EvaluationRow, SubmissionRow


def to_json(record: BenchmarkSpec | Manifest | Report | Failure) -> dict[str, Any]:
    """A record as a JSON column holds it."""
    return asdict(record)


def benchmark(row: BenchmarkRow) -> Benchmark:
    """A benchmark."""
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.spec.items()
    }
    return Benchmark(BenchmarkSpec(**fields), row.create_time)


def manifest(stored: Mapping[str, Any]) -> Manifest:
    """A manifest out of its JSON."""
    environment = stored["environment"]
    return Manifest(
        **{
            **stored,
            "source_kind": SourceKind(stored["source_kind"]),
            "reproduction": Reproduction(**stored["reproduction"]),
            "environment": Environment(environment["python_version"], tuple(environment["dependencies"])),
            "output_names": tuple(stored["output_names"]),
            "claimed_metrics": tuple(ClaimedMetric(**claim) for claim in stored["claimed_metrics"]),
        }
    )


def submission(row: SubmissionRow, of: BenchmarkRow, latest: EvaluationRow | None) -> Submission:
    """A submission, with its benchmark's row and that of its latest evaluation."""
    return Submission(
        benchmark=of.id,
        id=row.id,
        kind=Kind(row.kind),
        manifest=manifest(row.manifest),
        state=SubmissionState(row.state),
        tier=Tier(row.tier) if row.tier else None,
        create_time=row.create_time,
        update_time=row.update_time,
        images_total=of.spec["image_count"],
        evaluation=latest.id if latest else None,
        images_done=latest.images_done if latest else 0,
        failure=failure(row.failure),
        note=row.note,
    )


def evaluation(row: EvaluationRow, of: SubmissionRow, on: BenchmarkRow, found: Mapping[str, Any] | None) -> Evaluation:
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
    )


def report(stored: Mapping[str, Any]) -> Report:
    """A report out of its JSON."""
    return Report(**{**stored, "metrics": tuple(MetricValue(**value) for value in stored["metrics"])})


def failure(stored: Mapping[str, Any] | None) -> Failure | None:
    """A failure out of its JSON."""
    return Failure(stored["reason"], stored["message"], Fault(stored["fault"])) if stored else None
