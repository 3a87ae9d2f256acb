"""The store: claims on partitions, known identities, and the one transaction that makes a batch count.

Exactly once: `commit` moves each partition's `next_offset` by compare-and-set on (epoch, expected offset,
catalog generation) in the same transaction as everything that the batch changes. If that fails, or the
answer of COMMIT is lost, the batch is dropped and the partition claimed again: the claim reads what is
true, and reading goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from impact_aggregator.fold import BucketKey
from impact_aggregator.partial import Partial
from impact_aggregator.rules import Series
from impact_aggregator.sketches import Distinct, Quantiles
from impact_aggregator.windows import ALL_TIME
from impact_database import bulk
from impact_schemas.tables import (
    bucket,
    catalog_state,
    changed_series,
    changed_sketch,
    claim,
    event_identity,
    ledger_count,
    log_hole,
    quarantine,
    series,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_aggregator.decode import Quarantined
    from impact_aggregator.fold import Folded
    from impact_aggregator.rules import Rules
    from impact_eventlog import LogHole, Partition

CACHE_BYTES = 128 * 1024 * 1024  # for each of the cache's two halves


class ClaimLost(Exception):
    """Another aggregator took the partition over, or another catalog is active: drop the batch."""


class LogReplaced(Exception):
    """The log is not the one that the database's numbers came from."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to count one partition, for as long as nobody raises the epoch."""

    partition: Partition
    epoch: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one partition's records change; moves its claim to `next_offset`."""

    claim: Claim
    next_offset: int
    folded: Folded


