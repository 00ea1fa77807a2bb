"""Signs the receipt of a row of the board, in the transaction of the event that put it there."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxreval.audit.receipts import Signer
from cxreval.records import EvaluationState, Purpose
from services.registry.domain.receipt import receipt_content
from services.registry.store import records
from services.registry.store.models import (
    BenchmarkRow,
    EvaluationRow,
    EventRow,
    ReceiptRow,
    ReportRow,
    SubmissionRow,
)


def sign_row(
    session: Session, signer: Signer, row: SubmissionRow, benchmark: BenchmarkRow, event: EventRow
) -> None:
    """Signs and stores the receipt of a row after an event that published or changed it.

    The submission's row is locked; its report, if it has one, is in the session or stored. The
    event's details get the receipt's sha256, which puts it into the audit chain.
    """
    evaluation, report = _run_behind(session, row)
    submission = records.submission(row, benchmark, None)
    stored = report.report if report else None
    receipt = signer.sign(
        receipt_content(
            submission,
            records.benchmark(benchmark),
            records.evaluation(evaluation, row, benchmark, None) if evaluation else None,
            stored,
            records.metrics_over_all_images(stored) if stored else (),
            _script_runs(session, row),
        )
    )
    event.details = {**event.details, "receipt_sha256": hashlib.sha256(receipt.payload).hexdigest()}
    session.flush()
    session.add(
        ReceiptRow(
            event_number=event.number,
            submission_number=row.number,
            payload=receipt.payload,
            signature=receipt.signature,
        )
    )


def _script_runs(session: Session, row: SubmissionRow) -> dict[str, Any]:
    """Returns, by purpose, what is recorded of the latest run of the submitter's script."""
    query = select(EvaluationRow).where(
        EvaluationRow.submission_number == row.number,
        EvaluationRow.state == EvaluationState.SUCCEEDED,
        EvaluationRow.usage.is_not(None),
    )
    return {
        run.purpose: {
            "evaluation": run.id,
            "provenance": run.provenance,
            "usage": run.usage,
            "limits": run.limits,
        }
        for run in session.scalars(query.order_by(EvaluationRow.number))
    }


def _run_behind(
    session: Session, row: SubmissionRow
) -> tuple[EvaluationRow | None, ReportRow | None]:
    query = select(EvaluationRow, ReportRow).join(
        ReportRow, ReportRow.evaluation_number == EvaluationRow.number
    )
    query = query.where(
        EvaluationRow.submission_number == row.number,
        EvaluationRow.state == EvaluationState.SUCCEEDED,
        EvaluationRow.purpose == Purpose.MEASURE,
    )
    rows = session.execute(query).one_or_none()
    return (rows[0], rows[1]) if rows else (None, None)
