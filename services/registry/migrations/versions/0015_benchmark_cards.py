"""Benchmarks have cards; a change of a card is an event of the benchmark in the audit chain.

The way back loses the cards. It refuses a database with such an event, which earlier versions
cannot read.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_EVENTS = sa.table("events", sa.column("benchmark_number"))
_OPTIONAL = "submission_number INTEGER"
_REQUIRED = f"{_OPTIONAL} NOT NULL"


def upgrade() -> None:
    """Adds the columns, and lets an event have no submission."""
    op.add_column("benchmarks", sa.Column("card", sa.JSON()))
    _require_submission(required=False)
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "ALTER TABLE events ADD COLUMN benchmark_number INTEGER "
            "CONSTRAINT fk_events_benchmark_number REFERENCES benchmarks (number)"
        )
    else:
        op.add_column("events", sa.Column("benchmark_number", _NUMBER))
        op.create_foreign_key(
            "fk_events_benchmark_number", "events", "benchmarks", ["benchmark_number"], ["number"]
        )
    op.create_index(
        "uq_events_benchmark_number_version",
        "events",
        ["benchmark_number", "version"],
        unique=True,
    )


def downgrade() -> None:
    """Drops them. Raises `ValueError` if a card was changed."""
    changed = sa.select(_EVENTS).where(_EVENTS.c.benchmark_number.is_not(None)).limit(1)
    if op.get_bind().execute(changed).first():
        raise ValueError(
            "the audit chain has a change of a benchmark's card, which versions before revision "
            "0015 cannot read; keep 0015, or restore a backup from before the change"
        )
    op.drop_index("uq_events_benchmark_number_version", "events")
    op.drop_column("events", "benchmark_number")
    _require_submission(required=True)
    op.drop_column("benchmarks", "card")


def _require_submission(*, required: bool) -> None:
    bind = op.get_bind()
    if bind.dialect.name != "sqlite":
        op.alter_column("events", "submission_number", nullable=not required)
        return
    # SQLite has no statement for it. A new table cannot take the place of this one, because
    # receipts refer to it. So the stored declaration is changed, as section 7 of
    # https://www.sqlite.org/lang_altertable.html describes it.
    before, after = (_OPTIONAL, _REQUIRED) if required else (_REQUIRED, _OPTIONAL)
    version = bind.exec_driver_sql("PRAGMA schema_version").scalar_one()
    bind.exec_driver_sql("PRAGMA writable_schema=ON")
    changed = bind.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) "
        "WHERE type = 'table' AND name = 'events' AND instr(sql, ?) RETURNING name",
        (before, after, before),
    ).fetchall()
    bind.exec_driver_sql(f"PRAGMA schema_version={version + 1}")
    bind.exec_driver_sql("PRAGMA writable_schema=RESET")
    if len(changed) != 1:
        raise ValueError(f"the table events is not declared with {before}")