class Store:
    """One aggregator's access to the metrics database."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], int], holder: str) -> None:
        self._engine = engine
        self._clock = clock
        self._holder = holder
        self._cache = _PartialCache(CACHE_BYTES)
        self._stored_series: set[int] = set()

    async def claim(self, partition: Partition, log_id: str) -> Claim:
        """Takes the partition over from whoever has it. Raises LogReplaced."""
        values = {
            "topic": partition.topic,
            "partition": partition.number,
            "log_id": log_id,
            "epoch": 1,
            "holder": self._holder,
            "next_offset": 0,
            "updated_at": self._clock(),
        }
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        statement = (
            dialect.insert(claim)
            .values(values)
            .on_conflict_do_update(
                index_elements=[claim.c.topic, claim.c.partition],
                set_={"epoch": claim.c.epoch + 1, "holder": self._holder},
            )
            .returning(claim.c.epoch, claim.c.next_offset, claim.c.log_id)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement)).one()
            if row.log_id != log_id:
                raise LogReplaced(
                    f"topic {partition.topic!r} has identity {log_id}, but the numbers in the database came"
                    f" from {row.log_id}: bring the old log back, or start with an empty database"
                )
        self.forget()
        return Claim(partition, row.epoch, row.next_offset)

    def forget(self) -> None:
        """Drops all that is remembered of rows that another aggregator may have changed."""
        self._cache.clear()
        self._stored_series.clear()

    async def known_series(self, products: Collection[str]) -> list[Series]:
        """The series that exist, for the limits on segments."""
        table = series.c
        statement = select(table.product, table.metric, table.version, table.segment)
        async with self._engine.connect() as connection:
            rows = await connection.execute(statement.where(table.product.in_(products)))
            return [Series(*row) for row in rows]

    async def known_identities(self, identities: Iterable[bytes]) -> dict[bytes, int]:
        """Of these identities those that were counted, with the digest of their content."""
        table = event_identity.c
        wanted = [(identity,) for identity in set(identities)]
        async with self._engine.connect() as connection:
            rows = await bulk.select_by_key(
                connection, (table.identity, table.digest), (table.identity,), wanted
            )
        return {bytes(identity): digest for identity, digest in rows}

    async def commit(self, batches: Sequence[Batch], rules: Rules, generation: int) -> None:
        """Makes the batches count, all or none. Raises ClaimLost; forgets its cache on any error."""
        ordered = sorted(batches, key=lambda batch: batch.claim.partition)  # one order of locks everywhere
        try:
            async with self._engine.begin() as connection:
                for batch in ordered:
                    await self._advance(connection, batch, generation)
                await self._write(connection, ordered, rules)
        except BaseException:
            self.forget()
            raise

    async def skip_hole(self, claimed: Claim, hole: LogHole, generation: int) -> None:
        """Writes down records that the log lost and moves past them."""
        async with self._engine.begin() as connection:
            values = {
                "topic": hole.partition.topic,
                "partition": hole.partition.number,
                "first_offset": hole.first_offset,
                "last_offset": hole.last_offset,
                "reason": hole.reason,
                "found_at": self._clock(),
            }
            await bulk.insert_missing(connection, tuple(log_hole.c), [tuple(values.values())])
            await self._move(connection, claimed, hole.last_offset + 1, generation)

    async def _advance(self, connection: AsyncConnection, batch: Batch, generation: int) -> None:
        await self._move(connection, batch.claim, batch.next_offset, generation)

    async def _move(
        self, connection: AsyncConnection, claimed: Claim, next_offset: int, generation: int
    ) -> None:
        # first in the transaction: it locks the row, so that a zombie waits here and then finds 0 rows
        active = select(catalog_state.c.generation).where(catalog_state.c.id == 1).scalar_subquery()
        statement = (
            update(claim)
            .where(
                claim.c.topic == claimed.partition.topic,
                claim.c.partition == claimed.partition.number,
                claim.c.epoch == claimed.epoch,
                claim.c.next_offset == claimed.next_offset,
                active == generation,
            )
            .values(next_offset=next_offset, updated_at=self._clock())
        )
        result = await connection.execute(statement)
        if result.rowcount != 1:
            raise ClaimLost(f"{claimed.partition} was claimed by another, or another catalog is active")

    async def _write(self, connection: AsyncConnection, batches: Sequence[Batch], rules: Rules) -> None:
        await bulk.insert(connection, tuple(event_identity.c), _identity_rows(batches))
        await bulk.insert(connection, tuple(quarantine.c), _quarantine_rows(batches))
        await bulk.upsert(
            connection,
            tuple(ledger_count.c),
            _ledger_rows(batches),
            add=("counted", "duplicates", "quarantined"),
        )
        touched = {
            (key, batch.claim.partition.number): delta
            for batch in batches
            for key, delta in batch.folded.buckets.items()
        }
        if touched:
            await self._write_buckets(connection, touched, rules)

    async def _write_buckets(
        self, connection: AsyncConnection, touched: Mapping[tuple[BucketKey, int], Partial], rules: Rules
    ) -> None:
        changed = sorted({key.series_id for key, _ in touched})
        new = [series_id for series_id in changed if series_id not in self._stored_series]
        rows = [(series_id, *rules.book[series_id]) for series_id in new]
        await bulk.insert_missing(connection, tuple(series.c), rows)
        self._stored_series.update(new)

        states = await self._states(connection, touched)
        now = self._clock()
        updated = []
        for place, delta in touched.items():
            state = states.get(place) or Partial()
            state.merge(delta)
            self._cache.put(place, state)
            aggregate = rules.aggregate_of(place[0].series_id)
            updated.append(_bucket_row(*place, state, state.estimate(aggregate), now))
        await bulk.upsert(connection, tuple(bucket.c), updated)

        await connection.execute(insert(changed_series), [{"series_id": series_id} for series_id in changed])
        sketches = [
            {"series_id": key.series_id, "resolution": key.resolution, "bucket_start": key.start}
            for (key, _), delta in touched.items()
            if delta.sketch is not None and key.resolution != ALL_TIME
        ]
        if sketches:
            await connection.execute(insert(changed_sketch), sketches)

    async def _states(
        self, connection: AsyncConnection, places: Iterable[tuple[BucketKey, int]]
    ) -> dict[tuple[BucketKey, int], Partial]:
        """What these buckets hold now; those that are new are left out."""
        states = {place: self._cache.get(place) for place in places}
        wanted = [
            (key.series_id, key.resolution, key.start, shard)
            for (key, shard), state in states.items()
            if state is None
        ]
        found = {place: state for place, state in states.items() if state is not None}
        for row in await bulk.select_by_key(connection, tuple(bucket.c), tuple(bucket.primary_key), wanted):
            key, shard, state = partial_of(row)
            found[key, shard] = state
        return found


def partial_of(row: tuple[Any, ...]) -> tuple[BucketKey, int, Partial]:
    """A row of the table `bucket`, in its columns' order: key, shard and state."""
    state = Partial()
    series_id, resolution, start, shard, state.seen, state.last_time, state.count = row[:7]
    state.sum, state.min, state.max, latest_time, latest_tiebreak, latest_value = row[7:13]
    sketch = row[-1]
    if latest_time is not None:
        state.latest = (latest_time, bytes(latest_tiebreak), latest_value)
    if sketch is not None:
        state.sketch = _sketch_of(bytes(sketch))
    return BucketKey(series_id, resolution, start), shard, state


