"""Usage of organisations, checked against their quotas.

Usage is counted from submissions and events, never stored, so that a run that the platform failed
needs no refund. A transaction that adds to it locks the organisation's row first, so that two at
once cannot exceed a limit together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, CompoundSelect, and_, exists, func, or_, select, union
from sqlalchemy.orm import Session, aliased

from cxreval.errors import OrganisationNotFound
from cxreval.records import Fault, Role, SubmissionState
from cxreval.resource_names import OrganisationName
from services.chassis.principal import Principal
from services.registry.domain.access import (
    Organisation,
    Usage,
    check_bytes,
    check_concurrent,
    check_day,
    day_of,
)
from services.registry.domain.charges import CHARGING, WORKED, Step, charged
from services.registry.domain.records import ENDED
from services.registry.store.database import Database
from services.registry.store.models import (
    ArtifactRow,
    EvaluationRow,
    EventRow,
    SubmissionPartRow,
    SubmissionRow,
    TrainingListRow,
)
from services.registry.store.organisations import organisation, organisation_row

LINGERS = timedelta(hours=3)
"""How long the bytes of an abandoned upload may exist: a call lasts at most an hour by default, and
orphans are collected an hour after the last write."""


class Quotas:
    """Reads quotas and usage."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def get(self, name: OrganisationName, caller: Principal) -> tuple[Organisation, Usage]:
        """An organisation and its usage: the caller's own, or any for an operator. Raises
        `OrganisationNotFound`."""
        if Role.OPERATOR not in caller.roles and name.organisation != caller.organisation:
            raise OrganisationNotFound(f"{name} does not exist here", name=name)
        with self._database.reading() as session:
            row = organisation_row(session, name)
            return organisation(row), _usage(session, name.organisation, self._clock())


def _usage(session: Session, owner: str, now: datetime) -> Usage:
    return Usage(
        submissions_today=_today(session, owner, now),
        concurrent=_concurrent(session, owner),
        stored_bytes=_stored_bytes(session, owner) + _uploading_bytes(session, owner, now),
        reset_time=day_of(now)[1],
    )


def charge_creation(session: Session, owner: str, now: datetime) -> None:
    """Checks the quotas before a submission is added.

    Args:
        session: a writing transaction.
        owner: the submission's organisation; empty: none, and no quota.
        now: the current time.

    Raises:
        QuotaExceeded: the organisation has reached a limit.
    """
    if owner:
        organisation_ = _locked(session, owner)
        _check_day(session, organisation_, now)
        check_concurrent(organisation_, _concurrent(session, owner))


def charge_retry(session: Session, row: SubmissionRow, now: datetime) -> None:
    """Checks the quotas before a submission is retried. The daily quota does not apply after a
    failure of the platform. Raises `QuotaExceeded`."""
    if row.organisation:
        organisation_ = _locked(session, row.organisation)
        if not (row.failure and row.failure["fault"] == Fault.SYSTEM):
            _check_day(session, organisation_, now)
        check_concurrent(organisation_, _concurrent(session, row.organisation))


def charge_request(session: Session, owner: str, now: datetime) -> None:
    """Checks the daily quota before a reproduction is queued on request. `owner`: the caller's
    organisation; empty: none, and no quota. Raises `QuotaExceeded`."""
    if owner:
        _check_day(session, _locked(session, owner), now)


def charge_part(
    session: Session, row: SubmissionRow, sha256: str, size_bytes: int, now: datetime
) -> None:
    """Checks the quota before a further file of a submission, whose row is locked, is stored.
    Raises `QuotaExceeded`."""
    if row.organisation:
        organisation_ = _locked(session, row.organisation)
        if not session.scalar(
            select(ArtifactRow.sha256).where(
                ArtifactRow.sha256 == sha256,
                ArtifactRow.sha256.in_(_artifacts_of(row.organisation)),
            )
        ):
            uploading = _uploading_bytes(session, row.organisation, now)
            stored = _stored_bytes(session, row.organisation)
            check_bytes(organisation_, stored, uploading, size_bytes)


def charge_training_list(session: Session, owner: str, size_bytes: int, now: datetime) -> None:
    """Checks the quota before the training list of a submission is stored. Raises
    `QuotaExceeded`."""
    if owner:
        organisation_ = _locked(session, owner)
        uploading = _uploading_bytes(session, owner, now)
        check_bytes(organisation_, _stored_bytes(session, owner), uploading, size_bytes)


def charge_upload(session: Session, row: SubmissionRow, size_bytes: int, now: datetime) -> None:
    """Reserves storage for an upload of the artifact of a submission, whose row is locked.

    An upload cannot bring more bytes than it declared. If it declares fewer than an earlier one, it
    keeps that reservation, because the earlier bytes may still be stored.

    Raises:
        QuotaExceeded: the organisation may not store so much.
    """
    if row.organisation:
        organisation_ = _locked(session, row.organisation)
        size_bytes = max(size_bytes, row.declared_bytes or 0)
        uploading = _uploading_bytes(session, row.organisation, now, row)
        # An artifact that the organisation stores already counts once. Until the upload has proved
        # to be the same, its bytes count as an upload.
        stored = 0 if _stores(session, row) else _stored_bytes(session, row.organisation)
        check_bytes(organisation_, stored, uploading, size_bytes)
        row.declared_bytes = size_bytes


