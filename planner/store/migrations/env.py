"""Alembic's entry: run the steps on the connection that `planner.store.database` hands over."""

from __future__ import annotations

from alembic import context

from planner.store.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("the steps are run when a store is opened (planner.store.open_store), not by the alembic command")
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True, render_as_batch=True)
context.run_migrations()
