"""Changes of submissions after their creation. Each is recorded as an event."""

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
from cxreval.records import Change, EvaluationState, Failure, Purpose, SubmissionState
from cxreval.resource_names import SubmissionName
from services.chassis.principal import Principal
from services.registry.domain import corrections
from services.registry.domain.records import ON_BOARD, ChangeRequest, Submission
from services.registry.domain.redaction import redact_submission
from services.registry.domain.states import DEADLINES, EVALUATION_STATE, expired
from services.registry.store import records
from services.registry.store.benchmarks import check_not_retired
from services.registry.store.database import Database
from services.registry.store.events import append
from services.registry.store.models import BenchmarkRow, EvaluationRow, EventRow, SubmissionRow
from services.registry.store.quotas import charge_retry
from services.registry.store.receipts import sign_row
from services.registry.store.submissions import (
    REGISTRY,
    kept_request_id,
    own_submission_rows,
    queued_evaluation,
    submission_rows,
)

_EXPIRY_BATCH = 100


class Lifecycle:
    """Changes submissions, and expires those that stay in a state beyond its deadline."""

    def __init__(self, database: Database, clock: Callable[[], datetime], signer: Signer) -> None:
        self._database = database
        self._clock = clock
        self._signer = signer

    def change(self, name: SubmissionName, request: ChangeRequest, caller: Principal) -> Submission:
        """Applies a change to a submission and returns it, redacted for the caller.

        Every caller that may read a submission may dispute it; other changes are its owner's.

        Raises:
            SubmissionNotFound: the caller may read no such submission, or no such successor.
            OwnerRequired: one of the two belongs to another organisation.
            SubmissionState: its state forbids the change, or the successor is not on the board.
            StaleEtag: the submission has changed since `etag`.
            RequestIdReused: the request id was used for another request.
            BenchmarkRetired: the change is a retry, and the benchmark takes none.
            QuotaExceeded: the organisation has no quota for a retry.
        """
        with self._database.writing() as session:
            allowed_rows = (
                submission_rows if request.change is Change.DISPUTED else own_submission_rows
            )
            row, benchmark, _ = allowed_rows(session, name, caller)
            session.refresh(row, with_for_update=True)
            details = _details(request)
            kept_id = kept_request_id(caller.organisation, request.request_id)
            if not _is_repeated(session, row, request, kept_id, details):
                _check_etag(row, name, request.etag)
                self._apply(session, row, benchmark, request, details, caller)
                session.flush()
            changed = records.submission(*submission_rows(session, name, caller))
            return redact_submission(changed, caller)

    def versions(self, submissions: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Version and number of images done of submissions, by id; one changes with each update."""
        with self._database.reading() as session:
            query = select(SubmissionRow.id, SubmissionRow.version, EvaluationRow.images_done)
            query = query.outerjoin(
                EvaluationRow,
                (EvaluationRow.submission_number == SubmissionRow.number)
                & (EvaluationRow.purpose == Purpose.MEASURE),
            )
            query = query.where(SubmissionRow.id.in_(submissions)).order_by(EvaluationRow.number)
            return {row[0]: (row[1], row[2] or 0) for row in session.execute(query)}

    def expire(self) -> int:
        """Fails submissions that stayed in a state beyond its deadline; returns how many."""
        return sum(self._expire_some(state) for state in DEADLINES)

    def _expire_some(self, state: SubmissionState) -> int:
        now = self._clock()
        with self._database.writing() as session:
            overdue = (SubmissionRow.state == state) & (
                SubmissionRow.update_time <= now - DEADLINES[state]
            )
            query = (
                select(SubmissionRow)
                .where(overdue)
                .order_by(SubmissionRow.number)
                .limit(_EXPIRY_BATCH)
            )
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
        caller: Principal,
    ) -> None:
        now, change = self._clock(), request.change
        if change is Change.RETRIED:
            check_not_retired(benchmark, "name")
            charge_retry(session, row, now)
        if change is Change.CORRECTED:
            row.corrections = {**row.corrections, **(request.corrections or {})}
        if change is Change.SUPERSEDED and request.successor:
            row.superseded_by = _successor(session, row, request.successor, caller).id
        event = append(
            session,
            row,
            change,
            caller.name,
            now,
            reason=request.reason,
            details=details,
            request_id=kept_request_id(caller.organisation, request.request_id),
        )
        if change in (Change.CANCELLED, Change.SUPERSEDED, Change.WITHDRAWN):
            end_evaluation(session, row, Change.CANCELLED, now)
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
    """Ends the queued or running evaluation of a submission, if any. Its worker loses the lease."""
    active = EvaluationRow.state.in_([EvaluationState.QUEUED, EvaluationState.RUNNING])
    query = (
        select(EvaluationRow)
        .where(EvaluationRow.submission_number == row.number, active)
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


def _is_repeated(
    session: Session,
    row: SubmissionRow,
    request: ChangeRequest,
    kept_id: str,
    details: Mapping[str, str],
) -> bool:
    if not kept_id:
        return False
    query = select(EventRow).where(
        EventRow.submission_number == row.number, EventRow.request_id == kept_id
    )
    event = session.scalar(query)
    if event is None:
        return False
    stored = {key: value for key, value in event.details.items() if key != "receipt_sha256"}
    if (event.change, event.reason, stored) != (request.change, request.reason, details):
        message = f"request_id {request.request_id} was used for another request; use a new UUID"
        raise RequestIdReused(
            message, field="request_id", value=request.request_id, expected="a new UUID"
        )
    return True


def _check_etag(row: SubmissionRow, name: SubmissionName, etag: int | None) -> None:
    if etag is not None and etag != row.version:
        message = f"{name} has changed: its etag is {row.version}, not {etag}; read it again"
        raise StaleEtag(message, field="etag", found=etag, expected=str(row.version))


def _successor(
    session: Session, row: SubmissionRow, name: SubmissionName, caller: Principal
) -> SubmissionRow:
    successor, _, _ = own_submission_rows(session, name, caller)
    problem: CxrevalError | None = None
    if successor.number == row.number or successor.benchmark_number != row.benchmark_number:
        problem = field_error("successor", name, "another submission to the same benchmark")
    elif (successor.kind == Kind.CLAIM) != (row.kind == Kind.CLAIM):
        problem = field_error("successor", name, "a claim for a claim, a run for a run")
    elif (state := successor.state) not in ON_BOARD:
        message = f"successor {name} is {state}; expected one on the board"
        problem = WrongState(message, field="successor", state=state, expected="published")
    if problem:
        raise problem
    return successor