def charge_artifact(session: Session, row: SubmissionRow, size_bytes: int, now: datetime) -> None:
    """Checks the quota before the artifact of a submission, whose row is locked, is recorded.
    Raises `QuotaExceeded`."""
    if row.organisation:
        organisation_ = _locked(session, row.organisation)
        if not _stores(session, row):
            uploading = _uploading_bytes(session, row.organisation, now, row)
            stored = _stored_bytes(session, row.organisation)
            check_bytes(organisation_, stored, uploading, size_bytes)
        row.declared_bytes = None


def _check_day(session: Session, organisation_: Organisation, now: datetime) -> None:
    if organisation_.quota.submissions_per_day is not None:
        check_day(organisation_, _today(session, organisation_.id, now), now)


def _locked(session: Session, owner: str) -> Organisation:
    return organisation(organisation_row(session, OrganisationName(owner), lock=True))


def _today(session: Session, owner: str, now: datetime) -> int:
    begin, _ = day_of(now)
    query = select(
        EventRow.submission_number, EventRow.change, EventRow.create_time, EventRow.details
    )
    query = query.join(SubmissionRow, SubmissionRow.number == EventRow.submission_number)
    # A submission that did not change today did not start today.
    query = query.where(SubmissionRow.organisation == owner, SubmissionRow.update_time >= begin)
    # Submissions that were cancelled before a worker took them do not count. There may be
    # thousands.
    worked = aliased(EventRow)
    of_it = and_(worked.submission_number == SubmissionRow.number, worked.change.in_(WORKED))
    query = query.where(
        or_(SubmissionRow.state != SubmissionState.CANCELLED, exists().where(of_it))
    )
    query = query.where(EventRow.change.in_(CHARGING)).order_by(
        EventRow.submission_number, EventRow.version
    )
    asked = select(func.count()).where(
        EvaluationRow.requested_by == owner,
        EvaluationRow.create_time >= begin,
        or_(
            EvaluationRow.failure.is_(None),
            EvaluationRow.failure["fault"].as_string() != Fault.SYSTEM,
        ),
    )
    histories = itertools.groupby(session.execute(query), lambda event: event.submission_number)
    return (session.scalar(asked) or 0) + sum(
        start >= begin
        for _, events in histories
        for start in charged(
            Step.of(event.change, event.create_time, event.details.get("fault")) for event in events
        )
    )


def _concurrent(session: Session, owner: str) -> int:
    of_it = and_(SubmissionRow.organisation == owner, SubmissionRow.state.not_in(ENDED))
    return session.scalar(select(func.count()).select_from(SubmissionRow).where(of_it)) or 0


def _stores(session: Session, row: SubmissionRow) -> bool:
    """Returns whether the organisation of a submission stores the declared artifact already."""
    same = _stored_by(row.organisation or "") & (
        SubmissionRow.artifact_sha256 == row.manifest["artifact_sha256"]
    )
    return bool(session.scalar(select(exists().where(same))))


def _uploading_bytes(
    session: Session, owner: str, now: datetime, excluded: SubmissionRow | None = None
) -> int:
    awaits = SubmissionRow.state == SubmissionState.AWAITING_ARTIFACT
    query = select(func.sum(SubmissionRow.declared_bytes)).where(
        SubmissionRow.organisation == owner,
        SubmissionRow.artifact_sha256.is_(None),
        or_(awaits, SubmissionRow.update_time > now - LINGERS),
    )
    if excluded:
        query = query.where(SubmissionRow.number != excluded.number)
    parts = select(func.sum(SubmissionPartRow.declared_bytes)).join(
        SubmissionRow, SubmissionRow.number == SubmissionPartRow.submission_number
    )
    parts = parts.where(
        SubmissionRow.organisation == owner,
        SubmissionPartRow.artifact_sha256.is_(None),
        SubmissionPartRow.update_time > now - LINGERS,
    )
    return int(session.scalar(query) or 0) + int(session.scalar(parts) or 0)


def _stored_bytes(session: Session, owner: str) -> int:
    of_it = ArtifactRow.sha256.in_(_artifacts_of(owner))
    stored = select(func.sum(ArtifactRow.size_bytes)).where(of_it)
    lists = select(func.sum(func.length(TrainingListRow.content))).join(
        SubmissionRow, SubmissionRow.number == TrainingListRow.submission_number
    )
    of_owner = lists.where(SubmissionRow.organisation == owner)
    return int(session.scalar(stored) or 0) + int(session.scalar(of_owner) or 0)


def _artifacts_of(owner: str) -> CompoundSelect[str]:
    """Selects the digests of all files that an organisation stores."""
    parts = select(SubmissionPartRow.artifact_sha256).join(
        SubmissionRow, SubmissionRow.number == SubmissionPartRow.submission_number
    )
    return union(
        select(SubmissionRow.artifact_sha256).where(_stored_by(owner)),
        parts.where(
            SubmissionRow.organisation == owner, SubmissionPartRow.artifact_sha256.is_not(None)
        ),
    )


def _stored_by(owner: str) -> ColumnElement[bool]:
    return and_(SubmissionRow.organisation == owner, SubmissionRow.artifact_sha256.is_not(None))
