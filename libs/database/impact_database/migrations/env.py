"""Alembic's entry: runs the migrations on the connection that `impact_database.migrate` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    render_as_batch=True,  # SQLite cannot alter most of a table in place
    transactional_ddl=True,
)
context.run_migrations()
