"""Converts rows of the tables to the domain's records and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from datetime import datetime
from types import NoneType
from typing import Any, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.benchmark import REPRODUCTION_TOLERANCE, BenchmarkSpec
from cxreval.datasets.benchmark_file import spec_from_fields
from cxreval.manifest.model import Kind, Manifest
from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.report import (
    Contamination,
    Evidence,
    Interval,
    MembershipSignal,
    MetricValue,
    Replicates,
    Report,
)
from cxreval.records import (
    Agreement,
    BenchmarkCard,
    EvaluationState,
    Failure,
    Fault,
    Purpose,
    Retirement,
    SubmissionState,
    Tier,
    Usage,
    Verdict,
)
from cxreval.resource_names import BenchmarkName
from services.registry.domain.records import Benchmark, Evaluation, Submission
from services.registry.store.models import (
    BenchmarkRow,
    CurveRow,
    EvaluationRow,
    ReplicateRow,
    SubmissionRow,
)

_ADDED = (
    "preprocessing", "outputs", "files", "ensemble", "training_data",
    "bundle_sha256", "entry_point", "lock", "wheelhouse_sha256",
)  # fmt: skip
"""Later fields of a manifest and its reproduction, which earlier versions cannot read."""


_DECLARED = ("contamination", "membership")
"""Fields of a report that it has only with declared training data or public training lists."""


def to_json(record: Manifest | Failure | Usage) -> dict[str, Any]:
    """Returns a record as the value of a JSON column; without added fields that are not given."""
    fields = asdict(record)
    if fields.get("reproduction"):
        fields["reproduction"] = _given(fields["reproduction"])
    return _given(fields)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value or name not in _ADDED}


def agreement(stored: Mapping[str, Any] | None) -> Agreement | None:
    """Returns the agreement of a stored JSON value; None for None."""
    if stored is None:
        return None
    since = stored.get("differed_since")
    return Agreement(
        **{
            **stored,
            "time": datetime.fromisoformat(stored["time"]),
            "verdict": Verdict(stored["verdict"]),
            "differed_since": datetime.fromisoformat(since) if since else None,
        }
    )


def _usage(stored: Mapping[str, Any] | None) -> Usage | None:
    return None if stored is None else Usage(**stored)


def spec_json(spec: BenchmarkSpec) -> dict[str, Any]:
    """Returns a specification as the value of a JSON column.

    Without rules for its label table or its board, and with the default tolerance of
    reproductions, it is stored as before there were such rules.
    """
    fields = asdict(spec)
    if spec.labels is None:
        del fields["labels"]
    if spec.reproduction_tolerance == REPRODUCTION_TOLERANCE:
        del fields["reproduction_tolerance"]
    del fields["steps"], fields["ladder"]
    return fields | spec.board_rules


def report_json(report: Report) -> dict[str, Any]:
    """Returns a report without its evidence as the value of a JSON column."""
    fields = asdict(replace(report, evidence=None))
    del fields["evidence"]
    if report.contamination and not report.contamination.unmatched:
        del fields["contamination"]["unmatched"]  # as reports were before there was this field
    return {name: value for name, value in fields.items() if value or name not in _DECLARED}


def benchmark(row: BenchmarkRow) -> Benchmark:
    """Returns the benchmark of a row."""
    card = None if row.card is None else BenchmarkCard(**row.card)
    return Benchmark(spec_from_fields(row.spec), row.create_time, retirement(row), card)


def retirement(row: BenchmarkRow) -> Retirement | None:
    """Returns the retirement of a benchmark's row; None if it is not retired."""
    if row.retire_time is None:
        return None
    successor = str(BenchmarkName(row.superseded_by)) if row.superseded_by else ""
    return Retirement(row.retire_time, row.retire_reason or "", successor)


def named_findings(row: SubmissionRow, spec: BenchmarkSpec) -> tuple[str, ...]:
    """Returns the findings that the outputs of a submission name, in the benchmark's order.

    Empty if only the submitted file says what it covers: a table, or a network that names its
    outputs.
    """
    return spec.covered_by(row.manifest.get("output_names", ()))


def declares(row: SubmissionRow) -> bool:
    """Returns whether the manifest of a submission declares training data."""
    return bool(row.manifest.get("training_data"))


def manifest(stored: Mapping[str, Any]) -> Manifest:
    """Returns the manifest of a stored JSON value."""
    return cast("Manifest", _record(Manifest, stored))


def _record(kind: type[Any], stored: Mapping[str, Any]) -> Any:
    """Returns a dataclass of a JSON object; a field that it lacks has its default."""
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value) for name, value in stored.items()})


