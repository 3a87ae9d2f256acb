"""What the database says of an event, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from impact_database.engine import connect
from impact_database.event_status import SqlEventStatus
from impact_database.migrate import upgrade
from impact_schemas.tables import amendment, event_identity, quarantine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

EVENT = b"0123456789abcdef"
PLACE = {"partition": 0, "offset": 0, "position": 0}


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A migrated database."""
    engine = connect(database_url)
    await upgrade(engine)
    yield engine
    await engine.dispose()


async def add_counted(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(insert(event_identity).values(identity=EVENT, digest=1, **PLACE))


async def add_refused(engine: AsyncEngine, code: str) -> None:
    row: dict[str, Any] = {"code": code, "detail": "", "received_at": 0, "topic": "q"}
    named = {"product": "water", "event_source": "/water/1", "event_id": "e-1"}
    async with engine.begin() as connection:
        await connection.execute(insert(quarantine).values(**row, **named, **PLACE))


async def add_amendment(engine: AsyncEngine, kind: str) -> None:
    row = {"identity": b"x" * 16, "product": "water", "time": 0, "event_id": "r", "event": "{}", "topic": "t"}
    async with engine.begin() as connection:
        await connection.execute(
            insert(amendment).values(target=EVENT, kind=kind, received_at=0, **row, **PLACE)
        )


async def status(engine: AsyncEngine, **changes: Any) -> str | None:
    asked = {"product": "water", "identity": EVENT, "source": "/water/1", "event_id": "e-1"} | changes
    known = SqlEventStatus(engine)
    found = await known.find(**asked)
    events = {asked["event_id"]: asked["identity"], "other": b"y" * 16}
    of_many = await known.find_all(asked["product"], asked["source"], events)
    assert of_many == ({} if found is None else {asked["event_id"]: found})
    assert await known.find_all(asked["product"], asked["source"], {}) == {}
    return found


async def test_nothing_is_known_of_an_event_that_never_came(engine: AsyncEngine) -> None:
    assert await status(engine) is None


async def test_a_counted_event_is_counted_also_when_another_copy_is_in_quarantine(
    engine: AsyncEngine,
) -> None:
    await add_counted(engine)
    assert await status(engine) == "counted"
    await add_refused(engine, "id_conflict")
    assert await status(engine) == "counted"
    await add_amendment(engine, "correction")
    assert await status(engine) == "counted"


async def test_a_refused_event_is_quarantined_for_its_own_product_and_source_only(
    engine: AsyncEngine,
) -> None:
    await add_refused(engine, "schema_violation")
    assert await status(engine) == "quarantined"
    assert await status(engine, product="wallet") is None
    assert await status(engine, source="/water/2") is None
    assert await status(engine, event_id="e-2") is None


@pytest.mark.parametrize("it_came", [True, False])
async def test_a_retracted_event_is_retracted_before_and_after_it_came(
    engine: AsyncEngine, *, it_came: bool
) -> None:
    if it_came:
        await add_counted(engine)
    await add_amendment(engine, "retraction")
    assert await status(engine) == "retracted"
