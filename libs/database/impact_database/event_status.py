"""What the metrics database knows of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import case, exists, literal, select

from impact_database import bulk
from impact_database.engine import read_only
from impact_schemas.tables import amendment, event_identity, quarantine

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    async def find_all(self, product: str, source: str, events: Mapping[str, bytes]) -> dict[str, Settled]:
        """The same of many events of one source, by their ids: id -> identity. Those unknown are left out."""
        identities = [(identity,) for identity in events.values()]
        here = (quarantine.c.product == product) & (quarantine.c.event_source == source)
        refused = select(quarantine.c.event_id).where(here, quarantine.c.event_id.in_(events))
        about = (amendment.c.target, amendment.c.kind)
        async with read_only(self._engine).connect() as connection:
            amended = await bulk.select_by_key(connection, about, (amendment.c.target,), identities)
            key = (event_identity.c.identity,)
            counted = set(await bulk.select_by_key(connection, key, key, identities))
            names = (await connection.execute(refused)).scalars().all()
        found: dict[str, Settled] = dict.fromkeys(names, "quarantined")
        retracted = {target for target, kind in amended if kind == "retraction"}
        for event_id, identity in events.items():
            if identity in retracted:
                found[event_id] = "retracted"
            elif (identity,) in counted:
                found[event_id] = "counted"
        return found
