"""Recounting history under the present catalog, while live counting goes on.

Each metric gets a new version, which nobody sees: its buckets are filled from the log, from offset 0 on,
under claims of their own. Which events count was decided when they were first counted, and is read, not
decided again. When the new versions have come as far as the live ones in every partition, one transaction
puts them in the place of the old: killed before it, the old numbers are served; after it, the new.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, insert, select, tuple_, update

from impact_aggregator.active import active_state, catalogs_hash, changed_editions
from impact_aggregator.batches import Batch, Claim
from impact_aggregator.bucket_rows import partial_of
from impact_aggregator.decode import decode_record
from impact_aggregator.events import Event
from impact_aggregator.fold import Folded, Known, fold
from impact_aggregator.partial import Partial
from impact_aggregator.protection.versions import carry_blocks_over
from impact_aggregator.recount import Recounter, is_first_copy
from impact_aggregator.rules import TOTAL, Rules, Series
from impact_aggregator.store import ClaimLost, Store
from impact_aggregator.windows import ALL_TIME
from impact_database import bulk
from impact_eventlog import Partition
from impact_schemas.tables import (
    block_account,
    block_cell,
    bucket,
    catalog_state,
    changed_day,
    changed_series,
    claim,
    merged_estimate,
    metric_revision,
    metric_version,
    period_value,
    rolling_value,
    series,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_aggregator.amendments import Amendment
    from impact_aggregator.recount import History
    from impact_eventlog import Record
    from impact_schemas.catalog import Catalog
    from impact_schemas.identity import Identities

PREFIX = "rebuild of "  # of the topic, in the claims of a rebuild
_CHUNK = 20_000  # events folded at a time

Name = tuple[str, str]  # product, metric


class CannotRebuild(Exception):
    """The rebuild has no ground to stand on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    versions: Mapping[Name, int]
    records: int
    revised: int  # day buckets whose value is another now


class _Past:
    """The store as it stood when the log had come to `limit`: later amendments are not yet known."""

    def __init__(self, store: Store, topic: str, limit: int) -> None:
        self._store = store
        self._topic = topic
        self._limit = limit

    async def known_identities(self, identities: Iterable[bytes]) -> dict[bytes, Known]:
        """Those that were counted before the limit."""
        known = await self._store.known_identities(identities)
        return {identity: place for identity, place in known.items() if place.offset < self._limit}

    async def amendments(self, targets: Iterable[bytes]) -> dict[bytes, list[Amendment]]:
        """Those that were counted before the limit."""
        found = await self._store.amendments(targets)
        return {
            target: [one for one in ones if one.position.offset < self._limit]
            for target, ones in found.items()
        }

    async def log_ranges(self, claimed: Claim, days: Iterable[int]) -> list[tuple[int, int]]:
        """Those before the limit."""
        live = Claim(Partition(self._topic, claimed.partition.number), claimed.epoch, claimed.next_offset)
        ranges = await self._store.log_ranges(live, days)
        return [(first, min(after, self._limit)) for first, after in ranges if first < self._limit]


