"""Rows of a board are replayed and reproduced: evaluations have purposes, submissions more files.

All existing evaluations measure. The way back deletes the replays and reproductions that have not
changed a row. It refuses a database with one that has, or with a script, a source bundle or a
tolerance, which earlier versions cannot read.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_EVENTS = sa.table("events", sa.column("change"))
_CHANGES = ("replayed", "reproduced", "not_reproduced", "replay_differed")
_BENCHMARKS = sa.table("benchmarks", sa.column("id"), sa.column("spec", sa.JSON()))
_SUBMISSIONS = sa.table(
    "submissions", sa.column("id"), sa.column("kind"), sa.column("manifest", sa.JSON())
)
_EVALUATIONS = sa.table("evaluations", sa.column("number"), sa.column("purpose"))
_ADDED_FIELDS = {"bundle_sha256", "entry_point", "lock", "wheelhouse_sha256"}
_OF_EVALUATIONS = ("purpose", "avoids", "requested_by", "agreement", "usage", "limits")


def upgrade() -> None:
    """Adds the tables and columns."""
    op.create_table(
        "submission_parts",
        sa.Column("submission_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("part", sa.String(32), nullable=False),
        sa.Column("artifact_sha256", sa.String(64)),
        sa.Column("declared_bytes", sa.BigInteger(), nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("submission_number", "part", name="pk_submission_parts"),
        sa.ForeignKeyConstraint(
            ["submission_number"],
            ["submissions.number"],
            name="fk_submission_parts_submission_number",
        ),
        sa.ForeignKeyConstraint(
            ["artifact_sha256"], ["artifacts.sha256"], name="fk_submission_parts_artifact_sha256"
        ),
    )
    for table, column in (("evaluation_samples", "names"), ("script_outputs", "output")):
        op.create_table(
            table,
            sa.Column("evaluation_number", _NUMBER, autoincrement=False, nullable=False),
            sa.Column(column, sa.LargeBinary(), nullable=False),
            sa.PrimaryKeyConstraint("evaluation_number", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(
                ["evaluation_number"],
                ["evaluations.number"],
                name=f"fk_{table}_evaluation_number",
            ),
        )
    op.add_column(
        "evaluations",
        sa.Column("purpose", sa.String(32), nullable=False, server_default="measure"),
    )
    op.add_column("evaluations", sa.Column("avoids", sa.Text()))
    op.add_column("evaluations", sa.Column("requested_by", sa.String(63)))
    for column in ("agreement", "usage", "limits"):
        op.add_column("evaluations", sa.Column(column, sa.JSON()))
    op.add_column("submissions", sa.Column("agreements", sa.JSON()))


def downgrade() -> None:
    """Drops them. Raises `ValueError` for what earlier versions cannot read."""
    bind = op.get_bind()
    _check_readable(bind)
    others = sa.select(_EVALUATIONS.c.number).where(_EVALUATIONS.c.purpose != "measure")
    for name in ("predictions", "confirmations", "derived_artifacts"):
        table = sa.table(name, sa.column("evaluation_number"))
        bind.execute(sa.delete(table).where(table.c.evaluation_number.in_(others)))
    for name in ("script_outputs", "evaluation_samples", "submission_parts"):
        op.drop_table(name)
    bind.execute(sa.delete(_EVALUATIONS).where(_EVALUATIONS.c.purpose != "measure"))
    op.drop_column("submissions", "agreements")
    for column in reversed(_OF_EVALUATIONS):
        op.drop_column("evaluations", column)


def _check_readable(bind: sa.Connection) -> None:
    changed = sa.select(_EVENTS).where(_EVENTS.c.change.in_(_CHANGES)).limit(1)
    if bind.execute(changed).first():
        _refuse("the audit chain", "a replay or a reproduction of a row")
    for benchmark, spec in bind.execute(sa.select(_BENCHMARKS)):
        if "reproduction_tolerance" in spec:
            _refuse(f"benchmark {benchmark}", "a tolerance of reproductions")
    for submission, kind, manifest in bind.execute(sa.select(_SUBMISSIONS)):
        if added := _added(kind, manifest):
            _refuse(f"submission {submission}", added)


def _added(kind: str, manifest: Mapping[str, Any]) -> str:
    """Returns what earlier versions cannot read of a submission; empty if they can read all."""
    if kind == "script":
        return "kind script"
    return ", ".join(sorted(_ADDED_FIELDS & (manifest.get("reproduction") or {}).keys()))


def _refuse(record: str, added: str) -> None:
    message = (
        f"{record} has {added}, which versions before revision 0016 cannot read; keep 0016, or "
        "restore a backup from before it was created"
    )
    raise ValueError(message)
