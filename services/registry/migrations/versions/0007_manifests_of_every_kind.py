"""Manifests get their kind of submission, and the fields of every kind.

Downgrade loses the fields of endpoints, predictions and state dicts, which stay as checkpoints
without a file.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ROWS = 500
_SUBMISSIONS = sa.table(
    "submissions", sa.column("number"), sa.column("kind"), sa.column("manifest", sa.JSON())
)
_ADDED = ("kind", "format", "architecture", "endpoint")
_NO_REPRODUCTION = {"repository": "", "commit": "", "seed": 0, "script": ""}
_NO_ENVIRONMENT: dict[str, Any] = {"python_version": "", "dependencies": []}
_KNOWN_KINDS = ("checkpoint", "claim")
_KNOWN_SOURCES = ("github-readme", "research-paper", "model-card", "checkpoint")


def upgrade() -> None:
    """Adds the fields to each manifest."""
    _rewrite(_forward)


def downgrade() -> None:
    """Removes the fields."""
    _rewrite(_back)
    unknown = _SUBMISSIONS.c.kind.not_in(_KNOWN_KINDS)
    op.get_bind().execute(_SUBMISSIONS.update().where(unknown).values(kind="checkpoint"))


def _rewrite(change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
    bind, last = op.get_bind(), 0
    columns = sa.select(_SUBMISSIONS.c.number, _SUBMISSIONS.c.kind, _SUBMISSIONS.c.manifest)
    while True:
        query = (
            columns.where(_SUBMISSIONS.c.number > last).order_by(_SUBMISSIONS.c.number).limit(_ROWS)
        )
        rows = bind.execute(query).all()
        if not rows:
            return
        for row in rows:
            of_it = _SUBMISSIONS.update().where(_SUBMISSIONS.c.number == row.number)
            bind.execute(of_it.values(manifest=change(row.kind, row.manifest)))
        last = rows[-1].number


def _forward(kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
    how, where = manifest["reproduction"], manifest["environment"]
    return {
        **manifest,
        "kind": kind,
        "source_kind": manifest["source_kind"].replace("_", "-"),
        "format": "onnx" if kind == "checkpoint" else None,
        "architecture": "",
        "endpoint": None,
        "reproduction": None if how == _NO_REPRODUCTION else how,
        "environment": None if where == _NO_ENVIRONMENT else where,
    }


def _back(_: str, manifest: dict[str, Any]) -> dict[str, Any]:
    source = manifest["source_kind"]
    kept = {name: value for name, value in manifest.items() if name not in _ADDED}
    return {
        **kept,
        "source_kind": (source if source in _KNOWN_SOURCES else "checkpoint").replace("-", "_"),
        "reproduction": manifest["reproduction"] or _NO_REPRODUCTION,
        "environment": manifest["environment"] or _NO_ENVIRONMENT,
    }