def _value(hint: Any, value: Any) -> Any:
    """Returns a value of a type: a scalar, an enumeration, a dataclass, or a tuple of those."""
    if value is None:
        return None
    named = [item for item in get_args(hint) if item not in (NoneType, Ellipsis)]
    kind = named[0] if named else hint
    if get_origin(hint) is tuple:
        return tuple(_value(kind, item) for item in value)
    if is_dataclass(kind):
        return _record(cast("type[Any]", kind), value)
    return kind(value)


def submission(
    row: SubmissionRow, benchmark_row: BenchmarkRow, latest: EvaluationRow | None
) -> Submission:
    """Returns the submission of its row, its benchmark's row and its latest evaluation's row."""
    original = manifest(row.manifest)
    return Submission(
        benchmark=benchmark_row.id,
        id=row.id,
        kind=Kind(row.kind),
        manifest=replace(original, **row.corrections),
        original=original,
        version=row.version,
        state=SubmissionState(row.state),
        tier=Tier(row.tier) if row.tier else None,
        create_time=row.create_time,
        update_time=row.update_time,
        images_total=benchmark_row.spec["image_count"],
        evaluation=latest.id if latest else None,
        images_done=latest.images_done if latest else 0,
        seconds_left=_seconds_left(latest, benchmark_row.spec["image_count"]) if latest else None,
        failure=failure(row.failure),
        note=row.note,
        superseded_by=row.superseded_by,
        owner=row.organisation or "",
        replay=agreement((row.agreements or {}).get(Purpose.REPLAY)),
        reproduction=agreement((row.agreements or {}).get(Purpose.REPRODUCE)),
    )


def _seconds_left(row: EvaluationRow, images: int) -> float | None:
    """Returns the estimated seconds until all images are done; None if unknown."""
    # The rate is that of the current lease, so images that were recorded before it do not count.
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
    row: EvaluationRow,
    submission_row: SubmissionRow,
    benchmark_row: BenchmarkRow,
    stored: Mapping[str, Any] | None,
) -> Evaluation:
    """Returns the evaluation of a row. `stored` is its report's JSON, or None."""
    return Evaluation(
        benchmark=benchmark_row.id,
        submission=submission_row.id,
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
        owner=submission_row.organisation or "",
        purpose=Purpose(row.purpose),
        agreement=agreement(row.agreement),
        usage=_usage(row.usage),
        limits=_usage(row.limits),
    )


def report(stored: Mapping[str, Any]) -> Report:
    """Returns the report of a stored JSON value, without evidence."""
    signals = stored.get("membership", ())
    values = {
        "metrics": tuple(_metric_value(value) for value in stored["metrics"]),
        "membership": tuple(_record(MembershipSignal, item) for item in signals),
        "contamination": contamination(stored),
    }
    return Report(**{**stored, **values})


def contamination(stored: Mapping[str, Any]) -> Contamination | None:
    """Returns the declared training data of a stored report; None if nothing is declared."""
    declared = stored.get("contamination")
    return _record(Contamination, declared) if declared else None


def metrics_over_all_images(stored: Mapping[str, Any]) -> tuple[MetricValue, ...]:
    """Returns a stored report's values over all images; much faster than `report`."""
    return tuple(_metric_value(value) for value in stored["metrics"] if not value.get("slice"))


def _metric_value(stored: Mapping[str, Any]) -> MetricValue:
    interval = stored.get("interval")
    return MetricValue(**{**stored, "interval": Interval(**interval) if interval else None})


def evidence_rows(number: int, report: Report) -> list[ReplicateRow | CurveRow]:
    """Returns the evidence of a report as rows. `number` is the evaluation's."""
    if report.evidence is None:
        return []
    scores = {(item.metric, item.finding): item.value for item in report.metrics if not item.slice}
    replicates = [
        ReplicateRow(
            evaluation_number=number,
            place=index,
            metric=item.metric,
            finding=item.finding,
            score=scores[item.metric, item.finding],
            vector=item.values.astype("<f8", copy=False).tobytes(),
        )
        for index, item in enumerate(report.evidence.replicates)
    ]
    curves = {
        "roc_curves": [asdict(curve) for curve in report.evidence.roc_curves],
        "reliabilities": [asdict(item) for item in report.evidence.reliabilities],
    }
    return [*replicates, CurveRow(evaluation_number=number, curves=curves)]


def evidence(replicates: Sequence[ReplicateRow], curves: CurveRow | None) -> Evidence:
    """Returns the evidence of rows; those of replicates are in the report's order."""
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
    """Returns stored replicates as an array of float64, shape (replicates,)."""
    return np.frombuffer(stored, "<f8").astype(np.float64, copy=False)


def _tuples(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
    }


def failure(stored: Mapping[str, Any] | None) -> Failure | None:
    """Returns the failure of a stored JSON value; None for None."""
    return Failure(stored["reason"], stored["message"], Fault(stored["fault"])) if stored else None
