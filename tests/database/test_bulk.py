from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from impact_database import bulk, migrate
from impact_database.engine import connect
from impact_schemas.tables import bucket, ledger_count, merged_estimate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

COLUMNS = tuple(merged_estimate.c)
KEY = tuple(merged_estimate.primary_key)
DAY = 86_400_000_000


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = connect(database_url)
    await migrate.upgrade(made)
    yield made
    await made.dispose()


rows = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.sampled_from(["1m", "1h", "1d"]),
        st.integers(-(10**15), 4 * 10**15),
        st.integers(-(10**38) + 1, 10**38 - 1),
    ),
    max_size=20,
    unique_by=lambda row: row[:3],
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_rows=rows)
async def test_numbers_and_moments_come_back_as_they_were(
    engine: AsyncEngine, given_rows: list[tuple[object, ...]]
) -> None:
    async with engine.connect() as connection:
        await bulk.insert(connection, COLUMNS, given_rows)
        keys = [row[:3] for row in given_rows]
        found = await bulk.select_by_key(connection, COLUMNS, KEY, keys)
        assert sorted(map(str, found)) == sorted(map(str, given_rows))
        plain = [tuple(row) for row in await connection.execute(select(merged_estimate))]
        assert sorted(map(str, plain)) == sorted(map(str, given_rows))
        quick = await bulk.select_rows(connection, select(merged_estimate), COLUMNS)
        assert sorted(map(str, quick)) == sorted(map(str, given_rows))
        await connection.rollback()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**31), 2**31 - 1),
            st.none() | st.integers(-(10**15), 4 * 10**15),
            st.none() | st.integers(-(10**38) + 1, 10**38 - 1),
            st.none() | st.binary(),
            st.none() | st.integers(-(10**50), 10**50),
        ),
        min_size=1,
        max_size=20,
    )
)
async def test_many_rows_come_back_as_they_were(
    engine: AsyncEngine, states: list[tuple[object, ...]]
) -> None:
    c = bucket.c
    columns = (*bucket.primary_key, c.seen, c.count, c.updated_at)
    columns += (c.top_count, c.last_time, c.sum, c.sketch, c.sum_squares)
    given_rows = [(n, "1d \u20ac", DAY, -1, 2**63 - 1, n, DAY, *states[n % len(states)]) for n in range(200)]
    async with engine.connect() as connection:
        await bulk.insert(connection, columns, given_rows)
        await bulk.upsert(connection, columns, given_rows)
        found = await bulk.select_by_key(connection, columns, columns[:4], [row[:4] for row in given_rows])
        assert sorted(map(str, found)) == sorted(map(str, given_rows))
        await connection.rollback()


async def test_many_rows_are_refused_too_if_a_key_is_there(engine: AsyncEngine) -> None:
    rows = [(n, "1d", DAY, n) for n in range(1_000)]
    async with engine.begin() as connection:
        await bulk.insert(connection, COLUMNS, rows[-1:])
    async with engine.connect() as connection:
        with pytest.raises(IntegrityError):
            await bulk.insert(connection, COLUMNS, rows)
        await connection.rollback()
    async with engine.begin() as connection:
        assert await bulk.select_rows(connection, select(merged_estimate), COLUMNS) == rows[-1:]


async def test_insert_refuses_a_key_that_is_there_and_insert_missing_leaves_it(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await bulk.insert(connection, COLUMNS, [(1, "1d", DAY, 5)])
        await bulk.insert_missing(connection, COLUMNS, [(1, "1d", DAY, 6), (2, "1d", DAY, 7)])
        rows = await bulk.select_rows(connection, select(merged_estimate), COLUMNS)
        assert sorted(row[3] for row in rows) == [5, 7]
    with pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            await bulk.insert(connection, COLUMNS, [(1, "1d", DAY, 5)])


async def test_upsert_overwrites_or_adds(engine: AsyncEngine) -> None:
    columns = tuple(ledger_count.c)
    async with engine.begin() as connection:
        for _ in range(2):
            await bulk.upsert(connection, columns, [("p", "t", 0, 1, 2, 3)], add=("counted", "duplicates"))
        assert await bulk.select_rows(connection, select(ledger_count), columns) == [("p", "t", 0, 2, 4, 3)]


async def test_delete_by_key_deletes_just_those_rows(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await bulk.insert(connection, COLUMNS, [(n, "1d", DAY, n) for n in range(5)])
        await bulk.delete_by_key(connection, KEY, [(n, "1d", DAY) for n in (1, 3, 9)])
        rows = await bulk.select_rows(connection, select(merged_estimate), COLUMNS)
        assert sorted(row[0] for row in rows) == [0, 2, 4]


async def test_more_keys_than_a_statement_takes_are_asked_in_parts(engine: AsyncEngine) -> None:
    wanted = [(n, "1d", DAY) for n in range(25_000)]
    async with engine.begin() as connection:
        await bulk.insert(connection, COLUMNS, [(*key, 1) for key in wanted])
        found = await bulk.select_by_key(connection, COLUMNS, KEY, wanted)
        assert len(found) == len(wanted)


async def test_buckets_are_looked_up_by_their_key_whatever_the_statistics_say(
    engine: AsyncEngine,
) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite is told the order of loops; it has no statistics here")
    columns = (*bucket.primary_key, bucket.c.seen, bucket.c.count, bucket.c.updated_at)
    async with engine.begin() as connection:
        # statistics that are far too low, as while a table grows
        await connection.execute(text("ALTER TABLE bucket SET (autovacuum_enabled = off)"))
        await bulk.insert(connection, columns, [(0, "1h", DAY, 0, 1, 1, DAY)])
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
            text("VACUUM ANALYZE")
        )
    ids = range(500)
    async with engine.begin() as connection:
        rows = [(n, "1h", DAY, shard, 1, 1, DAY) for n in ids for shard in range(1, 13)]
        await bulk.insert(connection, columns, rows)
    async with engine.begin() as connection:
        keys = [row[:4] for row in rows]
        assert len(await bulk.select_by_key(connection, columns, tuple(bucket.primary_key), keys)) == len(
            keys
        )
        of_resolution, of_time = (bucket.c.resolution, "1h"), (bucket.c.bucket_start, 0, DAY)
        found = await bulk.select_range(
            connection, columns, (bucket.c.series_id, ids), of_resolution, of_time
        )
        assert len(found) == len(keys) + 1
        await connection.execute(text("SELECT pg_stat_force_next_flush()"))
    async with engine.begin() as connection:
        used = await connection.execute(
            text("SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE relname = 'bucket'")
        )
        read = {row.indexrelname: row.idx_tup_read for row in used}
    assert read.pop("bucket_pkey") < 10 * len(keys)  # what was wanted, and checks on the way in
    assert set(read.values()) == {0}
