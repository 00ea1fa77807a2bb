"""What organisations have used up. It is counted, never kept: what the platform failed is free
without a refund.

Whoever adds to what is counted locks the organisation's row first, so that two at a time never pass
a limit together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from cxreval.records import Fault, SubmissionState
from cxreval.resource_names import OrganisationName
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
from services.registry.store.models import ArtifactRow, EventRow, SubmissionRow
from services.registry.store.organisations import organisation, organisation_row

LINGERS = timedelta(hours=3)
"""How long bytes may lie there of an upload that nobody awaits any more: the call that brings them
lasts an hour at most, unless a setting says otherwise, and they are collected an hour after the
last of them."""


class Quotas:
    """Shows quotas and their use."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def get(self, name: OrganisationName) -> tuple[Organisation, Usage]:
        """An organisation and what it has used up. Raises `OrganisationNotFound`."""
        with self._database.reading() as session:
            found = organisation(organisation_row(session, name))
            return found, _usage(session, name.organisation, self._clock())


def _usage(session: Session, owner: str, now: datetime) -> Usage:
    return Usage(
        submissions_today=_today(session, owner, now),
        concurrent=_concurrent(session, owner),
        stored_bytes=_stored_bytes(session, owner) + _uploading_bytes(session, owner, now),
        reset_time=day_of(now)[1],
    )


def charge_creation(session: Session, owner: str, now: datetime) -> None:
    """Before a submission is added. `owner`: an organisation, or empty for nobody. Raises
    `QuotaExceeded`."""
    if owner:
        found = _locked(session, owner)
        _check_day(session, found, now)
        check_concurrent(found, _concurrent(session, owner))


def charge_retry(session: Session, row: SubmissionRow, now: datetime) -> None:
    """Before a submission that has ended goes on: like another one, unless the platform failed it.

    Raises:
        QuotaExceeded: it may not, for now.
    """
    if row.organisation:
        found = _locked(session, row.organisation)
        if not (row.failure and row.failure["fault"] == Fault.SYSTEM):
            _check_day(session, found, now)
        check_concurrent(found, _concurrent(session, row.organisation))


def charge_upload(session: Session, row: SubmissionRow, size_bytes: int, now: datetime) -> None:
    """Before bytes of the artifact of a submission, whose row is locked, may come: sets room aside
    for all of them.

    More than was declared cannot come. An upload that declares less than one before it keeps the
    room of that one: its bytes may be there.

    Raises:
        QuotaExceeded: there is no room.
    """
    if row.organisation:
        found, size_bytes = (
            _locked(session, row.organisation),
            max(size_bytes, row.declared_bytes or 0),
        )
        uploading = _uploading_bytes(session, row.organisation, now, row)
        # Bytes that are stored already will take no room; until it is known that they are the same,
        # they lie there.
        stored = 0 if _stores(session, row) else _stored_bytes(session, row.organisation)
        check_bytes(found, stored, uploading, size_bytes)
        row.declared_bytes = size_bytes


def charge_artifact(session: Session, row: SubmissionRow, size_bytes: int, now: datetime) -> None:
    """Before the artifact of a submission, whose row is locked, is recorded. Raises
    `QuotaExceeded`."""
    if row.organisation:
        found = _locked(session, row.organisation)
        if not _stores(session, row):
            uploading = _uploading_bytes(session, row.organisation, now, row)
            check_bytes(found, _stored_bytes(session, row.organisation), uploading, size_bytes)
        row.declared_bytes = None


def _check_day(session: Session, found: Organisation, now: datetime) -> None:
    if found.quota.submissions_per_day is not None:
        check_day(found, _today(session, found.id, now), now)


def _locked(session: Session, owner: str) -> Organisation:
    return organisation(organisation_row(session, OrganisationName(owner), lock=True))


def _today(session: Session, owner: str, now: datetime) -> int:
    begin, _ = day_of(now)
    query = select(
        EventRow.submission_number, EventRow.change, EventRow.create_time, EventRow.details
    )
    query = query.join(SubmissionRow, SubmissionRow.number == EventRow.submission_number)
    # What was not touched today did not start today.
    query = query.where(SubmissionRow.organisation == owner, SubmissionRow.update_time >= begin)
    # Nor does what was called off before anybody worked on it count; there may be thousands of
    # these.
    worked = aliased(EventRow)
    of_it = and_(worked.submission_number == SubmissionRow.number, worked.change.in_(WORKED))
    query = query.where(
        or_(SubmissionRow.state != SubmissionState.CANCELLED, exists().where(of_it))
    )
    query = query.where(EventRow.change.in_(CHARGING)).order_by(
        EventRow.submission_number, EventRow.version
    )
    histories = itertools.groupby(session.execute(query), lambda event: event.submission_number)
    return sum(
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
    """Whether the organisation of a submission has what its manifest declares."""
    same = _stored_by(row.organisation or "") & (
        SubmissionRow.artifact_sha256 == row.manifest["artifact_sha256"]
    )
    return bool(session.scalar(select(exists().where(same))))


def _uploading_bytes(
    session: Session, owner: str, now: datetime, but: SubmissionRow | None = None
) -> int:
    awaits = SubmissionRow.state == SubmissionState.AWAITING_ARTIFACT
    query = select(func.sum(SubmissionRow.declared_bytes)).where(
        SubmissionRow.organisation == owner,
        SubmissionRow.artifact_sha256.is_(None),
        or_(awaits, SubmissionRow.update_time > now - LINGERS),
    )
    return int(
        session.scalar(query.where(SubmissionRow.number != but.number) if but else query) or 0
    )


def _stored_bytes(session: Session, owner: str) -> int:
    artifacts = select(SubmissionRow.artifact_sha256).where(_stored_by(owner))
    stored = select(func.sum(ArtifactRow.size_bytes)).where(ArtifactRow.sha256.in_(artifacts))
    return int(session.scalar(stored) or 0)


def _stored_by(owner: str) -> ColumnElement[bool]:
    return and_(SubmissionRow.organisation == owner, SubmissionRow.artifact_sha256.is_not(None))
