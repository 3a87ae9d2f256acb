"""What the metrics database knows of one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import case, exists, literal, select

from impact_database.engine import read_only
from impact_schemas.tables import amendment, event_identity, quarantine

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

Settled = Literal["counted", "quarantined", "retracted"]


class SqlEventStatus:
    """Looks in the tables that the aggregator writes."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, product: str, identity: bytes, source: str, event_id: str) -> Settled | None:
        """None if nothing is known. Raises SQLAlchemyError or OSError while the database is down.

        A retraction holds for good, so it comes first; what is counted under an identity stays counted
        when a copy with other content is in quarantine.
        """
        retracted = exists(amendment.c.target).where(
            amendment.c.target == identity, amendment.c.kind == "retraction"
        )
        counted = exists(event_identity.c.identity).where(event_identity.c.identity == identity)
        refused = exists(quarantine.c.product).where(
            quarantine.c.product == product,
            quarantine.c.event_source == source,
            quarantine.c.event_id == event_id,
        )
        query = select(
            case(
                (retracted, literal("retracted")),
                (counted, literal("counted")),
                (refused, literal("quarantined")),
            )
        )
        async with read_only(self._engine).connect() as connection:
            found: Settled | None = (await connection.execute(query)).scalar_one()
        return found
