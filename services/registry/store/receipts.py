"""The signed receipt of a row on the board, written in the transaction of the event that put it
there."""

from __future__ import annotations

import hashlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxreval.audit.receipts import Signer
from cxreval.records import EvaluationState
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
    """Signs what the row says on the board after an event that put it there or changed it.

    The submission's row is locked; its report, if it has one, is in the session or stored. The
    event names the receipt by its sha256, so that the chain vouches for it.
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


def _run_behind(
    session: Session, row: SubmissionRow
) -> tuple[EvaluationRow | None, ReportRow | None]:
    query = select(EvaluationRow, ReportRow).join(
        ReportRow, ReportRow.evaluation_number == EvaluationRow.number
    )
    of_it = EvaluationRow.submission_number == row.number
    found = session.execute(
        query.where(of_it, EvaluationRow.state == EvaluationState.SUCCEEDED)
    ).one_or_none()
    return (found[0], found[1]) if found else (None, None)
