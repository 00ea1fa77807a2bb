"""The events of submissions and benchmarks, the receipts, and the audit chain.

An event is written in the transaction of its change, so neither exists without the other. `chain`
appends events to the audit chain later, because appending them in the transaction of the change
would serialise the changes of all submissions.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cxreval.audit.chain import AuditEvent, Head
from cxreval.audit.receipts import Receipt
from cxreval.errors import AuditMismatch, ReceiptNotFound
from cxreval.errors import SubmissionState as WrongState
from cxreval.manifest.model import Kind
from cxreval.records import Change, SubmissionState
from cxreval.resource_names import BenchmarkName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import Event
from services.registry.domain.states import state_after
from services.registry.store.benchmarks import benchmark_row
from services.registry.store.database import Database
from services.registry.store.models import BenchmarkRow, EventRow, ReceiptRow, SubmissionRow
from services.registry.store.pages import after
from services.registry.store.tenancy import events_visible_to, visible_submission

CHAIN_EVENTS = 500
"""Maximum number of events that are appended to the chain in one transaction."""

BOARD_CHANGES = (
    Change.PUBLISHED, Change.DISPUTED, Change.RESOLVED, Change.CORRECTED,
    Change.SUPERSEDED, Change.WITHDRAWN, Change.REINSTATED, Change.REPLAYED, Change.REPLAY_DIFFERED,
    Change.REPRODUCED, Change.NOT_REPRODUCED,
)  # fmt: skip
"""The changes of a submission that change a board."""


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
    """Applies a change to a submission, whose row is locked, and returns the recorded event.

    Raises:
        SubmissionState: the submission's state forbids the change.
    """
    state = new_state = SubmissionState(row.state)
    if change is not Change.CREATED:
        ready = row.kind == Kind.ENDPOINT or row.artifact_sha256 is not None
        allowed_state = state_after(state, change, ready=ready)
        if allowed_state is None:
            message = f"submission {row.id} is {state}: it cannot be {change}"
            raise WrongState(message, field="name", state=state, change=change)
        new_state = allowed_state
    row.version = (row.version or 0) + 1
    row.state, row.update_time = new_state, now
    session.flush()
    event = EventRow(
        id=uuid.uuid4().hex,
        submission_number=row.number,
        version=row.version,
        change=change,
        state=new_state,
        actor=actor,
        reason=reason,
        details=dict(details or {}),
        request_id=request_id or None,
        create_time=now,
    )
    session.add(event)
    return event


class Events:
    """Reads events and receipts, and appends events to the audit chain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, parent: SubmissionName, cursor: Cursor, caller: Principal) -> Page[Event]:
        """Returns a page of a submission's events that the caller may read, oldest first.

        Raises:
            SubmissionNotFound: there is no such submission.
            InvalidPageToken: the cursor is of another list.
        """
        with self._database.reading() as session:
            submission = visible_submission(session, parent, caller)
            query = _events().where(EventRow.submission_number == submission.number)
            return _page(session, query.where(events_visible_to(caller)), cursor)

    def board_changes(
        self, parent: BenchmarkName, cursor: Cursor, *, newest_first: bool = False
    ) -> Page[Event]:
        """Returns a page of the events that changed a board, oldest or newest first.

        Raises `BenchmarkNotFound`, `InvalidPageToken`.
        """
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            query = _events().where(SubmissionRow.benchmark_number == benchmark.number)
            query = query.where(EventRow.change.in_(BOARD_CHANGES))
            return _page(session, query, cursor, newest_first=newest_first)

    def receipt(self, name: SubmissionName, caller: Principal, version: int = 0) -> Receipt:
        """Returns the receipt that was signed with the event `version`; 0 is the latest receipt.

        Raises:
            SubmissionNotFound: there is no such submission.
            ReceiptNotFound: it has no such receipt.
        """
        with self._database.reading() as session:
            submission = visible_submission(session, name, caller)
            query = select(ReceiptRow).join(EventRow, EventRow.number == ReceiptRow.event_number)
            query = query.where(ReceiptRow.submission_number == submission.number)
            if version:
                query = query.where(EventRow.version == version)
            row = session.scalars(query.order_by(ReceiptRow.event_number.desc()).limit(1)).first()
            if row is None:
                raise ReceiptNotFound(
                    f"{name} has no receipt{f' of version {version}' if version else ''}", name=name
                )
            return Receipt(row.payload, row.signature)

    def chain(self) -> Head:
        """Appends all events that are not in the audit chain yet, and returns its new head."""
        while True:
            # Another registry may append the same events. Positions are unique, so one of the two
            # transactions fails and is repeated.
            with contextlib.suppress(IntegrityError), self._database.writing() as session:
                head, appended = self._append_to_chain(session)
                if appended < CHAIN_EVENTS:
                    return head

    def head(self) -> Head:
        """Returns the head of the audit chain: the position and digest of its last link."""
        with self._database.reading() as session:
            return _head(session)

    def links(self, position: int, batch: int, caller: Principal) -> Iterator[Sequence[AuditEvent]]:
        """Yields the links of the audit chain after a position, `batch` at a time.

        Events that the caller may not read are sealed.

        Raises:
            AuditMismatch: a stored event is malformed.
        """
        while True:
            with self._database.reading() as session:
                query = (
                    _events()
                    .add_columns(events_visible_to(caller))
                    .where(EventRow.place > position)
                    .order_by(EventRow.place)
                    .limit(batch)
                )
                try:
                    links = [
                        _link(*rows) if visible else _link(*rows).sealed()
                        for *rows, visible in session.execute(query)
                    ]
                except (TypeError, ValueError, AttributeError) as error:
                    message = f"an event after position {position} of the audit chain is malformed"
                    message += f": {error}"
                    raise AuditMismatch(message, place=position) from None
            if not links:
                return
            yield links
            position = links[-1].place

    def _append_to_chain(self, session: Session) -> tuple[Head, int]:
        """Appends at most `CHAIN_EVENTS` events; returns the new head and their number."""
        head = _head(session)
        # The events of a submission are numbered in the order of its changes, because each change
        # locks the submission's row.
        query = (
            _events().where(EventRow.place.is_(None)).order_by(EventRow.number).limit(CHAIN_EVENTS)
        )
        rows = session.execute(query).all()
        for event, submission, benchmark in rows:
            event.place = head.place + 1
            event.digest = _link(event, submission, benchmark).link(head.digest)
            head = Head(event.place, event.digest)
        return head, len(rows)


