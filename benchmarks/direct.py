"""The aggregator without Kafka: records from memory through decode, dedup, fold and store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from benchmarks.events import MASTER, catalogs_of
from benchmarks.process import metered
from impact_aggregator.active import activate
from impact_aggregator.batches import Claim
from impact_aggregator.counting import Counting
from impact_aggregator.recount import History
from impact_aggregator.rolling import Rolling
from impact_aggregator.rules import Rules
from impact_aggregator.store import Store
from impact_aggregator.values import Metrics
from impact_database.engine import connect
from impact_schemas.identity import Identities
from impact_schemas.wire import QUARANTINE_TOPIC

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from impact_eventlog import Partition, Record

LOG_ID = "bench"


class Cost(NamedTuple):
    """What some batches took."""

    events: int
    buckets: int  # rows of the table `bucket` that were written
    cpu_s: float
    wall_s: float

    def plus(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(
            self.events + other.events,
            self.buckets + other.buckets,
            self.cpu_s + other.cpu_s,
            self.wall_s + other.wall_s,
        )


class Direct:
    """One aggregator on the database at `url`; `begin` first, `close` at the end."""

    def __init__(self, url: str, catalog: str) -> None:
        self.engine = connect(url)
        self._catalogs = catalogs_of(catalog)
        self._store = Store(self.engine, _clock, "bench")
        self._rolling = Rolling(self.engine, _clock, "bench")
        history = History(_NoReader())
        self._counting = Counting(self._store, history, Identities(MASTER), QUARANTINE_TOPIC)
        self._claims: dict[Partition, Claim] = {}

    async def begin(self) -> None:
        """Activates the catalog and reads which series there are, as the service does at its start."""
        self._active = await activate(self.engine, self._catalogs, _clock())
        self._rules = Rules(self._catalogs, self._active.versions)
        self._rules.admit(await self._store.known_series(list(self._catalogs)))
        self._rolling.use(Metrics(self._catalogs, self._active.versions), self._active.generation)

    async def claim(self, partition: Partition) -> None:
        """Takes a partition over."""
        self._claims[partition] = await self._store.claim(partition, LOG_ID)

    async def count(self, polls: Sequence[Sequence[Record]]) -> Cost:
        """Each poll becomes one transaction, as in the service."""
        events = buckets = 0
        for partition in {record.partition for poll in polls for record in poll} - set(self._claims):
            await self.claim(partition)
        with metered() as spent:
            for poll in polls:
                by_partition = {record.partition: [record] for record in poll}
                batches = await self._counting.batches(self._claims, by_partition, self._rules)
                await self._store.commit(batches, self._rules, self._active.generation)
                for batch in batches:
                    old = batch.claim
                    self._claims[old.partition] = Claim(old.partition, old.epoch, batch.next_offset)
                    events += len(batch.folded.identities)
                    buckets += len(batch.folded.buckets)
        return Cost(events, buckets, spent.cpu_s, spent.wall_s)

    async def tick(self) -> Cost:
        """One tick of the leader."""
        with metered() as spent:
            await self._rolling.tick()
        return Cost(0, 0, spent.cpu_s, spent.wall_s)

    async def close(self) -> None:
        """Gives the connections back."""
        await self.engine.dispose()


def _clock() -> int:
    return time.time_ns() // 1000


class _NoReader:
    """The log for recounts, which nothing here asks for."""

    async def start(self) -> NoReturn:
        raise NotImplementedError

    def assignment(self) -> Mapping[Partition, int]:
        return {}

    def seek(self, partition: Partition, offset: int) -> NoReturn:
        raise NotImplementedError(partition, offset)

    def leave(self, partition: Partition) -> NoReturn:
        raise NotImplementedError(partition)

    async def poll(self, timeout_s: float) -> NoReturn:
        raise NotImplementedError(timeout_s)

    async def end_offsets(self, partitions: Collection[Partition]) -> NoReturn:
        raise NotImplementedError(partitions)

    async def log_id(self, topic: str) -> NoReturn:
        raise NotImplementedError(topic)

    async def stop(self) -> None:
        """Nothing was opened."""
