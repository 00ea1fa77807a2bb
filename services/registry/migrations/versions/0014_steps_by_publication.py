"""Steps of the state of the art follow the registry's own time of publication.

They followed the dates that submitters declare. Boards are ranked when they are read, so no row
changes. An admin event says since when steps of earlier rows may differ; the way back removes it,
because steps then follow the declared dates again.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_ACTION = "steps_by_publication"
_TARGET = (
    "steps and ties of rows with evidence follow the time of publication from now on, no longer "
    "the declared date"
)
_ADMIN_EVENTS = sa.table(
    "admin_events",
    sa.column("create_time", sa.DateTime(timezone=True)),
    *map(sa.column, ("actor", "action", "target")),
)
_SUBMISSIONS = sa.table("submissions", *map(sa.column, ("number", "kind", "state")))


def upgrade() -> None:
    """Records the event, if a row with evidence is or was on a board."""
    bind = op.get_bind()
    rows = sa.select(_SUBMISSIONS.c.number).where(
        _SUBMISSIONS.c.kind != "claim",
        _SUBMISSIONS.c.state.in_(("published", "disputed", "superseded", "withdrawn")),
    )
    if bind.execute(rows.limit(1)).first() is None:
        return
    now = datetime.now(UTC)
    event = {
        # SQLite stores times in UTC without a time zone.
        "create_time": now.replace(tzinfo=None) if bind.dialect.name == "sqlite" else now,
        "actor": "registry",
        "action": _ACTION,
        "target": _TARGET,
    }
    bind.execute(_ADMIN_EVENTS.insert(), event)


def downgrade() -> None:
    """Removes the event."""
    op.get_bind().execute(_ADMIN_EVENTS.delete().where(_ADMIN_EVENTS.c.action == _ACTION))
