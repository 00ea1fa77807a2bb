"""Dumps all rows of a registry's database as JSON, and loads them into an empty database.

Both databases have the same revision. Tables and columns are read from the database, so that this
module works with every version of the code.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

Rows = dict[str, dict[str, list[Any]]]
"""The values of each column of each table, in the order of the table's primary key."""


def dump(connection: sa.Connection) -> Rows:
    """Returns all rows of all tables but alembic's own."""
    rows: Rows = {}
    for table in _tables(connection):
        table_rows = connection.execute(sa.select(table).order_by(*table.primary_key)).all()
        rows[table.name] = {
            column.name: [_plain(row[index]) for row in table_rows]
            for index, column in enumerate(table.columns)
        }
    return rows


def load(connection: sa.Connection, rows: Rows) -> None:
    """Inserts the rows of a dump into empty tables."""
    for table in _tables(connection):
        columns = rows[table.name]
        decoders = [_decoder(table.columns[name].type) for name in columns]
        values = [
            {
                name: decode(value)
                for name, decode, value in zip(columns, decoders, row, strict=True)
            }
            for row in zip(*columns.values(), strict=True)
        ]
        if any(isinstance(column.type, sa.JSON) for column in table.columns):
            # In an insert of many rows, None would become the JSON value null.
            for row_values in values:
                connection.execute(table.insert().values(row_values))
        elif values:
            connection.execute(table.insert(), values)
        if values and connection.dialect.name == "postgresql" and "number" in columns:
            sequence = sa.func.pg_get_serial_sequence(table.name, "number")
            connection.execute(sa.select(sa.func.setval(sequence, max(columns["number"]))))


def write(rows: Rows, file: Path) -> None:
    """Writes a dump to a file; the same rows give the same bytes."""
    content = json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()
    file.write_bytes(gzip.compress(content, mtime=0))


def read(file: Path) -> Rows:
    """Returns the dump in a file that `write` wrote."""
    rows: Rows = json.loads(gzip.decompress(file.read_bytes()))
    return rows


def changed(before: Rows, after: Rows) -> dict[str, Any]:
    """Returns the new values of each column of `before` that differs in `after`; None if absent."""
    return {
        f"{table}.{column}": after.get(table, {}).get(column)
        for table, columns in before.items()
        for column, values in columns.items()
        if after.get(table, {}).get(column) != values
    }


def downgraded(connection: sa.Connection, config: Config, revision: str, *targets: str) -> Rows:
    """Returns the rows after a downgrade to a revision and upgrades to each of `targets`.

    `config` is alembic's. All changes are rolled back; both databases roll schema changes back,
    too.
    """
    config.attributes["connection"] = connection
    with connection.begin() as transaction:
        command.downgrade(config, revision)
        for target in targets:
            command.upgrade(config, target)
        rows = dump(connection)
        transaction.rollback()
    return rows


def there_and_back(connection: sa.Connection, config: Config, revision: str) -> Rows:
    """Returns the rows after a downgrade to a revision and an upgrade to the newest one."""
    return downgraded(connection, config, revision, "head")


def digest(values: Any) -> str:
    """Returns a short digest of the values of a column."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _tables(connection: sa.Connection) -> list[sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def _decoder(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any]:
    def decode(value: Any) -> Any:
        if value is None:
            return sa.null() if isinstance(kind, sa.JSON) else None
        if isinstance(kind, sa.DateTime):
            moment = datetime.fromisoformat(value)
            return moment if kind.timezone else moment.replace(tzinfo=None)
        return base64.b64decode(value) if isinstance(kind, sa.LargeBinary) else value

    return decode
