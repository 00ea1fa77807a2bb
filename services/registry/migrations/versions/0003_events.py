"""Tables for events and receipts, and the columns of submissions that follow from events.

Existing submissions get two events: their creation and their current state, because nothing in
between was recorded. Downgrade loses events and receipts, and maps unknown states to the nearest
known ones.
"""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_UNCHAINED = sa.text("place IS NULL")
_ACTOR = "migration"
_CHANGES = {"queued": "queued", "running": "leased", "published": "published", "failed": "failed"}
_BACK = {
    "disputed": ("published", None),
    "superseded": ("failed", "SUPERSEDED"),
    "withdrawn": ("failed", "WITHDRAWN"),
    "cancelled": ("failed", "CANCELLED"),
}

_SUBMISSIONS = sa.table(
    "submissions",
    *(sa.column(name) for name in ("number", "state", "version", "failure")),
    sa.column("create_time", _TIME),
    sa.column("update_time", _TIME),
)
_EVENTS = sa.table(
    "events",
    *(
        sa.column(name)
        for name in (
            "id",
            "submission_number",
            "version",
            "change",
            "state",
            "actor",
            "reason",
            "details",
        )
    ),
    sa.column("create_time", _TIME),
)


def upgrade() -> None:
    """Adds columns and tables, and the events of existing submissions."""
    # Column by column: copying a table, as alembic does on SQLite, would break references to it.
    op.add_column(
        "submissions", sa.Column("corrections", sa.JSON(), nullable=False, server_default="{}")
    )
    op.add_column(
        "submissions", sa.Column("superseded_by", sa.String(32), nullable=False, server_default="")
    )
    op.add_column(
        "submissions", sa.Column("version", sa.Integer(), nullable=False, server_default="1")
    )
    op.create_index("ix_submissions_state", "submissions", ["state"])
    op.add_column("evaluations", sa.Column("started", _TIME, nullable=True))
    op.add_column("evaluations", sa.Column("progress_time", _TIME, nullable=True))
    op.add_column(
        "evaluations",
        sa.Column("images_before", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_table(
        "events",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("submission_number", _NUMBER, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("change", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("request_id", sa.String(32), nullable=True),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=True),
        sa.Column("digest", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_events"),
        sa.ForeignKeyConstraint(
            ["submission_number"], ["submissions.number"], name="fk_events_submission_number"
        ),
        sa.UniqueConstraint("id", name="uq_events_id"),
        sa.UniqueConstraint("place", name="uq_events_place"),
        sa.UniqueConstraint(
            "submission_number", "version", name="uq_events_submission_number_version"
        ),
        sa.UniqueConstraint(
            "submission_number", "request_id", name="uq_events_submission_number_request_id"
        ),
    )
    op.create_index(
        "ix_events_unchained",
        "events",
        ["number"],
        sqlite_where=_UNCHAINED,
        postgresql_where=_UNCHAINED,
    )
    op.create_table(
        "receipts",
        sa.Column("event_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("submission_number", _NUMBER, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("event_number", name="pk_receipts"),
        sa.ForeignKeyConstraint(
            ["event_number"], ["events.number"], name="fk_receipts_event_number"
        ),
        sa.ForeignKeyConstraint(
            ["submission_number"], ["submissions.number"], name="fk_receipts_submission_number"
        ),
    )
    op.create_index("ix_receipts_submission_number", "receipts", ["submission_number"])
    _write_events()


def downgrade() -> None:
    """Drops them."""
    bind = op.get_bind()
    for state, (before, reason) in _BACK.items():
        failure = (
            {"reason": reason, "message": f"it was {state}", "fault": "system"} if reason else None
        )
        of_it = _SUBMISSIONS.update().where(_SUBMISSIONS.c.state == state)
        values = {"state": before} | ({"failure": sa.cast(failure, sa.JSON())} if failure else {})
        bind.execute(of_it.values(values))
    evaluations = sa.table("evaluations", sa.column("state"))
    bind.execute(
        evaluations.update().where(evaluations.c.state == "cancelled").values(state="failed")
    )
    op.drop_table("receipts")
    op.drop_table("events")
    op.drop_index("ix_submissions_state", "submissions")
    for table, names in (
        ("evaluations", ("images_before", "progress_time", "started")),
        ("submissions", ("version", "superseded_by", "corrections")),
    ):
        for name in names:
            op.drop_column(table, name)


def _write_events() -> None:
    bind = op.get_bind()
    for row in bind.execute(sa.select(_SUBMISSIONS).order_by(_SUBMISSIONS.c.number)).all():
        events = [("created", "awaiting_artifact", row.create_time)]
        if row.state in _CHANGES:
            events.append((_CHANGES[row.state], row.state, row.update_time))
        for version, (change, state, time) in enumerate(events, start=1):
            values = {
                "id": uuid.uuid4().hex,
                "submission_number": row.number,
                "version": version,
                "change": change,
                "state": state,
                "actor": _ACTOR,
                "reason": "",
                "details": "{}",
                "create_time": time,
            }
            bind.execute(_EVENTS.insert(), values)
        bind.execute(
            _SUBMISSIONS.update()
            .where(_SUBMISSIONS.c.number == row.number)
            .values(version=len(events))
        )
