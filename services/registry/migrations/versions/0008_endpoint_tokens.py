"""A column for the encrypted token of an endpoint. Downgrade loses it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("submissions", sa.Column("sealed_token", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("submissions", "sealed_token")
