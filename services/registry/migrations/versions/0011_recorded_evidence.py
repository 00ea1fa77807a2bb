"""Image lists of benchmarks, the attempt of each prediction, the owner of each lease, rescores.

Existing predictions are of attempt 0, which the next attempt confirms. Existing leases have no
owner. Downgrade loses all of this.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Adds the tables and columns."""
    op.create_table(
        "benchmark_images",
        sa.Column("benchmark_number", _NUMBER, nullable=False),
        sa.Column("names", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("benchmark_number", name="pk_benchmark_images"),
        sa.ForeignKeyConstraint(
            ["benchmark_number"],
            ["benchmarks.number"],
            name="fk_benchmark_images_benchmark_number",
        ),
    )
    op.create_table(
        "confirmations",
        sa.Column("evaluation_number", _NUMBER, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("by_attempt", sa.Integer(), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint(
            "evaluation_number", "attempt", "by_attempt", name="pk_confirmations"
        ),
        sa.ForeignKeyConstraint(
            ["evaluation_number"], ["evaluations.number"], name="fk_confirmations_evaluation_number"
        ),
    )
    _create_rescores()
    op.add_column(
        "predictions", sa.Column("attempt", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("evaluations", sa.Column("lease_owner", sa.Text(), nullable=True))


def _create_rescores() -> None:
    op.create_table(
        "rescores",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("evaluation_number", _NUMBER, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("difference", sa.String(255), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_rescores"),
        sa.UniqueConstraint("id", name="uq_rescores_id"),
        sa.UniqueConstraint(
            "evaluation_number",
            "actor",
            "difference",
            name="uq_rescores_evaluation_number_actor_difference",
        ),
        sa.ForeignKeyConstraint(
            ["evaluation_number"], ["evaluations.number"], name="fk_rescores_evaluation_number"
        ),
    )


def downgrade() -> None:
    """Drops them."""
    op.drop_column("evaluations", "lease_owner")
    op.drop_column("predictions", "attempt")
    for table in ("rescores", "confirmations", "benchmark_images"):
        op.drop_table(table)
