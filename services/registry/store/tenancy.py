"""Access rules as conditions on rows: which submissions, evaluations, events and artifacts a caller
may read, and which submissions it may change.

All callers may read what is or was on a board. An organisation may read all of its own submissions,
and workers and operators may read everything. For a submission that a caller may not read, it gets
the same "not found" error as for a name that was never used.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, false, or_, select, true
from sqlalchemy.orm import Session

from cxreval.errors import OwnerRequired, SubmissionNotFound
from cxreval.records import EvaluationState, Role
from cxreval.resource_names import SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.records import PRIVATE_CHANGES, WAS_ON_BOARD
from services.registry.store.models import (
    ArtifactRow,
    BenchmarkRow,
    EvaluationRow,
    EventRow,
    SubmissionPartRow,
    SubmissionRow,
)

_PUBLIC = SubmissionRow.state.in_(WAS_ON_BOARD)


def visible_to(caller: Principal) -> ColumnElement[bool]:
    """The submissions that a caller may read."""
    return _or_own(caller, _PUBLIC)


def evaluations_visible_to(caller: Principal) -> ColumnElement[bool]:
    """The evaluations that a caller may read: of other organisations, only those behind a row and
    those that were compared with it."""
    return _or_own(caller, and_(_PUBLIC, EvaluationRow.state == EvaluationState.SUCCEEDED))


def events_visible_to(caller: Principal) -> ColumnElement[bool]:
    """The events that a caller may read: of other organisations, none that tells of a run."""
    public = and_(_PUBLIC, EventRow.change.not_in(PRIVATE_CHANGES))
    return _or_own(caller, or_(EventRow.submission_number.is_(None), public))


def artifacts_visible_to(caller: Principal) -> ColumnElement[bool]:
    """The artifacts that a caller may download: those of its organisation's submissions."""
    part = exists().where(
        SubmissionPartRow.submission_number == SubmissionRow.number,
        SubmissionPartRow.artifact_sha256 == ArtifactRow.sha256,
    )
    own = exists().where(
        SubmissionRow.organisation == caller.organisation,
        or_(SubmissionRow.artifact_sha256 == ArtifactRow.sha256, part),
    )
    if caller.sees_everything:
        return true()
    return own if caller.organisation else false()


def visible_submission(session: Session, name: SubmissionName, caller: Principal) -> SubmissionRow:
    """The row of one submission. Raises `SubmissionNotFound`."""
    query = select(SubmissionRow).join(
        BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number
    )
    row = session.scalar(
        query.where(
            SubmissionRow.id == name.submission,
            BenchmarkRow.id == name.benchmark,
            visible_to(caller),
        )
    )
    if row is None:
        raise SubmissionNotFound(f"{name} does not exist here", name=name)
    return row


def check_owner(row: SubmissionRow, name: SubmissionName, caller: Principal) -> None:
    """Raises `OwnerRequired` unless the caller may change the submission: it is its organisation's,
    or the caller is an operator."""
    if Role.OPERATOR in caller.roles:
        return
    if not caller.organisation or row.organisation != caller.organisation:
        message = f"{name} belongs to another organisation; expected one of your own"
        raise OwnerRequired(message, name=name, expected="a submission of your own")


def _or_own(caller: Principal, public: ColumnElement[bool]) -> ColumnElement[bool]:
    if caller.sees_everything:
        return true()
    if not caller.organisation:
        return public
    return or_(public, SubmissionRow.organisation == caller.organisation)
