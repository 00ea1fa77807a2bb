"""What organisations have used up. It is counted, never kept: what the platform failed is free without a refund.

Whoever adds to what is counted locks the organisation's row first, so that two at a time never pass a limit together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, func, select
from sqlalchemy.orm import Session

from cxreval.resource_names import OrganisationName
from services.registry.domain.access import (
    Organisation,
    Usage,
    check_bytes,
    check_concurrent,
    check_day,
    day_of,
)
from services.registry.domain.charges import CHARGING, Step, charged
from services.registry.domain.records import ENDED, Fault
from services.registry.store.database import Database
from services.registry.store.models import ArtifactRow, EventRow, SubmissionRow
from services.registry.store.organisations import organisation, organisation_row


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
        stored_bytes=_stored_bytes(session, owner),
        reset_time=day_of(now)[1],
    )


def charge_creation(session: Session, owner: str, now: datetime) -> None:
    """Before a submission is added. `owner`: an organisation, or empty for nobody. Raises `QuotaExceeded`."""
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


def charge_artifact(session: Session, row: SubmissionRow, size_bytes: int, *, lock: bool = True) -> None:
    """Before the artifact of a submission is recorded; without a lock, only asks. Raises `QuotaExceeded`."""
    if not row.organisation:
        return
    found = organisation(organisation_row(session, OrganisationName(row.organisation), lock=lock))
    same = _stored_by(row.organisation) & (SubmissionRow.artifact_sha256 == row.manifest["artifact_sha256"])
    if not session.scalar(select(exists().where(same))):
        check_bytes(found, _stored_bytes(session, row.organisation), size_bytes)


def _check_day(session: Session, found: Organisation, now: datetime) -> None:
    if found.quota.submissions_per_day is not None:
        check_day(found, _today(session, found.id, now), now)


def _locked(session: Session, owner: str) -> Organisation:
    return organisation(organisation_row(session, OrganisationName(owner), lock=True))


def _today(session: Session, owner: str, now: datetime) -> int:
    begin, _ = day_of(now)
    query = select(EventRow.submission_number, EventRow.change, EventRow.create_time, EventRow.details)
    query = query.join(SubmissionRow, SubmissionRow.number == EventRow.submission_number)
    # What was not touched today did not start today.
    query = query.where(SubmissionRow.organisation == owner, SubmissionRow.update_time >= begin)
    query = query.where(EventRow.change.in_(CHARGING)).order_by(EventRow.submission_number, EventRow.version)
    histories = itertools.groupby(session.execute(query), lambda event: event.submission_number)
    return sum(
        start >= begin
        for _, events in histories
        for start in charged(Step.of(event.change, event.create_time, event.details.get("fault")) for event in events)
    )


def _concurrent(session: Session, owner: str) -> int:
    of_it = and_(SubmissionRow.organisation == owner, SubmissionRow.state.not_in(ENDED))
    return session.scalar(select(func.count()).select_from(SubmissionRow).where(of_it)) or 0


def _stored_bytes(session: Session, owner: str) -> int:
    artifacts = select(SubmissionRow.artifact_sha256).where(_stored_by(owner))
    stored = select(func.sum(ArtifactRow.size_bytes)).where(ArtifactRow.sha256.in_(artifacts))
    return int(session.scalar(stored) or 0)


def _stored_by(owner: str) -> ColumnElement[bool]:
    return and_(SubmissionRow.organisation == owner, SubmissionRow.artifact_sha256.is_not(None))
