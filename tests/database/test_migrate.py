"""The schema on both databases: migrations make what the tables say, and every column is explained."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from impact_database import migrate
from impact_database.engine import SchemaOutOfDate, UnsupportedDatabase, connect
from impact_schemas.tables import metadata
from impact_schemas.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = connect(database_url)
    yield made
    await made.dispose()


async def test_migrations_make_exactly_the_tables(engine: AsyncEngine) -> None:
    await migrate.upgrade(engine)

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_database_that_is_not_migrated_is_refused_with_the_command(engine: AsyncEngine) -> None:
    with pytest.raises(SchemaOutOfDate, match="impact migrate"):
        await migrate.check(engine)
    await migrate.upgrade(engine)
    await migrate.check(engine)


async def test_an_upgrade_may_be_repeated_and_run_twice_at_once(engine: AsyncEngine) -> None:
    await asyncio.gather(*(migrate.upgrade(engine) for _ in range(3)))
    await migrate.upgrade(engine)
    await migrate.check(engine)


async def test_every_view_has_its_columns_each_with_a_comment(engine: AsyncEngine) -> None:
    await migrate.upgrade(engine)

    def look(connection: Connection) -> dict[str, dict[str, str | None]]:
        inspector = inspect(connection)
        return {
            view: {column["name"]: column.get("comment") for column in inspector.get_columns(view)}
            for view in inspector.get_view_names()
        }

    async with engine.connect() as connection:
        found = await connection.run_sync(look)
        assert set(found) == {view.name for view in VIEWS}
        for view in VIEWS:
            assert list(found[view.name]) == [column.name for column in view.columns]
            if engine.dialect.name == "postgresql":
                assert found[view.name] == {column.name: column.comment for column in view.columns}
            else:
                sql = await connection.scalar(
                    text("SELECT sql FROM sqlite_schema WHERE name = :name"), {"name": view.name}
                )
                assert all(f"-- {column.comment}" in sql for column in view.columns)


def test_other_databases_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedDatabase, match="mysql"):
        connect("mysql://somewhere/db")
