"""The events of submissions: appended with each change, read in order, joined to the audit chain.

An event is written in the transaction of its change, so neither exists without the other. Events
join the chain a
moment later, in `chain`: one after the other over all submissions, which would else wait for each
other.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cxreval.audit.chain import AuditEvent, Head
from cxreval.audit.receipts import Receipt
from cxreval.errors import AuditMismatch, ReceiptNotFound, SubmissionNotFound
from cxreval.errors import SubmissionState as WrongState
from cxreval.manifest.model import Kind
from cxreval.records import Change, SubmissionState
from cxreval.resource_names import BenchmarkName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import PRIVATE_CHANGES, WAS_ON_BOARD, Event
from services.registry.domain.states import following
from services.registry.store.benchmarks import benchmark_row
from services.registry.store.database import Database
from services.registry.store.models import BenchmarkRow, EventRow, ReceiptRow, SubmissionRow
from services.registry.store.pages import after

CHAIN_EVENTS = 500
"""Most events that join the chain in one transaction."""

BOARD_CHANGES = (
    Change.PUBLISHED, Change.DISPUTED, Change.RESOLVED, Change.CORRECTED,
    Change.SUPERSEDED, Change.WITHDRAWN, Change.REINSTATED,
)  # fmt: skip
"""What changes a board."""


def append(
    session: Session,
    row: SubmissionRow,
    change: Change,
    actor: str,
    now: datetime,
    *,
    reason: str = "",
    details: Mapping[str, str] | None = None,
    request_id: str = "",
) -> EventRow:
    """Moves a submission, whose row is locked, and records why. Raises `SubmissionState` when its
    state forbids it."""
    state = SubmissionState(row.state)
    to = state
    if change is not Change.CREATED:
        found = following(
            state, change, ready=row.kind == Kind.ENDPOINT or row.artifact_sha256 is not None
        )
        if found is None:
            message = f"submission {row.id} is {state}: it cannot be {change}"
            raise WrongState(message, field="name", state=state, change=change)
        to = found
    row.version = (row.version or 0) + 1
    row.state, row.update_time = to, now
    session.flush()
    event = EventRow(
        id=uuid.uuid4().hex,
        submission_number=row.number,
        version=row.version,
        change=change,
        state=to,
        actor=actor,
        reason=reason,
        details=dict(details or {}),
        request_id=request_id or None,
        create_time=now,
    )
    session.add(event)
    return event


class Events:
    """Reads events and receipts, and keeps the audit chain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, parent: SubmissionName, cursor: Cursor, who: Principal) -> Page[Event]:
        """The events of a submission that are somebody's to know, oldest first.

        Raises:
            SubmissionNotFound, InvalidPageToken: there is none.
        """
        with self._database.reading() as session:
            submission = _submission(session, parent)
            query = _events().where(EventRow.submission_number == submission.number)
            if not who.knows(submission.organisation or ""):
                query = query.where(EventRow.change.not_in(PRIVATE_CHANGES))
            return _page(session, query, cursor)

    def board_changes(self, parent: BenchmarkName, cursor: Cursor) -> Page[Event]:
        """What changed a board, oldest first. Raises `BenchmarkNotFound`, `InvalidPageToken`."""
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            query = _events().where(SubmissionRow.benchmark_number == benchmark.number)
            return _page(session, query.where(EventRow.change.in_(BOARD_CHANGES)), cursor)

    def receipt(self, name: SubmissionName, version: int = 0) -> Receipt:
        """The receipt that was signed with an event, by default the latest.

        Raises:
            SubmissionNotFound, ReceiptNotFound: there is none.
        """
        with self._database.reading() as session:
            query = select(ReceiptRow).join(EventRow, EventRow.number == ReceiptRow.event_number)
            query = query.where(ReceiptRow.submission_number == _submission(session, name).number)
            if version:
                query = query.where(EventRow.version == version)
            row = session.scalars(query.order_by(ReceiptRow.event_number.desc()).limit(1)).first()
            if row is None:
                raise ReceiptNotFound(
                    f"{name} has no receipt{f' of version {version}' if version else ''}", name=name
                )
            return Receipt(row.payload, row.signature)

    def chain(self) -> Head:
        """Joins the events that are not in the chain yet to it; the head afterwards."""
        while True:
            # Another registry may chain the same events: places are unique, so one of the two gives
            # up.
            with contextlib.suppress(IntegrityError), self._database.writing() as session:
                head, joined = self._chain_some(session)
                if joined < CHAIN_EVENTS:
                    return head

    def head(self) -> Head:
        """The last link as it stands."""
        with self._database.reading() as session:
            return _head(session)

    def links(self, after_place: int, batch: int, who: Principal) -> Iterator[Sequence[AuditEvent]]:
        """The chain after a place, `batch` links at a time; sealed where `who` may not know
        everything.

        Raises:
            AuditMismatch: there is something that is no event any more.
        """
        while True:
            with self._database.reading() as session:
                query = (
                    _events()
                    .where(EventRow.place > after_place)
                    .order_by(EventRow.place)
                    .limit(batch)
                )
                try:
                    links = [_link_for(who, *found) for found in session.execute(query)]
                except (TypeError, ValueError, AttributeError) as error:
                    message = f"an event after number {after_place} of the audit chain is not one any more: {error}"
                    raise AuditMismatch(message, place=after_place) from None
            if not links:
                return
            yield links
            after_place = links[-1].place

    def _chain_some(self, session: Session) -> tuple[Head, int]:
        head = _head(session)
        # Events of one submission are numbered in the order in which they happened: its row is
        # locked meanwhile.
        query = (
            _events().where(EventRow.place.is_(None)).order_by(EventRow.number).limit(CHAIN_EVENTS)
        )
        found = session.execute(query).all()
        for event, submission, benchmark in found:
            event.place = head.place + 1
            event.digest = _link(event, submission, benchmark).link(head.digest)
            head = Head(event.place, event.digest)
        return head, len(found)