def _events() -> Select[EventRow, SubmissionRow | None, BenchmarkRow]:
    return (
        select(EventRow, SubmissionRow, BenchmarkRow)
        .outerjoin(SubmissionRow, SubmissionRow.number == EventRow.submission_number)
        .join(
            BenchmarkRow,
            BenchmarkRow.number
            == func.coalesce(SubmissionRow.benchmark_number, EventRow.benchmark_number),
        )
    )


def _page(
    session: Session,
    query: Select[EventRow, SubmissionRow | None, BenchmarkRow],
    cursor: Cursor,
    *,
    newest_first: bool = False,
) -> Page[Event]:
    page = after(session, query, EventRow, cursor, newest_first=newest_first)
    rows = session.execute(page).all()
    return cursor.page([_event(*row) for row in rows], lambda event: event.id)


def _head(session: Session) -> Head:
    query = select(EventRow.place, EventRow.digest).where(EventRow.place.is_not(None))
    last = session.execute(query.order_by(EventRow.place.desc()).limit(1)).one_or_none()
    return Head(last.place or 0, last.digest or "") if last else Head()


def _name(submission: SubmissionRow | None, benchmark: BenchmarkRow) -> str:
    """Returns the resource name of the submission of an event, or of its benchmark."""
    if submission is None:
        return str(BenchmarkName(benchmark.id))
    return str(SubmissionName(benchmark.id, submission.id))


def _event(row: EventRow, submission: SubmissionRow | None, benchmark: BenchmarkRow) -> Event:
    return Event(
        id=row.id,
        submission=_name(submission, benchmark),
        version=row.version,
        change=Change(row.change),
        state=SubmissionState(row.state),
        actor=row.actor,
        reason=row.reason,
        details=row.details,
        time=row.create_time,
    )


def _link(row: EventRow, submission: SubmissionRow | None, benchmark: BenchmarkRow) -> AuditEvent:
    """Returns the link of an event of a submission, or of a benchmark.

    Raises:
        TypeError, ValueError, AttributeError: a stored value has a form that the registry does not
            write.
    """
    for number in (row.place or 0, row.version, row.number):
        if type(number) is not int:
            raise TypeError(f"{number!r} is not a number")
    return AuditEvent(
        place=row.place or 0,
        submission=_name(submission, benchmark),
        version=row.version,
        change=Change(row.change),
        state=SubmissionState(row.state) if row.state else "",
        actor=row.actor,
        reason=row.reason,
        details=row.details,
        time=row.create_time.astimezone(UTC).isoformat(timespec="microseconds"),
        number=row.number,
        id=row.id,
        request_id=row.request_id or "",
        digest=row.digest or "",
    )
