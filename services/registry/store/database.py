"""The database, SQLite in a file or PostgreSQL: transactions and counts of states."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from cxreval.errors import CxrevalError, DatabaseDamaged, ServiceUnavailable
from cxreval.extras import require_extra
from cxreval.files import no_space_left
from cxreval.records import EvaluationState, SubmissionState
from services.chassis.config import ConfigError
from services.registry.store.disk import is_full
from services.registry.store.models import Base, EvaluationRow, SubmissionRow

_log = logging.getLogger(__name__)
_BUSY_SECONDS = 10
_READING = "registry_reading"

# Errors of the database are logged without parameters: these may be tokens, contacts or key
# digests.
_QUIET: dict[str, Any] = {"hide_parameters": True}


_TROUBLE_SECONDS = 5.0
"""How long a database counts as full or failing after an error that says so."""

# Primary result codes of SQLite, and SQLSTATEs of PostgreSQL.
_DAMAGED = frozenset({11, 26, "XX001", "XX002"})  # CORRUPT, NOTADB
_FULL = frozenset({13, "53100"})
_FAILING = frozenset({8, 10, 14, "58030"})  # READONLY, IOERR, CANTOPEN

_SQLITE_HEADER = b"SQLite format 3\0"


class Database:
    """Opens transactions. Threads may share an instance.

    `trouble` returns what errors of earlier transactions say about the database: it may answer
    some statements and not others.
    """

    def __init__(self, url: str) -> None:
        self._damage = ""
        self._troubled: tuple[float, CxrevalError] | None = None
        self.file = ""
        """The SQLite file; empty for PostgreSQL."""
        self.embedded = make_url(url).get_backend_name() == "sqlite"
        if self.embedded:
            self.file = make_url(url).database or ""
        else:
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
            StorageFull, DatabaseDamaged: it cannot store more, or is damaged.
        """
        with self.named_errors(), self._write.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A read-only transaction on a snapshot of the database.

        Raises:
            ServiceUnavailable: the database does not answer.
            StorageFull, DatabaseDamaged: it cannot store more, or is damaged.
        """
        with self.named_errors(), self._read.begin() as session:
            yield session

    @contextmanager
    def at_once(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction of its own, without the round trips
        of BEGIN and COMMIT.

        Raises:
            ServiceUnavailable: the database does not answer.
            StorageFull, DatabaseDamaged: it cannot store more, or is damaged.
        """
        with self.named_errors(), self._autocommit.connect() as connection:
            yield connection

    def ping(self) -> None:
        """Raises `ServiceUnavailable` when the database does not answer."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def check_integrity(self) -> None:
        """Checks the structure of an SQLite file, whose every page it reads; see `trouble`.

        PostgreSQL has no such check that is cheap; its data checksums find damage when it is read.
        """
        if self.embedded:
            with self.named_errors(), self.engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                (result,) = driver.execute("PRAGMA quick_check(1)").fetchone()
            if result != "ok":
                self._mark_damaged(result)

    def trouble(self) -> CxrevalError | None:
        """Returns `DatabaseDamaged` once anything has shown damage, until the process ends; else
        the `StorageFull` or `ServiceUnavailable` of the last 5 seconds; else None."""
        if self._damage:
            return DatabaseDamaged(f"the registry's database is damaged ({self._damage})")
        if self._troubled and time.monotonic() < self._troubled[0]:
            return self._troubled[1]
        return None

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Raises `ServiceUnavailable`, `StorageFull` or `DatabaseDamaged` for errors of the
        database that no other statement would avoid."""
        try:
            yield
        except (DBAPIError, PoolTimeout, sqlite3.Error) as error:
            named = self._named(error)
            if named is None:
                raise
            _log.warning(named.message, exc_info=error)
            raise named from error

    def _named(self, error: Exception) -> CxrevalError | None:
        """Returns the named error for an error of the driver, and keeps it for `trouble`."""
        cause: Any = error.orig if isinstance(error, DBAPIError) else error
        number = getattr(cause, "sqlite_errorcode", None)
        code = getattr(cause, "sqlstate", None) if number is None else number & 0xFF
        if code in _DAMAGED or str(cause).startswith("Could not decode to UTF-8"):
            self._mark_damaged(str(cause))
            return self.trouble()
        if code in _FULL or self._lacks_room(code, str(cause)):
            self._keep(no_space_left("the registry's database, and nothing was recorded"))
            return self.trouble()
        if code in _FAILING:
            message = f"the registry's database fails to read or write its files ({cause})"
            self._keep(ServiceUnavailable(f"{message}; retry later"))
            return self.trouble()
        if isinstance(error, OperationalError | PoolTimeout):
            # The server is down, a lock timed out, or the pool has no free connection.
            return ServiceUnavailable("the registry's database does not answer; retry later")
        return None

    def _lacks_room(self, code: int | str | None, text: str) -> bool:
        """Returns whether an error that has another code is that of a full disk.

        SQLite says that it cannot read, write or open a file that it creates beside the database.
        A PostgreSQL server that ends the connection gives no SQLSTATE.
        """
        if not self.embedded:
            return code is None and os.strerror(errno.ENOSPC) in text
        return code in _FAILING and is_full(Path(self.file).parent)

    def _keep(self, error: CxrevalError) -> None:
        self._troubled = time.monotonic() + _TROUBLE_SECONDS, error

    def _mark_damaged(self, finding: str) -> None:
        self._damage = self._damage or " ".join(finding.split())[:200]

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


def _check_file(file: Path) -> None:
    """Creates the directory of an SQLite file. Raises `ConfigError` for what SQLite cannot open."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            return
        if not file.is_file():
            kind = "a directory" if file.is_dir() else "no regular file"
            raise ConfigError(f"database_url names {file}, which is {kind}; expected a file")
        with file.open("rb") as content:
            header = content.read(len(_SQLITE_HEADER))
    except OSError as error:
        problem = f"database_url names {file}, which cannot be used: {error.strerror}"
        raise ConfigError(f"{problem}; expected a file that this user may write") from None
    if header and header != _SQLITE_HEADER:
        raise ConfigError(
            f"database_url names {file}, which is no SQLite database, or is damaged; name another "
            "file, or restore a backup"
        )


def _sqlite(url: str) -> Engine:
    file = make_url(url).database
    if file:
        _check_file(Path(file))
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
