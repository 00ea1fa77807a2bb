"""Run by alembic: applies revisions on the connection that `migrations.upgrade` opened."""

from alembic import context

from services.registry.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
