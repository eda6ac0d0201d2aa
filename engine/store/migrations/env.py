"""Alembic's entry: runs inside the transaction that engine.store.schema (or a test) hands over."""

from alembic import context

from engine.store.tables import Table

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations run when the store is opened: see engine/store/schema.py")
context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
