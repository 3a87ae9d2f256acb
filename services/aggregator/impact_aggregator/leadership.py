"""One aggregator leads: it alone turns buckets into rolling metrics and exports business gauges.

The lease is a row that expires by the database's clock, so that no two machines' clocks are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

LEASE_SECONDS = 5

_NOW = {
    "postgresql": ("clock_timestamp()", f"clock_timestamp() + interval '{LEASE_SECONDS} seconds'"),
    "sqlite": (
        "strftime('%Y-%m-%d %H:%M:%f', 'now')",
        f"strftime('%Y-%m-%d %H:%M:%f', 'now', '+{LEASE_SECONDS} seconds')",
    ),
}


async def hold_lease(connection: AsyncConnection, holder: str) -> int | None:
    """Takes or renews the lease within the caller's transaction; None if another holds it.

    Gives the lease's epoch: another one than before means that another has led in between.
    """
    now, expiry = _NOW[connection.dialect.name]
    statement = text(
        "UPDATE leader SET epoch = epoch + CASE WHEN holder = :holder THEN 0 ELSE 1 END,"  # noqa: S608 (constants)
        f" holder = :holder, expires_at = {expiry}"
        f" WHERE id = 1 AND (holder = :holder OR expires_at < {now}) RETURNING epoch"
    )
    epoch: int | None = await connection.scalar(statement, {"holder": holder})
    return epoch
