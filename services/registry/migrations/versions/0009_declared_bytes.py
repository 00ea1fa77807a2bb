"""A column for the declared bytes of an upload in progress, which count for the quota. Downgrade
loses it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("submissions", sa.Column("declared_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("submissions", "declared_bytes")
