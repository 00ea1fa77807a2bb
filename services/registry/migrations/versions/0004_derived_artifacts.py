"""Artifacts that workers make for evaluations."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Adds the table."""
    op.create_table(
        "derived_artifacts",
        sa.Column("evaluation_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("artifact_sha256", sa.String(64), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "evaluation_number", "artifact_sha256", name="pk_derived_artifacts"
        ),
        sa.ForeignKeyConstraint(
            ["evaluation_number"],
            ["evaluations.number"],
            name="fk_derived_artifacts_evaluation_number",
        ),
        sa.ForeignKeyConstraint(
            ["artifact_sha256"], ["artifacts.sha256"], name="fk_derived_artifacts_artifact_sha256"
        ),
    )


def downgrade() -> None:
    """Drops it; the artifacts themselves stay."""
    op.drop_table("derived_artifacts")