_DISTINCT_TAG = b"D"
_QUANTILES_TAG = b"Q"


def _sketch_of(data: bytes) -> Distinct | Quantiles:
    kind = Distinct if data[:1] == _DISTINCT_TAG else Quantiles
    return kind.from_bytes(data[1:])


def _sketch_bytes(sketch: Distinct | Quantiles | None) -> bytes | None:
    if sketch is None:
        return None
    return (_DISTINCT_TAG if isinstance(sketch, Distinct) else _QUANTILES_TAG) + sketch.to_bytes()


def _bucket_row(
    key: BucketKey, shard: int, state: Partial, estimate: int | None, now: int
) -> tuple[object, ...]:
    latest = state.latest or (None, None, None)
    return (
        key.series_id,
        key.resolution,
        key.start,
        shard,
        state.seen,
        state.last_time,
        state.count,
        state.sum,
        state.min,
        state.max,
        *latest,
        estimate,
        now,
        _sketch_bytes(state.sketch),
    )


def _identity_rows(batches: Sequence[Batch]) -> list[tuple[object, ...]]:
    return [
        (identity, event.digest, event.position.partition.number, event.position.offset, event.position.index)
        for batch in batches
        for identity, event in batch.folded.identities.items()
    ]


def _ledger_rows(batches: Sequence[Batch]) -> list[tuple[object, ...]]:
    return [
        (
            product,
            batch.claim.partition.topic,
            batch.claim.partition.number,
            tally.counted,
            tally.duplicates,
            tally.quarantined,
        )
        for batch in batches
        for product, tally in batch.folded.tallies.items()
    ]


def _quarantine_rows(batches: Sequence[Batch]) -> list[tuple[object, ...]]:
    return [_quarantine_row(entry) for batch in batches for entry in batch.folded.quarantined]


def _quarantine_row(entry: Quarantined) -> tuple[object, ...]:
    position = entry.position
    return (
        position.partition.topic,
        position.partition.number,
        position.offset,
        position.index,
        entry.product,
        entry.code,
        entry.detail,
        entry.pointer,
        entry.received_at,
        entry.event_id,
        entry.event_source,
        entry.event_type,
        entry.payload,
        None,
    )


class _PartialCache:
    """Bucket states by key, bounded in bytes: when the young half is full it becomes the old one."""

    def __init__(self, half_bytes: int) -> None:
        self._half_bytes = half_bytes
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._young: dict[tuple[BucketKey, int], tuple[Partial, int]] = {}
        self._old: dict[tuple[BucketKey, int], tuple[Partial, int]] = {}
        self._young_bytes = 0

    def get(self, place: tuple[BucketKey, int]) -> Partial | None:
        """The state, if it is remembered."""
        found = self._young.get(place) or self._old.get(place)
        return found[0] if found else None

    def put(self, place: tuple[BucketKey, int], state: Partial) -> None:
        """Remembers the state."""
        weight = state.weight()
        self._young_bytes += weight - (self._young[place][1] if place in self._young else 0)
        self._young[place] = (state, weight)
        if self._young_bytes > self._half_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0
