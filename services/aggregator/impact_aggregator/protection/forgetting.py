"""Takes an erased person out of the sketches of frozen blocks.

What was published stays: a stranger, the same in every block, stands in the person's place. Beyond 1,024 a
sketch holds nobody in particular.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from impact_aggregator.bucket_rows import sketch_bytes, sketch_of
from impact_aggregator.sketches import Distinct, hash64
from impact_schemas.tables import block_account, block_cell, series

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.ext.asyncio import AsyncConnection


async def forget_subject(connection: AsyncConnection, product: str, pseudonym: str) -> None:
    """In all blocks of the product's metrics. May be repeated."""
    stranger = secrets.randbits(64)
    known_as = (hash64(pseudonym), hash64(f'"{pseudonym}"'))  # as a subject, and as a value of the data
    for column in (block_cell.c.sketch, block_account.c.sketch, block_account.c.subjects):
        await _forget(connection, product, column, known_as, stranger)


async def _forget(
    connection: AsyncConnection, product: str, column: Column[Any], known_as: tuple[int, ...], stranger: int
) -> None:
    table = column.table.c
    rows = await connection.execute(
        select(table.series_id, table.block_start, column)
        .join(series, series.c.series_id == table.series_id)
        .where(series.c.product == product, column.is_not(None))
    )
    is_bare = column.name == "subjects"  # always distinct values: no mark of its kind
    for series_id, block, data in rows.all():
        sketch = Distinct.from_bytes(bytes(data)) if is_bare else sketch_of(bytes(data))
        if isinstance(sketch, Distinct) and sketch.replace(known_as, stranger):
            anew = sketch.to_bytes() if is_bare else sketch_bytes(sketch)
            mine = (table.series_id == series_id) & (table.block_start == block)
            await connection.execute(update(column.table).where(mine).values({column.name: anew}))
