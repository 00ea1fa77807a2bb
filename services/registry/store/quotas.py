"""What organisations have used up. It is counted, never kept: what the platform failed is free without a refund.

Whoever adds to what is counted locks the organisation's row first, so that two at a time never pass a limit together.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, func, not_, or_, select
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
from services.registry.domain.records import ENDED, Fault, SubmissionState
from services.registry.store.database import Database
from services.registry.store.models import ArtifactRow, EvaluationRow, SubmissionRow
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


def charge_creation(session: Session, owner: str, now: datetime) -> None:
    """Before a submission is added. `owner`: an organisation, or empty for nobody. Raises `QuotaExceeded`."""
    if owner:
        found = _locked(session, owner)
        usage = _usage(session, owner, now)
        check_day(found, usage, now)
        check_concurrent(found, usage)


def charge_retry(session: Session, owner: str | None, now: datetime) -> None:
    """Before a submission that has ended goes on. Raises `QuotaExceeded`."""
    if owner:
        check_concurrent(_locked(session, owner), _usage(session, owner, now))


def charge_artifact(session: Session, row: SubmissionRow, size_bytes: int, now: datetime, *, lock: bool = True) -> None:
    """Before the artifact of a submission is recorded; without a lock, only asks. Raises `QuotaExceeded`."""
    if not row.organisation:
        return
    found = organisation(organisation_row(session, OrganisationName(row.organisation), lock=lock))
    same = _stored_by(row.organisation) & (SubmissionRow.artifact_sha256 == row.manifest["artifact_sha256"])
    if not session.scalar(select(exists().where(same))):
        check_bytes(found, _usage(session, row.organisation, now), size_bytes)


def _locked(session: Session, owner: str) -> Organisation:
    return organisation(organisation_row(session, OrganisationName(owner), lock=True))


def _usage(session: Session, owner: str, now: datetime) -> Usage:
    begin, end = day_of(now)
    of_it = SubmissionRow.organisation == owner
    count = select(func.count()).select_from(SubmissionRow).where(of_it)
    artifacts = select(SubmissionRow.artifact_sha256).where(_stored_by(owner))
    stored = select(func.sum(ArtifactRow.size_bytes)).where(ArtifactRow.sha256.in_(artifacts))
    return Usage(
        submissions_today=session.scalar(count.where(SubmissionRow.create_time >= begin, not_(_free()))) or 0,
        concurrent=session.scalar(count.where(SubmissionRow.state.not_in(ENDED))) or 0,
        stored_bytes=int(session.scalar(stored) or 0),
        reset_time=end,
    )


def _stored_by(owner: str) -> ColumnElement[bool]:
    return and_(SubmissionRow.organisation == owner, SubmissionRow.artifact_sha256.is_not(None))


def _free() -> ColumnElement[bool]:
    """Ended by a fault of the platform, or called off before a worker took it."""
    failed = and_(
        SubmissionRow.state == SubmissionState.FAILED, SubmissionRow.failure["fault"].as_string() == Fault.SYSTEM
    )
    taken = exists().where(EvaluationRow.submission_number == SubmissionRow.number, EvaluationRow.attempt > 0)
    return or_(failed, and_(SubmissionRow.state == SubmissionState.CANCELLED, not_(taken)))
