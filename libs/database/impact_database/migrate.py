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

from impact_database.engine import SCHEMA
from impact_schemas.views import VIEWS, create_statements

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

_MIGRATE_LOCK = 0x1A9AC7  # any constant: two migrations at once would trip over each other


class SchemaOutOfDate(Exception):
    """The database's schema is not the one that this version needs."""


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


def _remake_views(connection: Connection) -> None:
    present = set(inspect(connection).get_view_names())
    for view in VIEWS:
        if view.name in present:
            connection.execute(text(f"DROP VIEW {view.name}"))
        for statement in create_statements(view, connection.dialect.name):
            connection.exec_driver_sql(statement)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
