"""API keys in SQL, on both databases, and the store that the door asks."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen

from impact_database.engine import connect, durable
from impact_database.keys import SqlKeyStore, active_keys, create_key, list_keys, revoke_key
from impact_database.migrate import upgrade
from impact_schemas.keys import opens, split_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A migrated database."""
    engine = connect(database_url)
    await upgrade(engine)
    yield engine
    await engine.dispose()


@asynccontextmanager
async def store_of(engine: AsyncEngine, refresh_s: float = 30.0) -> AsyncIterator[SqlKeyStore]:
    store = SqlKeyStore(engine, refresh_s)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


def now() -> int:
    return time.time_ns() // 1000


async def test_a_key_is_stored_as_a_hash_and_comes_back_whole(engine: AsyncEngine) -> None:
    text_of_key, key = await create_key(engine, "water", ["write", "read"], label="pump", expires_at=2**51)
    assert await list_keys(engine) == [key]
    assert await list_keys(engine, "other") == []
    split = split_key(text_of_key)
    assert split is not None
    assert split[0] == key.key_id
    assert opens(key, split[1], now())
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT * FROM api_key"))).all()
    assert split[1] not in repr(rows)


async def test_unknown_scopes_are_refused(engine: AsyncEngine) -> None:
    for scopes in (["write", "everything"], []):
        with pytest.raises(ValueError, match="choose from write, read, import, admin"):
            await create_key(engine, "water", scopes)


async def test_a_revoked_key_is_listed_but_no_longer_active(engine: AsyncEngine) -> None:
    _, kept = await create_key(engine, "water")
    _, gone = await create_key(engine, "water")
    assert await revoke_key(engine, gone.key_id) is True
    assert await revoke_key(engine, gone.key_id) is False
    assert await revoke_key(engine, "00000000") is False
    assert [key.key_id for key in await active_keys(engine)] == [kept.key_id]
    assert {key.key_id: key.revoked_at is not None for key in await list_keys(engine)} == {
        kept.key_id: False,
        gone.key_id: True,
    }


async def test_a_key_made_after_the_start_is_found_at_once(engine: AsyncEngine) -> None:
    async with store_of(engine) as store:
        assert await store.ready()
        for _ in range(3):
            _, key = await create_key(engine, "water")
            assert await store.find(key.key_id) == key


async def test_a_revoked_key_is_gone_after_a_refresh(engine: AsyncEngine) -> None:
    _, key = await create_key(engine, "water")
    async with store_of(engine, refresh_s=0.05) as store:
        assert await store.find(key.key_id) == key
        await revoke_key(engine, key.key_id)
        async with asyncio.timeout(5):
            while await store.find(key.key_id) is not None:  # noqa: ASYNC110 (the store tells nobody)
                await asyncio.sleep(0.05)


async def test_a_flood_of_unknown_keys_costs_a_few_loads(engine: AsyncEngine) -> None:
    async with store_of(engine) as store:
        found = await asyncio.gather(*(store.find(f"{number:08x}") for number in range(500)))
        assert found == [None] * 500
        assert store._loads_ended <= 4


async def test_known_keys_outlive_the_database(engine: AsyncEngine) -> None:
    _, key = await create_key(engine, "water")
    async with store_of(engine, refresh_s=0.05) as store:
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE api_key RENAME TO away"))
        loads = store._loads_ended
        async with asyncio.timeout(5):
            while store._loads_ended < loads + 2:  # noqa: ASYNC110 (the store tells nobody)
                await asyncio.sleep(0.05)
        assert await store.find(key.key_id) == key
        assert await store.find("00000000") is None


async def test_a_database_that_is_away_at_the_start_is_tried_again(engine: AsyncEngine) -> None:
    _, key = await create_key(engine, "water")
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE api_key RENAME TO away"))
    async with store_of(engine) as store:
        assert not await store.ready()
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE away RENAME TO api_key"))
        assert await store.find(key.key_id) == key
        assert await store.ready()


async def test_on_sqlite_keys_are_synced_and_numbers_are_not(sqlite_url: str) -> None:
    """A power cut may take numbers back, which the log brings again; a revoked key must stay revoked."""
    engine = connect(sqlite_url)
    await upgrade(engine)
    for one, expected in ((engine, 1), (durable(engine), 2), (engine, 1)):  # 1 is NORMAL, 2 is FULL
        async with one.begin() as connection:
            assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == expected
    levels: list[int] = []
    key = (await create_key(durable(engine), "water"))[1]
    listen(
        engine.sync_engine,
        "commit",
        lambda one: levels.append(one.exec_driver_sql("PRAGMA synchronous").scalar()),
    )
    await create_key(engine, "water")
    await revoke_key(engine, key.key_id)
    assert levels == [2, 2]
    await engine.dispose()
