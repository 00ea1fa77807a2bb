"""Compares a replay or a reproduction with the evaluation behind the row, when it completes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxreval.audit.receipts import Signer
from cxreval.errors import ReportMismatch
from cxreval.fields import not_allowed
from cxreval.manifest.model import Kind
from cxreval.metrics.predictions import image_rows
from cxreval.metrics.report import Report, covered_findings
from cxreval.records import Canaries, Purpose, SubmissionState, Verdict
from cxreval.resource_names import EvaluationName
from services.registry.domain import agreements
from services.registry.domain.agreements import Compared
from services.registry.domain.records import ON_BOARD
from services.registry.domain.report import check_report
from services.registry.store import predictions, records
from services.registry.store.events import append
from services.registry.store.models import (
    BenchmarkRow,
    CurveRow,
    EvaluationRow,
    ReplicateRow,
    ReportRow,
    SubmissionRow,
)
from services.registry.store.receipts import sign_row
from services.registry.store.repetitions import measured, sampled

COMPARER = "registry"
"""The actor of the change that a comparison causes."""


def measured_findings(session: Session, submission: SubmissionRow) -> tuple[str, ...]:
    """Returns the findings that the predictions behind a row cover."""
    stored = session.get_one(ReportRow, measured(session, submission).number).report
    return covered_findings(records.metrics_over_all_images(stored))


def compare(
    session: Session,
    signer: Signer,
    rows: tuple[EvaluationRow, SubmissionRow, BenchmarkRow],
    all_images: Mapping[str, int],
    report: Report | None,
    canaries: Canaries | None,
    now: datetime,
) -> None:
    """Records how the predictions of a completed evaluation agree with those behind the row, and
    changes the row's tier by it. Both rows are locked.

    Raises:
        MissingImages: an image has no recorded prediction.
        ReportMismatch: the report does not fit the benchmark or the recorded predictions.
        MalformedField: there is a report, but the evaluation is of a sample.
    """
    row, submission, benchmark = rows
    spec, first = records.benchmark(benchmark).spec, measured(session, submission)
    images = sampled(session, row, all_images)
    stored = records.report(session.get_one(ReportRow, first.number).report)
    covered = covered_findings(stored.metrics)
    again = predictions.recorded_table(
        session, row.number, image_rows(list(images)), spec.findings, covered
    )
    if report:
        if len(images) < spec.image_count:
            raise not_allowed("report", "an evaluation of a sample")
        check_report(report, spec, covered, declares=records.declares(submission))
        if report.predictions_sha256 != again.sha256():
            message = "report.predictions_sha256 is not the digest of the recorded predictions"
            raise ReportMismatch(message, field="report.predictions_sha256")

    def name(of: EvaluationRow) -> str:
        return str(EvaluationName(benchmark.id, submission.id, of.id))

    kind, purpose = Kind(submission.kind), Purpose(row.purpose)
    found = agreements.agreement(
        Compared(
            name(first),
            predictions.recorded_table(session, first.number, all_images, spec.findings, covered),
            stored,
            records.evidence(_replicates(session, first), session.get(CurveRow, first.number)),
        ),
        Compared(name(row), again, report, report.evidence if report else None),
        images,
        spec,
        agreements.tolerance(kind, purpose, spec, first.provenance, row.provenance),
        canaries,
        records.agreement((submission.agreements or {}).get(purpose)),
        now,
    )
    row.agreement = agreements.as_json(found)
    if SubmissionState(submission.state) not in ON_BOARD:
        return  # withdrawn or superseded meanwhile: there is no row that could change
    submission.agreements = {**(submission.agreements or {}), purpose: row.agreement}
    latest = {
        of: item
        for of, stored_item in submission.agreements.items()
        if (item := records.agreement(stored_item))
    }
    submission.tier = agreements.tier(kind, {Purpose(of): item for of, item in latest.items()})
    event = append(
        session,
        submission,
        agreements.CHANGES[purpose, Verdict(found.verdict)],
        COMPARER,
        now,
        reason=agreements.reason(
            kind, purpose, found, records.manifest(submission.manifest).organisation
        ),
        details=agreements.summary(found),
    )
    sign_row(session, signer, submission, benchmark, event)


def _replicates(session: Session, row: EvaluationRow) -> list[ReplicateRow]:
    query = (
        select(ReplicateRow)
        .where(ReplicateRow.evaluation_number == row.number)
        .order_by(ReplicateRow.place)
    )
    return list(session.scalars(query))
