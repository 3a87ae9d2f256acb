"""The rig itself: real servers that survive what the fault tests do to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.rig.postgres import PostgresServer

if TYPE_CHECKING:
    from tests.rig.kafka import KafkaServer


async def test_each_test_gets_an_empty_database(database_url: str) -> None:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE only_here (x int)"))
    await engine.dispose()


def test_kafka_answers(kafka_server: KafkaServer) -> None:
    assert kafka_server.process.running


async def test_postgres_comes_back_with_its_data_after_kill_9() -> None:
    with PostgresServer.temporary() as server:
        engine = create_async_engine(server.url)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE kept AS SELECT 7 AS x"))
        await asyncio.to_thread(server.kill)
        with pytest.raises((OSError, DBAPIError)):
            async with engine.begin() as connection:
                await connection.execute(text("SELECT 1"))
        await asyncio.to_thread(server.start)
        async with engine.begin() as connection:
            assert await connection.scalar(text("SELECT x FROM kept")) == 7
        await engine.dispose()
