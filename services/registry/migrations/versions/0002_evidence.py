"""Tables for the evidence behind a report: replicates and curves.

Before this revision a report was one JSON value with its evidence. Upgrade moves the evidence into
tables, downgrade moves it back, and neither loses anything: results are append-only.
"""

import base64
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_METRIC = "auroc"  # the only metric that a benchmark of the first schema can be ranked by

_REPORTS = sa.table("reports", sa.column("evaluation_number"), sa.column("report", sa.JSON()))
_REPLICATES = sa.table(
    "replicates",
    *(sa.column(name) for name in ("evaluation_number", "place", "metric", "finding", "score")),
    sa.column("vector", sa.LargeBinary()),
)
_CURVES = sa.table("curves", sa.column("evaluation_number"), sa.column("curves", sa.JSON()))


def upgrade() -> None:
    """Creates the tables and fills them from the reports."""
    op.create_table(
        "replicates",
        sa.Column("evaluation_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metric", sa.String(64), nullable=False),
        sa.Column("finding", sa.String(64), nullable=False),
        sa.Column("score", sa.Float(53), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("evaluation_number", "place", name="pk_replicates"),
        sa.ForeignKeyConstraint(
            ["evaluation_number"], ["evaluations.number"], name="fk_replicates_evaluation_number"
        ),
    )
    op.create_table(
        "curves",
        sa.Column("evaluation_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("curves", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("evaluation_number", name="pk_curves"),
        sa.ForeignKeyConstraint(
            ["evaluation_number"], ["evaluations.number"], name="fk_curves_evaluation_number"
        ),
    )
    for number, report in _reports():
        evidence = report.pop("evidence", {"vectors": [], "curves": None})
        _write(number, {"replicate_count": 0, "seed": 0, **report})
        vectors = [base64.b64decode(vector) for vector in evidence["vectors"]]
        _insert_replicates(number, report["metrics"], vectors)
        if evidence["curves"] is not None:
            op.get_bind().execute(
                _CURVES.insert(), {"evaluation_number": number, "curves": evidence["curves"]}
            )


def downgrade() -> None:
    """Puts the evidence into the reports and drops its tables."""
    bind = op.get_bind()
    for number, report in _reports():
        of_it = _REPLICATES.c.evaluation_number == number
        query = sa.select(_REPLICATES.c.vector).where(of_it).order_by(_REPLICATES.c.place)
        vectors = [
            base64.b64encode(vector).decode()
            for vector in bind.scalars(query)
            if vector is not None
        ]
        curves = bind.scalar(
            sa.select(_CURVES.c.curves).where(_CURVES.c.evaluation_number == number)
        )
        _write(number, {**report, "evidence": {"vectors": vectors, "curves": curves}})
    op.drop_table("curves")
    op.drop_table("replicates")


def _reports() -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields one at a time, because all of them may not fit into memory."""
    bind = op.get_bind()
    for number in bind.scalars(sa.select(_REPORTS.c.evaluation_number)).all():
        query = sa.select(_REPORTS.c.report).where(_REPORTS.c.evaluation_number == number)
        yield number, bind.execute(query).scalar_one()


def _write(number: int, report: dict[str, Any]) -> None:
    op.get_bind().execute(
        _REPORTS.update().where(_REPORTS.c.evaluation_number == number), {"report": report}
    )


def _insert_replicates(number: int, metrics: list[dict[str, Any]], vectors: list[bytes]) -> None:
    scores = [
        (value["finding"], value["value"])
        for value in metrics
        if value["metric"] == _METRIC and not value.get("slice", "")
    ]
    rows = [
        {
            "evaluation_number": number,
            "place": place,
            "metric": _METRIC,
            "finding": finding,
            "score": score,
            "vector": vectors[place] if vectors else None,
        }
        for place, (finding, score) in enumerate(scores)
    ]
    op.get_bind().execute(_REPLICATES.insert(), rows)
