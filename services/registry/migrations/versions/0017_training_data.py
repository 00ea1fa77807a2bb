"""Submissions declare training data, and reports state whether the benchmark's images are in it.

The way back loses the training lists and refuses a database with declared training data or with a
rule of the board, which earlier versions cannot read.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SUBMISSIONS = sa.table("submissions", sa.column("manifest", sa.JSON()))
_BENCHMARKS = sa.table("benchmarks", sa.column("spec", sa.JSON()))
_REPORTS = sa.table("reports", sa.column("report", sa.JSON()))


def upgrade() -> None:
    """Adds the table and the column."""
    op.create_table(
        "training_lists",
        sa.Column(
            "submission_number",
            _NUMBER,
            sa.ForeignKey("submissions.number", name="fk_training_lists_submission_number"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("submission_number", name="pk_training_lists"),
    )
    op.add_column("reports", sa.Column("training_verdict", sa.String(32)))


def downgrade() -> None:
    """Drops them. Raises `ValueError` if a stored record needs them."""
    for column, names in (
        (_SUBMISSIONS.c.manifest, ("training_data",)),
        (_BENCHMARKS.c.spec, ("steps", "ladder")),
        (_REPORTS.c.report, ("contamination", "membership")),
    ):
        given = sa.or_(*(column[name].as_string().is_not(None) for name in names))
        if op.get_bind().execute(sa.select(sa.literal(1)).where(given).limit(1)).first():
            raise ValueError(
                f"{column} has {' or '.join(names)}, which versions before revision 0017 cannot "
                "read; keep 0017, or restore a backup from before"
            )
    op.drop_column("reports", "training_verdict")
    op.drop_table("training_lists")
