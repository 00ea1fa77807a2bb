"""Benchmarks state the direction of each metric, the ranking metric and the slices.

Digests stay: these were implied before. The way back refuses a benchmark whose rules differ from
what was implied, because the earlier version cannot rank it.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_BENCHMARKS = sa.table(
    "benchmarks", sa.column("number"), sa.column("id"), sa.column("spec", sa.JSON())
)
_METRICS = [{"id": "auroc", "direction": "higher"}]
_SLICES = ["sex", "age", "view"]


def upgrade() -> None:
    """Adds what was implied to each specification."""
    _rewrite(_forward)


def downgrade() -> None:
    """Takes it away. Raises `ValueError` for a benchmark with other rules."""
    _rewrite(_back)


def _rewrite(change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
    bind = op.get_bind()
    for row in bind.execute(sa.select(_BENCHMARKS)).all():
        update = _BENCHMARKS.update().where(_BENCHMARKS.c.number == row.number)
        bind.execute(update.values(spec=change(row.id, row.spec)))


def _forward(_: str, spec: dict[str, Any]) -> dict[str, Any]:
    rules = {"metrics": _METRICS, "ranking_metric": "auroc", "slices": _SLICES}
    return {**spec, **rules}


def _back(benchmark: str, spec: dict[str, Any]) -> dict[str, Any]:
    rules = spec["metrics"], spec["ranking_metric"], spec["slices"]
    if rules != (_METRICS, "auroc", _SLICES):
        message = f"benchmark {benchmark} has rules that revision 0009 cannot hold; keep 0010"
        raise ValueError(message)
    kept = {name: value for name, value in spec.items() if name not in ("ranking_metric", "slices")}
    return {**kept, "metrics": ["auroc"]}
