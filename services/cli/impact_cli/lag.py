"""How far the numbers are behind the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, or_, select, text

from impact_cli import event_logs
from impact_database.engine import read_only
from impact_schemas.tables import changed_day, changed_series

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_cli.settings import Settings

LAST_CHANGE = text("SELECT MAX(changed_at) FROM rolling_metrics")
POSITIONS = text('SELECT topic, "partition", next_offset FROM log_positions')


async def records_behind(settings: Settings, engine: AsyncEngine) -> int:
    """Records of both logs that are not in the buckets yet. Raises LogError."""
    ends = await event_logs.end_offsets(settings)
    async with read_only(engine).connect() as connection:
        counted = {(row[0], row[1]): row[2] for row in await connection.execute(POSITIONS)}
    return sum(max(0, end - counted.get(partition, 0)) for partition, end in ends.items())


async def numbers_follow(engine: AsyncEngine) -> bool:
    """Whether rolling metrics and calendar periods have everything that is in the buckets.

    Periods, from which trends are worked out, follow some seconds later.
    """
    async with read_only(engine).connect() as connection:
        waits = [exists(select(changed.c.id)) for changed in (changed_series, changed_day)]
        return not (await connection.execute(select(or_(*waits)))).scalar_one()


async def last_change(engine: AsyncEngine) -> str:
    """When a rolling metric last changed."""
    async with read_only(engine).connect() as connection:
        return str(await connection.scalar(LAST_CHANGE))
