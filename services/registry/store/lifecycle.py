"""What people do to a submission after it was handed in. Each is an event; nothing is edited."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxreval.audit.receipts import Signer
from cxreval.errors import CxrevalError, RequestIdReused, StaleEtag
from cxreval.errors import SubmissionState as WrongState
from cxreval.fields import field_error
from cxreval.manifest.model import Kind
from cxreval.records import Change, EvaluationState, Failure, SubmissionState
from cxreval.resource_names import SubmissionName
from services.registry.domain import corrections
from services.registry.domain.records import ON_BOARD, ChangeRequest, Submission
from services.registry.domain.states import DEADLINES, EVALUATION_STATE, expired
from services.registry.store import records
from services.registry.store.database import Database
from services.registry.store.events import append
from services.registry.store.models import BenchmarkRow, EvaluationRow, EventRow, SubmissionRow
from services.registry.store.quotas import charge_retry
from services.registry.store.receipts import sign_row
from services.registry.store.submissions import (
    REGISTRY,
    kept_request_id,
    queued_evaluation,
    submission_rows,
)

_SWEPT = 100


class Lifecycle:
    """Changes submissions, and ends what stays in a state for too long."""

    def __init__(self, database: Database, clock: Callable[[], datetime], signer: Signer) -> None:
        self._database = database
        self._clock = clock
        self._signer = signer

    def change(self, name: SubmissionName, request: ChangeRequest) -> Submission:
        """Does what is asked for.

        Raises:
            SubmissionNotFound: there is no such submission, or no such successor.
            SubmissionState: its state forbids it, or the successor is not on the board.
            StaleEtag: it has changed since `etag`.
            RequestIdReused: the request id came before with another request.
            QuotaExceeded: a retry is one more today, or under way, than its organisation may have.
        """
        with self._database.writing() as session:
            row, benchmark, _ = submission_rows(session, name)
            session.refresh(row, with_for_update=True)
            details = _details(request)
            if not _done_before(session, row, request, details):
                _check_etag(row, name, request.etag)
                self._apply(session, row, benchmark, request, details)
                session.flush()
            return records.submission(*submission_rows(session, name))

    def versions(self, submissions: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Version and images done of submissions by id: what a watcher has to look at."""
        with self._database.reading() as session:
            query = select(SubmissionRow.id, SubmissionRow.version, EvaluationRow.images_done)
            query = query.outerjoin(
                EvaluationRow, EvaluationRow.submission_number == SubmissionRow.number
            )
            query = query.where(SubmissionRow.id.in_(submissions)).order_by(EvaluationRow.number)
            return {found[0]: (found[1], found[2] or 0) for found in session.execute(query)}

    def expire(self) -> int:
        """Ends submissions that stayed in a state beyond its deadline; how many."""
        return sum(self._expire_some(state) for state in DEADLINES)

    def _expire_some(self, state: SubmissionState) -> int:
        now = self._clock()
        with self._database.writing() as session:
            late = (SubmissionRow.state == state) & (
                SubmissionRow.update_time <= now - DEADLINES[state]
            )
            query = select(SubmissionRow).where(late).order_by(SubmissionRow.number).limit(_SWEPT)
            rows = session.scalars(query.with_for_update(skip_locked=True)).all()
            for row in rows:
                failure = expired(state, Kind(row.kind))
                end_evaluation(session, row, Change.EXPIRED, now, failure)
                row.failure = records.to_json(failure)
                details = {"failure": failure.reason, "fault": failure.fault}
                append(
                    session,
                    row,
                    Change.EXPIRED,
                    REGISTRY,
                    now,
                    reason=failure.message,
                    details=details,
                )
            return len(rows)

    def _apply(
        self,
        session: Session,
        row: SubmissionRow,
        benchmark: BenchmarkRow,
        request: ChangeRequest,
        details: Mapping[str, str],
    ) -> None:
        now, change = self._clock(), request.change
        if change is Change.RETRIED:
            charge_retry(session, row, now)
        if change is Change.CORRECTED:
            row.corrections = {**row.corrections, **(request.corrections or {})}
        if change is Change.SUPERSEDED and request.successor:
            row.superseded_by = _successor(session, row, request.successor).id
        event = append(
            session, row, change, request.actor, now,
            reason=request.reason, details=details, request_id=_kept(request),
        )  # fmt: skip
        if change is Change.CANCELLED:
            end_evaluation(session, row, change, now)
        if change is Change.RETRIED:
            row.failure = None
            if row.state == SubmissionState.QUEUED:
                session.add(queued_evaluation(row, now))
        if change is Change.REINSTATED:
            row.superseded_by = ""
        if change in (Change.CORRECTED, Change.REINSTATED):
            sign_row(session, self._signer, row, benchmark, event)


def end_evaluation(
    session: Session,
    row: SubmissionRow,
    change: Change,
    now: datetime,
    failure: Failure | None = None,
) -> None:
    """Ends the run of a submission that waits or goes on, if there is one; its worker's lease is
    lost."""
    goes_on = EvaluationRow.state.in_([EvaluationState.QUEUED, EvaluationState.RUNNING])
    query = (
        select(EvaluationRow)
        .where(EvaluationRow.submission_number == row.number, goes_on)
        .with_for_update()
    )
    for evaluation in session.scalars(query.execution_options(populate_existing=True)):
        evaluation.state, evaluation.update_time = EVALUATION_STATE[change], now
        evaluation.failure = records.to_json(failure) if failure else None


def _details(request: ChangeRequest) -> dict[str, str]:
    details = corrections.details(request.corrections or {})
    if request.successor:
        details["successor"] = str(request.successor)
    return details


def _kept(request: ChangeRequest) -> str:
    return kept_request_id(request.organisation, request.request_id)


def _done_before(
    session: Session, row: SubmissionRow, request: ChangeRequest, details: Mapping[str, str]
) -> bool:
    if not request.request_id:
        return False
    query = select(EventRow).where(
        EventRow.submission_number == row.number, EventRow.request_id == _kept(request)
    )
    event = session.scalar(query)
    if event is None:
        return False
    stored = {key: value for key, value in event.details.items() if key != "receipt_sha256"}
    if (event.change, event.reason, stored) != (request.change, request.reason, details):
        message = (
            f"request_id {request.request_id} was used for another request; expected a new one"
        )
        raise RequestIdReused(
            message, field="request_id", value=request.request_id, expected="a new UUID"
        )
    return True


def _check_etag(row: SubmissionRow, name: SubmissionName, etag: int | None) -> None:
    if etag is not None and etag != row.version:
        message = f"{name} has changed: its etag is now {row.version}, not {etag}; read it again"
        raise StaleEtag(message, field="etag", found=etag, expected=str(row.version))


def _successor(session: Session, row: SubmissionRow, name: SubmissionName) -> SubmissionRow:
    found, _, _ = submission_rows(session, name)
    problem: CxrevalError | None = None
    if found.number == row.number or found.benchmark_number != row.benchmark_number:
        problem = field_error("successor", name, "another submission to the same benchmark")
    elif (found.kind == Kind.CLAIM) != (row.kind == Kind.CLAIM):
        problem = field_error("successor", name, "a claim for a claim, a run for a run")
    elif found.state not in ON_BOARD:
        message = f"successor {name} is {found.state}; expected one on the board"
        problem = WrongState(message, field="successor", state=found.state, expected="published")
    if problem:
        raise problem
    return found
