"""What each role may do, on a real server made ready by the script that compose runs."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from deploy.grafana.panels import FOLDER
from impact_database import migrate
from impact_database.engine import connect
from impact_database.event_status import SqlEventStatus
from impact_reports.partner_store import Noted, PartnerStore, Run
from impact_schemas.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncConnection


RUN = Run(
    importid="i",
    product="water",
    form="f",
    source="/water/1",
    kind="send",
    file="f.csv",
    digest="",
    key_id="k",
    stamp_time="2026-01-01T00:00:00.000000Z",
    state="running",
    started_at=0,
    seen_at=0,
)
STEP = Noted("row-1", ("a",), "new", 0, "row-1", None, "{}", before_known=True)


@asynccontextmanager
async def logged_in(database: URL, role: str) -> AsyncIterator[AsyncConnection]:
    engine = connect(database.set(username=role).render_as_string(hide_password=False))
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


@pytest.fixture
async def migrated(deployed_database: URL) -> URL:
    """The database after `migrate`, run by its owner, who is no superuser; twice, as every start does."""
    engine = connect(deployed_database.set(username="impact_owner").render_as_string(hide_password=False))
    for _ in range(2):
        await migrate.upgrade(engine)
    await engine.dispose()
    return deployed_database


async def test_the_reader_sees_every_view_but_no_payload(migrated: URL) -> None:
    async with logged_in(migrated, "impact_reader") as connection:
        for view in VIEWS:
            columns = ", ".join(column.name for column in view.columns if column.name != "payload")
            await connection.execute(text(f"SELECT {columns} FROM {view.name}"))
        with pytest.raises(DBAPIError, match="permission denied"):
            await connection.execute(text("SELECT payload FROM quarantined_events"))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 FROM api_key",
        "SELECT 1 FROM event_identity",
        "SELECT sketch FROM bucket",
        "INSERT INTO product (product) VALUES ('x')",
        "CREATE TABLE mine (x int)",
    ],
)
async def test_the_reader_neither_writes_nor_sees_the_tables(migrated: URL, statement: str) -> None:
    async with logged_in(migrated, "impact_reader") as connection:
        with pytest.raises(DBAPIError, match=r"permission denied|read-only transaction"):
            await connection.execute(text(statement))


async def test_ingest_sees_the_keys_and_no_numbers(migrated: URL) -> None:
    async with logged_in(migrated, "impact_ingest") as connection:
        await connection.execute(text("SELECT * FROM api_key"))
        assert await SqlEventStatus(connection.engine).find("water", b"x", "/water/1", "e-1") is None
    for statement in (
        "SELECT 1 FROM rolling_metrics",
        "SELECT 1 FROM bucket",
        "SELECT payload FROM quarantine",
        "SELECT event FROM amendment",
        "DELETE FROM api_key",
    ):
        async with logged_in(migrated, "impact_ingest") as connection:
            with pytest.raises(DBAPIError, match="permission denied"):
                await connection.execute(text(statement))


async def test_reports_see_the_views_and_the_keys_and_write_only_the_journal_of_files(migrated: URL) -> None:
    async with logged_in(migrated, "impact_reports") as connection:
        for view in VIEWS:
            columns = ", ".join(column.name for column in view.columns if column.name != "payload")
            await connection.execute(text(f"SELECT {columns} FROM {view.name}"))
        await connection.execute(text("SELECT * FROM api_key"))
        await migrate.check(connection.engine)
        store = PartnerStore(connection.engine, lambda: 0)
        assert await store.forms("water") == []
        await store.begin(RUN)
        await store.note(RUN.importid, [STEP])
        await store.settle(RUN, [STEP._replace(state="accepted")])
        await store.end(RUN.importid, "done")
        assert [one.accepted for one in await store.runs("water")] == [1]
    for statement in (
        "INSERT INTO import_form VALUES ('water', 'f', 'F', '{}')",
        "SELECT 1 FROM bucket",
        "SELECT payload FROM quarantined_events",
        "DELETE FROM api_key",
    ):
        async with logged_in(migrated, "impact_reports") as connection:
            with pytest.raises(DBAPIError, match=r"permission denied|read-only transaction"):
                await connection.execute(text(statement))


async def test_every_query_of_the_dashboards_runs_for_the_reader(migrated: URL) -> None:
    queries = []
    for file in sorted(FOLDER.glob("*.json")):
        dashboard = json.loads(file.read_text("utf-8"))
        targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
        targets += [one["target"] for one in dashboard["annotations"].get("list", [])]
        queries += [target["rawSql"] for target in targets if "rawSql" in target]
    assert len(queries) >= 15
    async with logged_in(migrated, "impact_reader") as connection:
        for query in queries:
            plain = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 > now()", query)
            await connection.execute(text(re.sub(r"\$\{\w+:sqlstring\}", "'x'", plain).replace(":", r"\:")))
