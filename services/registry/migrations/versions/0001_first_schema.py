"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "benchmarks",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_benchmarks"),
        sa.UniqueConstraint("id", name="uq_benchmarks_id"),
    )
    op.create_table(
        "artifacts",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_artifacts"),
    )
    op.create_table(
        "submissions",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("benchmark_number", _NUMBER, nullable=False),
        sa.Column("request_id", sa.String(32), nullable=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("tier", sa.String(32), nullable=True),
        sa.Column("artifact_sha256", sa.String(64), nullable=True),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_submissions"),
        sa.ForeignKeyConstraint(
            ["benchmark_number"], ["benchmarks.number"], name="fk_submissions_benchmark_number"
        ),
        sa.ForeignKeyConstraint(
            ["artifact_sha256"], ["artifacts.sha256"], name="fk_submissions_artifact_sha256"
        ),
        sa.UniqueConstraint("id", name="uq_submissions_id"),
        sa.UniqueConstraint(
            "benchmark_number", "request_id", name="uq_submissions_benchmark_number_request_id"
        ),
    )
    op.create_table(
        "evaluations",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("submission_number", _NUMBER, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stalled_attempts", sa.Integer(), nullable=False),
        sa.Column("waits_until", _TIME, nullable=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("lease_token", sa.String(32), nullable=True),
        sa.Column("lease_expires", _TIME, nullable=True),
        sa.Column("images_done", sa.BigInteger(), nullable=False),
        sa.Column("provenance", sa.JSON(), nullable=False),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_evaluations"),
        sa.ForeignKeyConstraint(
            ["submission_number"], ["submissions.number"], name="fk_evaluations_submission_number"
        ),
        sa.UniqueConstraint("id", name="uq_evaluations_id"),
    )
    op.create_index("ix_evaluations_submission_number", "evaluations", ["submission_number"])
    op.create_index("ix_evaluations_state_number", "evaluations", ["state", "number"])
    op.create_table(
        "predictions",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("evaluation_number", _NUMBER, nullable=False),
        sa.Column("image", sa.String(255), nullable=False),
        sa.Column("probabilities", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_predictions"),
        sa.ForeignKeyConstraint(
            ["evaluation_number"], ["evaluations.number"], name="fk_predictions_evaluation_number"
        ),
        sa.UniqueConstraint(
            "evaluation_number", "image", name="uq_predictions_evaluation_number_image"
        ),
    )
    op.create_table(
        "reports",
        sa.Column("evaluation_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("evaluation_number", name="pk_reports"),
        sa.ForeignKeyConstraint(
            ["evaluation_number"], ["evaluations.number"], name="fk_reports_evaluation_number"
        ),
    )


def downgrade() -> None:
    """Refused: results are append-only, and dropping their tables is no migration."""
    raise NotImplementedError("the first schema is not taken back: results are append-only")
