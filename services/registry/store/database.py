"""The database, SQLite in a file or PostgreSQL: transactions and counts of states."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from cxreval.errors import ServiceUnavailable
from cxreval.extras import require_extra
from cxreval.records import EvaluationState, SubmissionState
from services.registry.store.models import Base, EvaluationRow, SubmissionRow

_log = logging.getLogger(__name__)
_BUSY_SECONDS = 10
_READING = "registry_reading"

# Errors of the database are logged without parameters: these may be tokens, contacts or key
# digests.
_QUIET: dict[str, Any] = {"hide_parameters": True}


class Database:
    """Opens transactions. Threads may share an instance."""

    def __init__(self, url: str) -> None:
        self.embedded = make_url(url).get_backend_name() == "sqlite"
        if not self.embedded:
            require_extra("postgres", "a PostgreSQL database", "psycopg")
        self.engine = (
            _sqlite(url) if self.embedded else create_engine(url, pool_pre_ping=True, **_QUIET)
        )
        # A reading transaction sees one snapshot, and the database refuses writes in it.
        options = (
            {}
            if self.embedded
            else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        reading = self.engine.execution_options(**{_READING: True}, **options)
        # A pool of its own, whose connections are never changed: this saves the round trips that
        # reset a connection and check that it is alive.
        self._autocommit = (
            self.engine
            if self.embedded
            else create_engine(
                url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, **_QUIET
            )
        )
        self._write = sessionmaker(self.engine, expire_on_commit=False)
        self._read = sessionmaker(reading, expire_on_commit=False)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that commits at the end of the block. On SQLite it holds the write lock
        from its beginning.

        Raises:
            ServiceUnavailable: the database does not answer.
        """
        with _answering(), self._write.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A read-only transaction on a snapshot of the database.

        Raises:
            ServiceUnavailable: the database does not answer.
        """
        with _answering(), self._read.begin() as session:
            yield session

    @contextmanager
    def at_once(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction of its own, without the round trips
        of BEGIN and COMMIT.

        Raises:
            ServiceUnavailable: the database does not answer.
        """
        with _answering(), self._autocommit.connect() as connection:
            yield connection

    def ping(self) -> None:
        """Raises `ServiceUnavailable` when the database does not answer."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def submissions_by_state(self) -> dict[str, int]:
        """How many submissions are in each state; states without any count 0."""
        query = select(SubmissionRow.state, func.count()).group_by(SubmissionRow.state)
        with self.reading() as session:
            return dict.fromkeys(SubmissionState, 0) | {
                row[0]: row[1] for row in session.execute(query)
            }

    def evaluations_by_state(self) -> dict[str, int]:
        """How many evaluations are in each state; states without any count 0."""
        query = select(EvaluationRow.state, func.count()).group_by(EvaluationRow.state)
        with self.reading() as session:
            return dict.fromkeys(EvaluationState, 0) | {
                row[0]: row[1] for row in session.execute(query)
            }

    def close(self) -> None:
        """Closes the connections."""
        self.engine.dispose()
        self._autocommit.dispose()


def insert_missing(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> int:
    """Inserts the rows whose unique keys do not exist yet; returns how many.

    Safe while other transactions insert the same rows.
    """
    if not rows:
        return 0
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    key = next(iter(table.__table__.primary_key))
    return len(
        session.scalars(dialect.insert(table).on_conflict_do_nothing().returning(key), rows).all()
    )


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        # The server is down, a lock timed out, or the pool has no free connection.
        _log.warning("the database does not answer", exc_info=error)
        raise ServiceUnavailable("the registry's database does not answer; retry later") from error


def _sqlite(url: str) -> Engine:
    file = make_url(url).database
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, **_QUIET)

    @event.listens_for(engine, "connect")
    def configure(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # the begin event below, not the driver, begins
        for pragma in (
            f"busy_timeout={_BUSY_SECONDS * 1000}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE: a transaction that reads first and writes later would fail if another one wrote
        # in between.
        reading = connection.get_execution_options().get(_READING, False)
        connection.exec_driver_sql(f"PRAGMA query_only={int(reading)}")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