def _events() -> Select[EventRow, SubmissionRow, BenchmarkRow]:
    return (
        select(EventRow, SubmissionRow, BenchmarkRow)
        .join(SubmissionRow, SubmissionRow.number == EventRow.submission_number)
        .join(BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number)
    )


def _submission(session: Session, name: SubmissionName) -> SubmissionRow:
    query = select(SubmissionRow).join(
        BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number
    )
    row = session.scalar(
        query.where(SubmissionRow.id == name.submission, BenchmarkRow.id == name.benchmark)
    )
    if row is None:
        raise SubmissionNotFound(f"{name} does not exist here", name=name)
    return row


def _page(
    session: Session, query: Select[EventRow, SubmissionRow, BenchmarkRow], cursor: Cursor
) -> Page[Event]:
    found = session.execute(after(session, query, EventRow, cursor)).all()
    return cursor.page([_event(*rows) for rows in found], lambda event: event.id)


def _head(session: Session) -> Head:
    query = select(EventRow.place, EventRow.digest).where(EventRow.place.is_not(None))
    last = session.execute(query.order_by(EventRow.place.desc()).limit(1)).one_or_none()
    return Head(last.place or 0, last.digest or "") if last else Head()


def _event(row: EventRow, submission: SubmissionRow, benchmark: BenchmarkRow) -> Event:
    return Event(
        id=row.id,
        submission=str(SubmissionName(benchmark.id, submission.id)),
        version=row.version,
        change=Change(row.change),
        state=SubmissionState(row.state),
        actor=row.actor,
        reason=row.reason,
        details=row.details,
        time=row.create_time,
    )


def _link_for(
    who: Principal, row: EventRow, submission: SubmissionRow, benchmark: BenchmarkRow
) -> AuditEvent:
    """A link as somebody may see it: one that tells of others' drafts, or of what others' runs went
    through, sealed."""
    link = _link(row, submission, benchmark)
    public = submission.state in WAS_ON_BOARD and row.change not in PRIVATE_CHANGES
    return link if public or who.knows(submission.organisation or "") else link.sealed()


def _link(row: EventRow, submission: SubmissionRow, benchmark: BenchmarkRow) -> AuditEvent:
    """Raises `TypeError`, `ValueError` or `AttributeError` for what the registry cannot have
    written."""
    for number in (row.place or 0, row.version, row.number):
        if type(number) is not int:
            raise TypeError(f"{number!r} is not a number")
    return AuditEvent(
        place=row.place or 0,
        submission=str(SubmissionName(benchmark.id, submission.id)),
        version=row.version,
        change=Change(row.change),
        state=SubmissionState(row.state),
        actor=row.actor,
        reason=row.reason,
        details=row.details,
        time=row.create_time.astimezone(UTC).isoformat(timespec="microseconds"),
        number=row.number,
        id=row.id,
        request_id=row.request_id or "",
        digest=row.digest or "",
    )
