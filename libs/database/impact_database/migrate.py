"""Brings the database's schema up to date: alembic for the tables, then every view made anew.

There is no way down: a backup, or a replay from the log, restores an older state.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from impact_database import metric_views
from impact_database.engine import SCHEMA, SchemaOutOfDate
from impact_schemas.views import VIEWS, create_statements

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

# What the roles of least privilege may read, where the database has them: see deploy/postgres/roles.sh.
_NOT_FOR_READERS = {"quarantined_events": {"payload"}}
_FOR_INGEST = {
    "api_key": "",
    "alembic_version": "",
    "amendment": "(target, kind)",
    "event_identity": "(identity)",
    "quarantine": "(product, event_source, event_id)",
}
_JOURNAL = ("import_run", "import_row", "import_step")  # the only tables that impact_reports writes

_MIGRATE_LOCK = 0x1A9AC7  # any constant: two migrations at once would trip over each other


async def upgrade(engine: AsyncEngine) -> None:
    """Creates or upgrades all tables and views in one transaction. May be repeated and run concurrently."""
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade)


async def check(engine: AsyncEngine) -> None:
    """Raises SchemaOutOfDate if `upgrade` has work to do."""
    async with engine.connect() as connection:
        found = await connection.run_sync(_revision)
    wanted = ScriptDirectory.from_config(_config()).get_current_head()
    if found != wanted:
        raise SchemaOutOfDate(
            f"the database has schema revision {found}, this version needs {wanted}: run 'impact migrate'"
        )


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATE_LOCK})
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    command.upgrade(_config(connection), "head")
    _remake_views(connection)
    if connection.dialect.name == "postgresql":
        _grant(connection)


def _remake_views(connection: Connection) -> None:
    metric_views.drop(connection)
    present = set(inspect(connection).get_view_names())
    for view in reversed(VIEWS):  # a view may stand on one before it
        if view.name in present:
            connection.execute(text(f"DROP VIEW {view.name}"))
    for view in VIEWS:
        for statement in create_statements(view, connection.dialect.name):
            connection.exec_driver_sql(statement)
    metric_views.make(connection)


def _grant(connection: Connection) -> None:
    """Views for impact_reader (analysts, Grafana); what impact_reports and impact_ingest need besides."""
    present = set(connection.scalars(text("SELECT rolname FROM pg_roles WHERE rolname LIKE 'impact%'")))
    for role in present & {"impact_reader", "impact_reports", "impact_ingest"}:
        connection.execute(text(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}"))
    for role in present & {"impact_reader", "impact_reports"}:
        for view in VIEWS:
            hidden = _NOT_FOR_READERS.get(view.name, set())
            columns = ", ".join(column.name for column in view.columns if column.name not in hidden)
            connection.execute(text(f"GRANT SELECT ({columns}) ON {view.name} TO {role}"))
    if "impact_reports" in present:
        connection.execute(text("GRANT SELECT ON api_key, alembic_version, import_form TO impact_reports"))
        journal = ", ".join(_JOURNAL)
        connection.execute(text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {journal} TO impact_reports"))
    if "impact_ingest" in present:
        for table, columns in _FOR_INGEST.items():
            connection.execute(text(f"GRANT SELECT {columns} ON {table} TO impact_ingest"))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
