"""Migrations of the database. Revisions are in `versions/`; a test compares their result with
`store.models`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from cxreval import __version__
from services.chassis.config import ConfigError
from services.registry.store.models import Base


def upgrade(engine: Engine) -> None:
    """Migrates the database to the newest revision, in one transaction.

    Raises:
        ConfigError: it is a newer version's database, or another program's.
    """
    check_known(engine)
    config = _config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_known(engine: Engine) -> None:
    """Raises `ConfigError` unless this version can migrate the database."""
    with engine.connect() as connection:
        current = _current(connection)
        tables = inspect(connection).get_table_names()
    if current is None and (others := Base.metadata.tables.keys() & tables):
        raise ConfigError(
            f"database_url names a database that has a table {min(others)} of another program; "
            "name another one"
        )
    if current is not None and current not in _revisions():
        raise ConfigError(
            f"the database has revision {current}, and the newest that cxreval {__version__} knows "
            f"is {_head()}; start the version that migrated it, or restore a backup from before"
        )


def at_head(engine: Engine) -> bool:
    """Returns whether the database has the newest revision."""
    with engine.connect() as connection:
        return _current(connection) == _head()


def _current(connection: Connection) -> str | None:
    """Returns the revision of a database, None if it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


@cache
def _revisions() -> frozenset[str]:
    script = ScriptDirectory.from_config(_config())
    return frozenset(revision.revision for revision in script.walk_revisions())


@cache
def _head() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
