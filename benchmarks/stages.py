"""Where the aggregator's time goes: its stages one after the other, from memory into PostgreSQL."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.events import MASTER, EventMaker, catalog_text, catalogs_of, records
from benchmarks.process import metered
from impact_aggregator.active import activate
from impact_aggregator.batches import Batch, Claim
from impact_aggregator.decode import decode_record
from impact_aggregator.events import Event
from impact_aggregator.fold import fold
from impact_aggregator.rolling import Rolling
from impact_aggregator.rules import Rules
from impact_aggregator.store import Store
from impact_aggregator.values import Metrics
from impact_database.engine import connect
from impact_schemas.identity import Identities
from impact_schemas.wire import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from impact_eventlog import Partition, Record

POLL = 20_000  # events: about what a poll of 8 MiB brings
STAGES = {
    "decode": "JSON, identity, digest of the content, time",
    "look up": "known identities and amendments, from SQL",
    "fold": "dedup, groups, metrics, sketches",
    "commit": "identities, buckets, ledger and offsets in one transaction",
    "tick": "rolling values and periods; in the service once a second, here once a poll",
}


def stages(url: str, metrics: Sequence[str], polls: int, size: int = POLL) -> dict[str, Any]:
    """CPU microseconds an event of each stage; the first poll, which fills the caches, is left out."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(url, metrics, polls, size))


async def _measure(url: str, metrics: Sequence[str], polls: int, size: int) -> dict[str, Any]:
    aggregator = _Staged(url, metrics)
    maker = EventMaker()
    await aggregator.begin()
    gc.collect()
    gc.freeze()  # as the service does at its start, with these thresholds
    gc.set_threshold(100_000, 50, 100)
    for number in range(polls + 1):
        made = maker.stream(range(number * size, (number + 1) * size))
        await aggregator.count(records(maker, made, PARTITIONS, number))
        if number == 0:
            aggregator.cpu_s.clear()
    await aggregator.close()
    return {stage: cpu_s / polls / size * 1e6 for stage, cpu_s in aggregator.cpu_s.items()}


class _Staged:
    """What the service does with a poll, each stage measured by itself."""

    def __init__(self, url: str, metrics: Sequence[str]) -> None:
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self._engine = connect(url)
        self._catalogs = catalogs_of(catalog_text(metrics))
        self._identities = Identities(MASTER)
        self._store = Store(self._engine, _clock, "bench")
        self._rolling = Rolling(self._engine, _clock, "bench")
        self._claims: dict[Partition, Claim] = {}

    async def begin(self) -> None:
        """Activates the catalog."""
        active = await activate(self._engine, self._catalogs, _clock())
        self._generation = active.generation
        self._rules = Rules(self._catalogs, active.versions)
        self._rolling.use(Metrics(self._catalogs, active.versions), active.generation)

    async def count(self, poll: Sequence[Record]) -> None:
        """One poll with a record of each partition."""
        for record in poll:
            if record.partition not in self._claims:
                self._claims[record.partition] = await self._store.claim(record.partition, "bench")
        with metered() as decoding:
            decoded = {record.partition: list(decode_record(record, self._identities)) for record in poll}
        with metered() as looking:
            wanted = {one.identity for ones in decoded.values() for one in ones if isinstance(one, Event)}
            known = await self._store.known_identities(wanted)
            amendments = await self._store.amendments(wanted)
        with metered() as folding:
            batches = [
                Batch(self._claims[name], poll[0].offset + 1, fold(ones, self._rules, known, amendments))
                for name, ones in decoded.items()
            ]
        with metered() as committing:
            await self._store.commit(batches, self._rules, self._generation)
        with metered() as ticking:
            await self._rolling.tick()
        for batch in batches:
            old = batch.claim
            self._claims[old.partition] = Claim(old.partition, old.epoch, batch.next_offset)
        for stage, part in zip(STAGES, (decoding, looking, folding, committing, ticking), strict=True):
            self.cpu_s[stage] += part.cpu_s

    async def close(self) -> None:
        """Gives the connections back."""
        await self._engine.dispose()


def _clock() -> int:
    return time.time_ns() // 1000
