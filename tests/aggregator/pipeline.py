"""The aggregator without a log: events go straight into fold, store and tick."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from impact_aggregator.active import ActiveCatalog, activate
from impact_aggregator.batches import Claim
from impact_aggregator.counting import Counting
from impact_aggregator.recount import History
from impact_aggregator.rolling import Rolling
from impact_aggregator.rules import Rules
from impact_aggregator.store import Store
from impact_aggregator.values import Metrics
from impact_database import migrate
from impact_database.engine import connect, read_only
from impact_eventlog import Partition, Record
from impact_schemas.wire import encode_record
from tests.aggregator.conftest import EVENTS, QUARANTINE, Clock, identities

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_aggregator.batches import Batch
    from impact_aggregator.events import Event
    from impact_schemas.catalog import Catalog


class ListReader:
    """Reads records back from a list."""

    def __init__(self, log: list[Record]) -> None:
        self._log = log
        self._next: tuple[Partition, int] | None = None

    async def start(self) -> None:
        """Nothing to open."""

    def seek(self, partition: Partition, offset: int) -> None:
        self._next = (partition, offset)

    def leave(self, partition: Partition) -> None:
        if self._next is not None and self._next[0] == partition:
            self._next = None

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        assert timeout_s > 0
        assert self._next is not None
        partition, offset = self._next
        found = [one for one in self._log if one.partition == partition and one.offset >= offset][:3]
        if found:
            self._next = (partition, found[-1].offset + 1)
        return found

    def assignment(self) -> Mapping[Partition, int]:
        return {}

    async def end_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        raise NotImplementedError

    async def log_id(self, topic: str) -> str:
        raise NotImplementedError

    async def stop(self) -> None:
        """Nothing to close."""


class Pipeline:
    """One aggregator on one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        catalogs: Mapping[str, Catalog],
        active: ActiveCatalog,
        clock: Clock,
        holder: str,
        log: list[Record],
    ) -> None:
        self.engine = engine
        self.catalogs = catalogs
        self.clock = clock
        self.store = Store(engine, clock, holder)
        self.rolling = Rolling(engine, clock, holder, period_pause=0)
        self.use(active)
        self.claims: dict[int, Claim] = {}
        self.log = log
        self.counting = Counting(self.store, History(ListReader(log)), identities, QUARANTINE)

    def use(self, active: ActiveCatalog) -> None:
        """Takes up what is in force."""
        self.active = active
        self.rules = Rules(self.catalogs, active.versions)
        self.rolling.use(Metrics(self.catalogs, active.versions), active.generation)

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
        payload = encode_record(event.raw for event in events)
        received_at = max((event.received_at for event in events), default=self.clock())
        record = Record(claim.partition, claim.next_offset, "clinic", received_at, payload)
        self.log.append(record)
        (batch,) = await self.counting.batches(
            {claim.partition: claim}, {claim.partition: [record]}, self.rules
        )
        return batch

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
async def pipeline(
    url: str, catalog: Catalog, clock: Clock, holder: str = "one", log: list[Record] | None = None
) -> AsyncIterator[Pipeline]:
    """A pipeline on the database at `url`, which is migrated if it has to be; `log` may be shared."""
    engine = connect(url)
    try:
        await migrate.upgrade(engine)
        catalogs = {catalog.product: catalog}
        active = await activate(engine, catalogs, clock())
        yield Pipeline(engine, catalogs, active, clock, holder, log if log is not None else [])
    finally:
        await engine.dispose()
