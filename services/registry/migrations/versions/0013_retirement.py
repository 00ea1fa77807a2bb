"""Benchmarks can be retired.

The way back forgets which ones are; the admin events keep it. It refuses a database with a
benchmark or a manifest that earlier versions cannot read.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None

_BENCHMARKS = sa.table("benchmarks", sa.column("id"), sa.column("spec", sa.JSON()))
_SUBMISSIONS = sa.table("submissions", sa.column("id"), sa.column("manifest", sa.JSON()))
_ADDED_FIELDS = {"preprocessing", "outputs", "files", "ensemble"}
_ADDED_FORMATS = ("torchscript", "torch-export")


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("benchmarks", sa.Column("retire_time", sa.DateTime(timezone=True)))
    op.add_column("benchmarks", sa.Column("retire_reason", sa.Text()))
    op.add_column("benchmarks", sa.Column("superseded_by", sa.String(63)))


def downgrade() -> None:
    """Drops them. Raises `ValueError` for what earlier versions cannot read."""
    bind = op.get_bind()
    for benchmark, spec in bind.execute(sa.select(_BENCHMARKS)):
        if spec.get("labels"):
            _refuse(f"benchmark {benchmark}", "rules for its label table")
    for submission, manifest in bind.execute(sa.select(_SUBMISSIONS)):
        if added := _added(manifest):
            _refuse(f"submission {submission}", f"{added} in its manifest")
    for column in ("superseded_by", "retire_reason", "retire_time"):
        op.drop_column("benchmarks", column)


def _added(manifest: Mapping[str, Any]) -> str:
    """Returns what earlier versions cannot read of a manifest; empty if they can read all."""
    fields = sorted(_ADDED_FIELDS & manifest.keys())
    if manifest.get("format") in _ADDED_FORMATS:
        fields.append(f"format {manifest['format']}")
    return ", ".join(fields)


def _refuse(record: str, added: str) -> None:
    message = (
        f"{record} has {added}, which versions before revision 0013 cannot read: they would fail "
        "at each list with it; keep 0013, or restore a backup from before it was created"
    )
    raise ValueError(message)
