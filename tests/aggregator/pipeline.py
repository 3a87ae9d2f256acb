"""The aggregator without a log: events go straight into fold, store and tick."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from impact_aggregator.active import ActiveCatalog, activate
from impact_aggregator.fold import fold
from impact_aggregator.rolling import Rolling
from impact_aggregator.rules import Rules
from impact_aggregator.store import Batch, Claim, Store
from impact_aggregator.values import Metrics
from impact_database import migrate
from impact_database.engine import connect, read_only
from impact_eventlog import Partition
from tests.aggregator.conftest import EVENTS, Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_aggregator.decode import Event
    from impact_schemas.catalog import Catalog


class Pipeline:
    """One aggregator on one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        catalogs: Mapping[str, Catalog],
        active: ActiveCatalog,
        clock: Clock,
        holder: str,
    ) -> None:
        self.engine = engine
        self.catalogs = catalogs
        self.active = active
        self.clock = clock
        self.store = Store(engine, clock, holder)
        self.rules = Rules(catalogs, active.versions)
        self.rolling = Rolling(engine, clock, holder)
        self.rolling.use(Metrics(catalogs, active.versions), active.generation)
        self.claims: dict[int, Claim] = {}

    async def claim(self, partition: int = 0) -> Claim:
        self.claims[partition] = await self.store.claim(Partition(EVENTS, partition), "log-1")
        return self.claims[partition]

    async def count(self, events: Sequence[Event], partition: int = 0) -> None:
        """Counts the events as the next record of the partition."""
        if partition not in self.claims:
            await self.claim(partition)
        batch = await self.batch(events, partition)
        await self.store.commit([batch], self.rules, self.active.generation)
        claim = batch.claim
        self.claims[partition] = Claim(claim.partition, claim.epoch, batch.next_offset)

    async def batch(self, events: Sequence[Event], partition: int = 0) -> Batch:
        claim = self.claims[partition]
        for index, event in enumerate(events):
            event.position = type(event.position)(claim.partition, claim.next_offset, index)
        known = await self.store.known_identities(event.identity for event in events)
        return Batch(claim, claim.next_offset + 1, fold(events, self.rules, known))

    async def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        async with read_only(self.engine).connect() as connection:
            return [tuple(row) for row in await connection.execute(text(sql), parameters)]

    async def rolling_values(self, metric: str, window: str) -> dict[str, tuple[Any, ...]]:
        """Segment to (value, n, status)."""
        rows = await self.rows(
            "SELECT segment, value, n, status FROM rolling_metrics WHERE metric = :m AND time_window = :w",
            m=metric,
            w=window,
        )
        return {
            segment: (None if value is None else float(value), n, status)
            for segment, value, n, status in rows
        }


@asynccontextmanager
async def pipeline(url: str, catalog: Catalog, clock: Clock, holder: str = "one") -> AsyncIterator[Pipeline]:
    """A pipeline on the database at `url`, which is migrated if it has to be."""
    engine = connect(url)
    try:
        await migrate.upgrade(engine)
        catalogs = {catalog.product: catalog}
        active = await activate(engine, catalogs, clock())
        yield Pipeline(engine, catalogs, active, clock, holder)
    finally:
        await engine.dispose()
