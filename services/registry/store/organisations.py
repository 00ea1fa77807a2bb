"""Organisations and their API keys. Each change is recorded as an admin event in the same
transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxreval.errors import ApiKeyExists, ApiKeyNotFound, OrganisationExists, OrganisationNotFound
from cxreval.records import AdminEvent, Quota, Role
from cxreval.resource_names import KeyName, OrganisationName
from services.registry.domain.access import (
    OPERATORS,
    ApiKey,
    Organisation,
    matches,
    new_key,
    parts,
    unknown_key,
)
from services.registry.domain.pages import Cursor, Page
from services.registry.store.database import Database, insert_missing
from services.registry.store.models import AdminEventRow, ApiKeyRow, OrganisationRow
from services.registry.store.pages import after

ADMIN_EVENTS = 500
"""Most admin events in one answer."""


def organisation_row(
    session: Session, name: OrganisationName, *, lock: bool = False
) -> OrganisationRow:
    """The row of an organisation. `lock`: no other transaction may change it, or add to its usage,
    until this one ends. Raises `OrganisationNotFound`."""
    query = select(OrganisationRow).where(OrganisationRow.id == name.organisation)
    row = session.scalar(query.with_for_update(key_share=True) if lock else query)
    if row is None:
        raise OrganisationNotFound(f"{name} does not exist here", name=name)
    return row


def organisation(row: OrganisationRow) -> Organisation:
    """An organisation out of its row."""
    quota = Quota(row.submissions_per_day, row.concurrent, row.stored_bytes)
    return Organisation(row.id, row.display_name, quota, row.create_time)


def record_admin_event(
    session: Session, now: datetime, actor: str, action: str, target: str
) -> None:
    """Adds an admin event to the transaction of its change."""
    session.add(AdminEventRow(create_time=now, actor=actor, action=action, target=target))


class Organisations:
    """Creates, changes and reads organisations and keys."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def create(
        self, name: OrganisationName, display_name: str, quota: Quota, actor: str
    ) -> Organisation:
        """Creates an organisation, or returns the existing one with the same values. Raises
        `OrganisationExists`."""
        with self._database.writing() as session:
            self._add_missing(session, name, display_name, quota, actor)
            existing = organisation(organisation_row(session, name))
            if (existing.display_name, existing.quota) != (display_name, quota):
                message = f"{name} exists already, with another display name or quota; "
                message += "use another identifier, or UpdateOrganisation"
                raise OrganisationExists(
                    message, field="organisation.name", name=name, expected="a new name"
                )
            return existing

    def update(
        self, name: OrganisationName, display_name: str, quota: Quota, actor: str
    ) -> Organisation:
        """Replaces an organisation's display name and quota. Raises `OrganisationNotFound`."""
        with self._database.writing() as session:
            row = organisation_row(session, name, lock=True)
            row.display_name = display_name
            row.submissions_per_day, row.concurrent = quota.submissions_per_day, quota.concurrent
            row.stored_bytes = quota.stored_bytes
            self._record(session, actor, "organisation_updated", str(name))
            return organisation(row)

    def page(self, cursor: Cursor) -> Page[Organisation]:
        """A page of organisations, oldest first. Raises `InvalidPageToken`."""
        with self._database.reading() as session:
            rows = session.scalars(
                after(session, select(OrganisationRow), OrganisationRow, cursor)
            ).all()
            return cursor.page([organisation(row) for row in rows], lambda item: item.id)

    def create_key(
        self,
        parent: OrganisationName,
        role: Role,
        expire_time: datetime | None,
        actor: str,
        request_id: str = "",
    ) -> tuple[ApiKey, str]:
        """Creates a key; returns it and its text, which is not stored.

        Raises:
            OrganisationNotFound: there is no such organisation.
            ApiKeyExists: a request with this id has created a key before.
        """
        with self._database.writing() as session:
            organisation_row(session, parent)
            return self._add_key(session, parent, role, expire_time, actor, request_id)

    def create_operator_key(self, actor: str) -> str:
        """Creates an operator's key and returns its text. Creates its organisation, `operators`, if
        it does not exist."""
        name = OrganisationName(OPERATORS)
        with self._database.writing() as session:
            self._add_missing(session, name, "Operators", Quota(), actor)
            return self._add_key(session, name, Role.OPERATOR, None, actor)[1]

    def keys(self, parent: OrganisationName, cursor: Cursor) -> Page[ApiKey]:
        """A page of an organisation's keys, oldest first. Raises `OrganisationNotFound`,
        `InvalidPageToken`."""
        with self._database.reading() as session:
            organisation_row(session, parent)
            query = select(ApiKeyRow).where(ApiKeyRow.organisation == parent.organisation)
            rows = session.scalars(after(session, query, ApiKeyRow, cursor)).all()
            return cursor.page([_key(row) for row in rows], lambda item: item.id)

    def revoke_key(self, name: KeyName, actor: str) -> ApiKey:
        """Revokes a key. Idempotent. Raises `ApiKeyNotFound`."""
        with self._database.writing() as session:
            query = select(ApiKeyRow).where(
                ApiKeyRow.id == name.key, ApiKeyRow.organisation == name.organisation
            )
            row = session.scalar(query.with_for_update())
            if row is None:
                raise ApiKeyNotFound(f"{name} does not exist here", name=name)
            if row.revoke_time is None:
                row.revoke_time = self._clock()
                self._record(session, actor, "key_revoked", str(name))
            return _key(row)

    def key_of(self, text: str) -> ApiKey:
        """The key with this text. Raises `KeyUnknown`, after the same work for a wrong identifier
        as for a wrong secret."""
        identifier, secret = parts(text)
        with self._database.reading() as session:
            row = session.scalar(select(ApiKeyRow).where(ApiKeyRow.id == identifier))
        if not matches(row.secret_sha256 if row else None, secret) or row is None:
            raise unknown_key()
        return _key(row)

    def admin_events(self) -> list[AdminEvent]:
        """The latest admin events, newest first."""
        with self._database.reading() as session:
            query = select(AdminEventRow).order_by(AdminEventRow.number.desc()).limit(ADMIN_EVENTS)
            rows = session.scalars(query).all()
            return [AdminEvent(row.create_time, row.actor, row.action, row.target) for row in rows]

    def _add_missing(
        self, session: Session, name: OrganisationName, display_name: str, quota: Quota, actor: str
    ) -> None:
        row = {
            "id": name.organisation,
            "display_name": display_name,
            "create_time": self._clock(),
            **asdict(quota),
        }
        if insert_missing(session, OrganisationRow, [row]):
            self._record(session, actor, "organisation_created", str(name))

    def _add_key(
        self,
        session: Session,
        parent: OrganisationName,
        role: Role,
        expire_time: datetime | None,
        actor: str,
        request_id: str = "",
    ) -> tuple[ApiKey, str]:
        identifier, secret_sha256, text = new_key(f"{parent}/{request_id}" if request_id else "")
        key = ApiKey(identifier, parent.organisation, role, self._clock(), expire_time)
        row = {
            "id": key.id,
            "organisation": key.organisation,
            "role": key.role,
            "secret_sha256": secret_sha256,
            "create_time": key.create_time,
            "expire_time": key.expire_time,
        }
        if not insert_missing(session, ApiKeyRow, [row]):
            problem = "was created by this request before, and its text is not shown again"
            expected = "a new request_id; revoke the key if its text is lost"
            raise ApiKeyExists(
                f"{key.name} {problem}; expected {expected}", name=key.name, expected=expected
            )
        self._record(session, actor, "key_created", f"{key.name} ({role})")
        return key, text

    def _record(self, session: Session, actor: str, action: str, target: str) -> None:
        record_admin_event(session, self._clock(), actor, action, target)


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        row.id, row.organisation, Role(row.role), row.create_time, row.expire_time, row.revoke_time
    )
