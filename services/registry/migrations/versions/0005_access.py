"""Tables for organisations, API keys and admin events, and the owner of a submission.

Existing submissions have no owner. Downgrade loses organisations and keys.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Adds the tables and the column."""
    op.create_table(
        "organisations",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("submissions_per_day", sa.BigInteger(), nullable=True),
        sa.Column("concurrent", sa.BigInteger(), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_organisations"),
        sa.UniqueConstraint("id", name="uq_organisations_id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("organisation", sa.String(63), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("expire_time", _TIME, nullable=True),
        sa.Column("revoke_time", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_api_keys"),
        sa.UniqueConstraint("id", name="uq_api_keys_id"),
        sa.ForeignKeyConstraint(
            ["organisation"], ["organisations.id"], name="fk_api_keys_organisation"
        ),
    )
    op.create_index("ix_api_keys_organisation", "api_keys", ["organisation"])
    op.create_table(
        "admin_events",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_admin_events"),
    )
    # Within the column's definition: SQLite cannot add a constraint to an existing table.
    belongs_to = sa.ForeignKey("organisations.id", name="fk_submissions_organisation")
    op.add_column(
        "submissions",
        sa.Column("organisation", sa.String(63), belongs_to, nullable=True),
        inline_references=True,
    )
    op.create_index("ix_submissions_organisation", "submissions", ["organisation"])


def downgrade() -> None:
    """Drops them."""
    op.drop_index("ix_submissions_organisation", "submissions")
    op.drop_column("submissions", "organisation")
    for table in ("admin_events", "api_keys", "organisations"):
        op.drop_table(table)
