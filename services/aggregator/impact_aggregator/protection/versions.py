"""What was published of a metric stays published when a rebuild gives it a new version.

The frozen blocks go over to the new version as they are. What the rebuild counts otherwise comes into a later
block, like anything else that is late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from impact_aggregator.rules import Series
from impact_database import bulk
from impact_schemas.tables import block_account, block_cell, metric_version, series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_aggregator.values import Name


async def carry_blocks_over(connection: AsyncConnection, versions: Mapping[Name, int]) -> None:
    """Gives the new versions the blocks of those before them, where both count in the same way."""
    for name, version in versions.items():
        if await _counts_alike(connection, name, version):
            ids = await _new_ids(connection, name, version)
            for table in (block_cell, block_account):
                await _copy(connection, table, ids)


async def _counts_alike(connection: AsyncConnection, name: Name, version: int) -> bool:
    table = metric_version.c
    rows = await connection.execute(
        select(table.counting_hash).where(
            table.product == name[0], table.metric == name[1], table.version.in_((version - 1, version))
        )
    )
    return len({row.counting_hash for row in rows}) == 1


async def _new_ids(connection: AsyncConnection, name: Name, version: int) -> dict[int, int]:
    """From the series of the version before to those of this one, which are entered where they are new."""
    table = series.c
    rows = await connection.execute(
        select(table.series_id, table.segment).where(
            table.product == name[0], table.metric == name[1], table.version == version - 1
        )
    )
    new = {row.series_id: Series(*name, version, row.segment) for row in rows}
    entries = sorted((one.series_id, *one) for one in new.values())
    await bulk.insert_missing(connection, tuple(series.c), entries)
    return {old: one.series_id for old, one in new.items()}


async def _copy(connection: AsyncConnection, table: Table, ids: Mapping[int, int]) -> None:
    columns = tuple(table.c)
    rows = await bulk.select_by_key(connection, columns, (table.c.series_id,), [(old,) for old in ids])
    await bulk.insert_missing(connection, columns, [(ids[row[0]], *row[1:]) for row in rows])
