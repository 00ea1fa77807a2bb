"""Partial indexes of queued and of running evaluations, which do not grow with ended ones."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state = 'queued'")
_RUNNING = sa.text("state = 'running'")


def upgrade() -> None:
    """Replaces one index by two partial ones."""
    op.create_index(
        "ix_evaluations_queued", "evaluations", ["create_time", "number"],
        sqlite_where=_QUEUED, postgresql_where=_QUEUED,
    )  # fmt: skip
    op.create_index(
        "ix_evaluations_running",
        "evaluations",
        ["lease_expires"],
        sqlite_where=_RUNNING,
        postgresql_where=_RUNNING,
    )
    op.drop_index("ix_evaluations_state_number", "evaluations")


def downgrade() -> None:
    """Restores the old index."""
    op.create_index("ix_evaluations_state_number", "evaluations", ["state", "number"])
    op.drop_index("ix_evaluations_running", "evaluations")
    op.drop_index("ix_evaluations_queued", "evaluations")