class _Within:
    """Stands for an engine where all is to happen in one transaction, which somebody else ends."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.dialect = connection.dialect

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """The transaction that has begun already."""
        yield self._connection

    connect = begin


class _Counting:
    """Fills the new versions' buckets from the log, as far as live counting has come."""

    def __init__(
        self,
        history: History,
        identities: Identities,
        topic: str,
        rules: Rules,
        generation: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._history = history
        self._identities = identities
        self._topic = topic
        self._rules = rules
        self.generation = generation
        self._progress = progress
        self._claims: dict[int, Claim] = {}

    @property
    def records(self) -> int:
        """So many are counted."""
        return sum(one.next_offset for one in self._claims.values())

    async def follow(self, store: Store) -> int:
        """Brings every partition to the offset that live counting has come to; gives the records counted."""
        before = self.records
        ends = await store.offsets(self._topic)
        for number, end in ends.items():
            if number not in self._claims:
                self._claims[number] = await store.claim(Partition(PREFIX + self._topic, number), "rebuild")
            await self._catch_up(store, number, end, sum(ends.values()))
        return self.records - before

    async def _catch_up(self, store: Store, number: int, end: int, all_records: int) -> None:
        """Counts one partition's records up to the live offset."""
        chunk: list[Record] = []
        size = 0
        start = self._claims[number].next_offset
        async for record in self._history.records(Partition(self._topic, number), start, end):
            chunk.append(record)
            size += record.payload.count(b'"specversion"')
            if size >= _CHUNK or record.offset + 1 == end:
                self._claims[number] = await self._count(store, self._claims[number], chunk)
                chunk, size = [], 0
                self._progress(self.records, all_records)

    async def _count(self, store: Store, claimed: Claim, records: Sequence[Record]) -> Claim:
        events = [
            event
            for record in records
            for event in decode_record(record, self._identities)
            if isinstance(event, Event)
        ]
        past = _Past(store, self._topic, claimed.next_offset)
        identities = {event.identity for event in events}
        targets = {event.target for event in events if event.target is not None}
        known = await store.known_identities(identities)
        amendments = await past.amendments(identities | targets)
        standing = {one.identity for ones in (await store.amendments(targets)).values() for one in ones}
        counted = [
            event
            for event in events
            if is_first_copy(event, known) and (event.target is None or event.identity in standing)
        ]
        before = await past.known_identities(targets)
        folded = fold(counted, self._rules, {}, amendments, again=True)
        recounter = Recounter(self._history, past, self._rules, self._identities)
        live = Claim(Partition(self._topic, claimed.partition.number), claimed.epoch, claimed.next_offset)
        recounted = await recounter.recount(live, folded, before, amendments)
        after = records[-1].offset + 1
        batch = Batch(claimed, after, Folded(buckets=folded.buckets), recounted, revises=False)
        await store.commit([batch], self._rules, self.generation)
        return Claim(claimed.partition, claimed.epoch, after)


class Rebuild:
    """One rebuild of all metrics, or of those named."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        store: Store,
        history: History,
        identities: Identities,
        catalogs: Mapping[str, Catalog],
        events_topic: str,
        clock: Callable[[], int],
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._history = history
        self._identities = identities
        self._catalogs = catalogs
        self._topic = events_topic
        self._clock = clock
        self._progress = progress  # called with records done and records to do

    async def run(self, only: Callable[[str, str], bool] = lambda _product, _metric: True) -> Rebuilt:
        """Raises CannotRebuild, ClaimLost (another rebuild or catalog), LogUnavailable, LogHole."""
        generation, digest = await active_state(self._engine)
        if digest != catalogs_hash(self._catalogs):
            raise CannotRebuild("the catalog files are not the active ones: wait until the service has them")
        counted = {
            (product, name)
            for product, catalog in self._catalogs.items()
            for name, metric in catalog.metrics.items()
            if metric.derivation is None and only(product, name)
        }
        versions = await self._prepare(counted)
        rules = Rules(self._catalogs, versions)
        counting = _Counting(self._history, self._identities, self._topic, rules, generation, self._progress)
        behind = await counting.follow(self._store)
        while (left := await counting.follow(self._store)) < behind / 2:
            behind = left  # as level as it gets under load: the rest is counted while live counting waits
        revised = await self._swap(counting, versions)
        return Rebuilt(versions, counting.records, revised)

    # --- new versions -----------------------------------------------------------------------------------

    async def _prepare(self, names: set[Name]) -> dict[Name, int]:
        """Makes the new versions, inactive; clears what a rebuild that was killed has left."""
        table = metric_version.c
        async with self._engine.begin() as connection:
            await connection.execute(delete(claim).where(claim.c.topic == PREFIX + self._topic))
            rows = (await connection.execute(select(metric_version).where(table.active))).mappings().all()
            versions = {}
            for row in rows:
                await _forget_versions(connection, row["product"], row["metric"], row["version"])
                name = (row["product"], row["metric"])
                if name in names:
                    versions[name] = row["version"] + 1
                    new = {**row, "version": row["version"] + 1, "active": False}
                    await connection.execute(insert(metric_version).values(**new))
        return versions

    # --- the swap ---------------------------------------------------------------------------------------

    async def _swap(self, counting: _Counting, versions: Mapping[Name, int]) -> int:
        """Counts the last stretch and puts the new versions in force, or neither; gives the revised days."""
        async with self._engine.begin() as connection:
            # locks the live claims: nothing is counted until the new versions are in force
            mine = update(claim).where(claim.c.topic == self._topic)
            await connection.execute(mine.values(holder=claim.c.holder))
            await counting.follow(Store(_Within(connection), self._clock, "rebuild"))
            await connection.execute(update(catalog_state).values(id=1))
            if await connection.scalar(select(catalog_state.c.generation)) != counting.generation:
                raise ClaimLost("another catalog became active: run the rebuild again")
            revised = await self._revise(connection, versions)
            await self._activate(connection, versions)
            await carry_blocks_over(connection, versions)
            await connection.execute(update(catalog_state).values(generation=counting.generation + 1))
            await connection.execute(delete(claim).where(claim.c.topic == PREFIX + self._topic))
        return revised

    async def _activate(self, connection: AsyncConnection, versions: Mapping[Name, int]) -> None:
        table = metric_version.c
        for (product, metric), version in versions.items():
            mine = (table.product == product) & (table.metric == metric)
            await connection.execute(
                update(metric_version).where(mine).values(active=table.version == version)
            )
        names = [(product, metric, version) for (product, metric), version in versions.items()]
        ids = select(series.c.series_id).where(
            tuple_(series.c.product, series.c.metric, series.c.version).in_(names)
        )
        totals = [Series(*name, TOTAL) for name in names]  # shown even where no event matched
        rows = [(total.series_id, *total) for total in totals]
        await bulk.insert_missing(connection, tuple(series.c), rows)
        days = select(bucket.c.series_id, bucket.c.bucket_start).where(
            bucket.c.series_id.in_(ids), bucket.c.resolution == "1d"
        )
        await connection.execute(insert(changed_series).from_select(["series_id"], ids))
        await connection.execute(insert(changed_day).from_select(["series_id", "day"], days.distinct()))
        columns = ["series_id", "resolution", "bucket_start"]
        sketches = select(*(bucket.c[name] for name in columns)).where(
            bucket.c.series_id.in_(ids), bucket.c.resolution != ALL_TIME, bucket.c.sketch.is_not(None)
        )
        await connection.execute(insert(changed_series).from_select(columns, sketches.distinct()))

    async def _revise(self, connection: AsyncConnection, versions: Mapping[Name, int]) -> int:
        """Notes each day bucket whose value is another under the new version; gives how many."""
        revised = 0
        now = self._clock()
        for (product, metric), version in versions.items():
            aggregate = self._catalogs[product].metrics[metric].aggregate or ""
            cause = await _cause(connection, (product, metric), version)
            old = await _day_values(connection, (product, metric, cause.compared_with), aggregate)
            new = await _day_values(connection, (product, metric, version), aggregate)
            rows = [
                {
                    "series_id": new.get(place, old.get(place, (0, None)))[0],
                    "resolution": "1d",
                    "bucket_start": place[1],
                    "reported_at": now,
                    "old_value": old.get(place, (0, None))[1],
                    "new_value": new.get(place, (0, None))[1],
                    "reason": cause.reason,
                    "caused_by": cause.by,
                }
                for place in old.keys() | new.keys()
                if old.get(place, (0, None))[1] != new.get(place, (0, None))[1]
            ]
            if rows:
                await connection.execute(insert(metric_revision), rows)
            revised += len(rows)
        return revised


class _Cause(NamedTuple):
    """Why a rebuild may give other numbers, and with which version it is compared."""

    compared_with: int
    reason: str
    by: str


async def _cause(connection: AsyncConnection, name: Name, version: int) -> _Cause:
    """A new edition of factors has begun a version of its own, empty: compared is the one before that."""
    table = metric_version.c
    rows = await connection.execute(
        select(table.version, table.definition).where(table.product == name[0], table.metric == name[1])
    )
    definitions = {row.version: row.definition for row in rows}
    before = definitions.get(version - 2)
    editions = None if before is None else changed_editions(before, definitions[version])
    if editions is None:
        return _Cause(version - 1, "rebuild", f"version {version}")
    return _Cause(version - 2, "factor", editions)


async def _day_values(
    connection: AsyncConnection, version: tuple[str, str, int], aggregate: str
) -> dict[tuple[str, int], tuple[int, int | None]]:
    """(segment, day) -> series id and value, of one version of a metric."""
    product, metric, number = version
    statement = (
        select(series.c.segment, bucket)
        .join(bucket, bucket.c.series_id == series.c.series_id)
        .where(
            series.c.product == product,
            series.c.metric == metric,
            series.c.version == number,
            bucket.c.resolution == "1d",
        )
    )
    shards: dict[tuple[str, int], Partial] = defaultdict(Partial)
    ids: dict[str, int] = {}
    for segment, *row in await connection.execute(statement):
        key, _, partial = partial_of(tuple(row))
        shards[segment, key.start].merge(partial)
        ids[segment] = key.series_id
    return {place: (ids[place[0]], partial.value(aggregate)) for place, partial in shards.items()}


async def _forget_versions(connection: AsyncConnection, product: str, metric: str, active: int) -> None:
    """Deletes what a rebuild left unfinished, and the numbers of versions before the last.

    The names of those stay: the daily history and the revisions speak of them.
    """
    mine = (series.c.product == product) & (series.c.metric == metric)
    unfinished, old = series.c.version > active, series.c.version < active - 1
    ids = select(series.c.series_id).where(mine & (unfinished | old))
    for derived in (bucket, merged_estimate, rolling_value, period_value, block_cell, block_account):
        await connection.execute(delete(derived).where(derived.c.series_id.in_(ids)))
    await connection.execute(delete(series).where(mine & unfinished))
    table = metric_version.c
    of_metric = (table.product == product) & (table.metric == metric)
    await connection.execute(delete(metric_version).where(of_metric & (table.version > active)))
