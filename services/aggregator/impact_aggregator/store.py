"""The store: claims on partitions, known identities, and the one transaction that makes a batch count.

Exactly once: `commit` moves each partition's `next_offset` by compare-and-set on (epoch, expected offset,
catalog generation) in the same transaction as everything that the batch changes. If that fails, or the
answer of COMMIT is lost, the batch is dropped and the partition claimed again: the claim reads what is
true, and reading goes on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy import exists, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from impact_aggregator.amendments import Amendment
from impact_aggregator.batches import Batch, Claim, States
from impact_aggregator.bucket_rows import bucket_row, partial_of
from impact_aggregator.events import Position
from impact_aggregator.fold import BucketKey, Known
from impact_aggregator.revisions import Revisions
from impact_aggregator.rules import Series
from impact_aggregator.windows import ALL_TIME, DAY
from impact_database import bulk
from impact_database.engine import read_only
from impact_eventlog import Partition
from impact_schemas.tables import (
    amendment,
    annotation,
    bucket,
    catalog_state,
    changed_day,
    changed_series,
    claim,
    event_identity,
    ledger_count,
    log_hole,
    log_index,
    quarantine,
    series,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_aggregator.events import Quarantined
    from impact_aggregator.partial import Partial
    from impact_aggregator.rules import Rules
    from impact_eventlog import EventLogReader, LogHole

INDEX_EVENTS = 10_000  # in one entry of the log index
CACHE_BYTES = 128 * 1024 * 1024  # for each of the cache's two halves


class ClaimLost(Exception):
    """Another aggregator took the partition over, or another catalog is active: drop the batch."""


class LogReplaced(Exception):
    """The log is not the one that the database's numbers came from."""


class _IndexEntry(NamedTuple):
    first_offset: int
    next_offset: int
    events: int
    least_time: int
    greatest_time: int


async def check_log(engine: AsyncEngine, reader: EventLogReader) -> None:
    """Raises LogReplaced if what is counted is not in this log: to be asked before anything is appended."""
    table = claim.c
    statement = select(table.topic, table.partition, table.log_id, table.next_offset)
    async with read_only(engine).connect() as connection:
        rows = (await connection.execute(statement)).all()
    partitions = reader.assignment()
    counted = [row for row in rows if Partition(row.topic, row.partition) in partitions]
    ends = await reader.end_offsets([Partition(row.topic, row.partition) for row in counted])
    for row in counted:
        partition = Partition(row.topic, row.partition)
        check_identity(partition, row.log_id, await reader.log_id(row.topic))
        check_end(partition, row.next_offset, ends[partition])


def check_identity(partition: Partition, counted: str, found: str) -> None:
    """Raises LogReplaced if the numbers came from another log than the one that is there."""
    if counted != found:
        raise LogReplaced(
            f"topic {partition.topic!r} has identity {found}, but the numbers in the database came"
            f" from {counted}: bring the old log back, or start with an empty database"
        )


def check_end(partition: Partition, next_offset: int, end: int) -> None:
    """Raises LogReplaced if records that are counted are not in the log."""
    if end < next_offset:
        raise LogReplaced(
            f"{partition.topic}-{partition.number} ends at offset {end}, but {next_offset} of its"
            " records are counted: bring the whole log back, or start with an empty database"
        )


class Connects(Protocol):
    """What the store needs of an engine."""

    @property
    def dialect(self) -> Dialect:
        """PostgreSQL's or SQLite's."""
        ...

    def begin(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that is committed at the end."""
        ...

    def connect(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """For reading."""
        ...


class Store:
    """One aggregator's access to the metrics database."""

    def __init__(self, engine: Connects, clock: Callable[[], int], holder: str) -> None:
        self._engine = engine
        self._clock = clock
        self._holder = holder
        self._cache = _PartialCache(CACHE_BYTES)
        self._stored_series: set[int] = set()
        self._index: dict[Partition, _IndexEntry] = {}

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
            check_identity(partition, row.log_id, log_id)
        self.forget()
        return Claim(partition, row.epoch, row.next_offset)

    def forget(self) -> None:
        """Drops all that is remembered of rows that another aggregator may have changed."""
        self._cache.clear()
        self._stored_series.clear()
        self._index.clear()

    async def offsets(self, topic: str) -> dict[int, int]:
        """How far each of the topic's partitions is counted."""
        statement = select(claim.c.partition, claim.c.next_offset).where(claim.c.topic == topic)
        async with self._engine.connect() as connection:
            return {row.partition: row.next_offset for row in await connection.execute(statement)}

    async def known_series(self, products: Collection[str]) -> list[Series]:
        """The series that exist, for the limits on segments."""
        table = series.c
        statement = select(table.product, table.metric, table.version, table.segment)
        async with self._engine.connect() as connection:
            rows = await connection.execute(statement.where(table.product.in_(products)))
            return [Series(*row) for row in rows]

    async def known_identities(self, identities: Iterable[bytes]) -> dict[bytes, Known]:
        """Of these identities those that were counted."""
        table = event_identity.c
        wanted = [(identity,) for identity in set(identities)]
        columns = (table.identity, table.digest, table.partition, table.offset, table.position)
        async with self._engine.connect() as connection:
            rows = await bulk.select_by_key(connection, columns, (table.identity,), wanted)
        return {bytes(identity): Known(*rest) for identity, *rest in rows}

    async def amendments(self, targets: Iterable[bytes]) -> dict[bytes, list[Amendment]]:
        """What has been said of these events before, whether or not they have come."""
        wanted = [(target,) for target in set(targets)]
        async with self._engine.connect() as connection:
            if not await connection.scalar(select(exists(select(amendment.c.target)))):
                return {}  # most products never take anything back
            rows = await bulk.select_by_key(connection, tuple(amendment.c), (amendment.c.target,), wanted)
        found: dict[bytes, list[Amendment]] = {}
        for row in rows:
            one = _amendment_of(row)
            found.setdefault(one.target, []).append(one)
        return found

    async def log_ranges(self, claimed: Claim, days: Iterable[int]) -> list[tuple[int, int]]:
        """Runs of offsets, before the claim's, in which events of these days may be found again."""
        table = log_index.c
        near = or_(*((table.least_time < day + DAY) & (table.greatest_time >= day) for day in days))
        statement = (
            select(table.first_offset, table.next_offset)
            .where(table.topic == claimed.partition.topic, table.partition == claimed.partition.number, near)
            .order_by(table.first_offset)
        )
        ranges: list[tuple[int, int]] = []
        async with self._engine.connect() as connection:
            for first, after in await connection.execute(statement):
                if ranges and ranges[-1][1] == first:
                    ranges[-1] = (ranges[-1][0], after)
                else:
                    ranges.append((first, after))
        return ranges

    async def commit(self, batches: Sequence[Batch], rules: Rules, generation: int) -> None:
        """Makes the batches count, all or none. Raises ClaimLost; forgets its cache on any error."""
        ordered = sorted(batches, key=lambda batch: batch.claim.partition)  # one order of locks everywhere
        try:
            async with self._engine.begin() as connection:
                for batch in ordered:
                    await self._move(connection, batch.claim, batch.next_offset, generation)
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
        await self._write_amendments(connection, batches)
        await self._write_annotations(connection, batches)
        await self._write_log_index(connection, batches)
        if any(batch.folded.buckets or batch.recounted.buckets for batch in batches):
            await self._write_buckets(connection, batches, rules)

    async def _write_amendments(self, connection: AsyncConnection, batches: Sequence[Batch]) -> None:
        new = [
            one
            for batch in batches
            for ones in batch.folded.amendments.values()
            for one in ones
            if one not in batch.folded.unfit
        ]
        await bulk.insert(connection, tuple(amendment.c), [_amendment_row(one) for one in new])
        unfit = [(one.target, one.identity) for batch in batches for one in batch.folded.unfit]
        await bulk.delete_by_key(connection, (amendment.c.target, amendment.c.identity), unfit)

    @staticmethod
    async def _write_annotations(connection: AsyncConnection, batches: Sequence[Batch]) -> None:
        said = {
            identity: one for batch in batches for identity, one in batch.folded.annotations.items()
        }  # an identity is in one partition only
        await bulk.upsert(connection, tuple(annotation.c), [one for one in said.values() if one is not None])
        taken_back = [(identity,) for identity, one in said.items() if one is None]
        await bulk.delete_by_key(connection, (annotation.c.identity,), taken_back)

    async def _write_log_index(self, connection: AsyncConnection, batches: Sequence[Batch]) -> None:
        """Extends the partition's last entry, or begins one: entries are sparse, ranges stay short."""
        rows = []
        for batch in batches:
            times = [event.time for event in batch.folded.identities.values() if event.target is None]
            if not times:
                continue
            partition = batch.claim.partition
            entry = self._index.get(partition) or await self._last_index(connection, partition)
            if entry is None or entry.next_offset != batch.claim.next_offset or entry.events >= INDEX_EVENTS:
                entry = _IndexEntry(batch.claim.next_offset, 0, 0, min(times), max(times))
            entry = _IndexEntry(
                entry.first_offset,
                batch.next_offset,
                entry.events + len(times),
                min(entry.least_time, *times),
                max(entry.greatest_time, *times),
            )
            self._index[partition] = entry
            rows.append((*partition, *entry))
        await bulk.upsert(connection, tuple(log_index.c), rows)

    @staticmethod
    async def _last_index(connection: AsyncConnection, partition: Partition) -> _IndexEntry | None:
        table = log_index.c
        statement = (
            select(table.first_offset, table.next_offset, table.events, table.least_time, table.greatest_time)
            .where(table.topic == partition.topic, table.partition == partition.number)
            .order_by(table.first_offset.desc())
            .limit(1)
        )
        row = (await connection.execute(statement)).first()
        return None if row is None else _IndexEntry(*row)

    async def _write_buckets(
        self, connection: AsyncConnection, batches: Sequence[Batch], rules: Rules
    ) -> None:
        places = {
            (key, batch.claim.partition.number)
            for batch in batches
            for key in (*batch.folded.buckets, *batch.recounted.buckets)
        }
        await self._enter_series(connection, {key.series_id for key, _ in places}, rules)
        states = await self._states(connection, places)
        revisions = Revisions(rules, self._clock())
        await revisions.look(connection, [batch for batch in batches if batch.revises], states)
        for batch in batches:
            await self._replace(connection, batch, states)
            shard = batch.claim.partition.number
            for key, delta in batch.folded.buckets.items():
                state = states.setdefault((key, shard), delta)
                if state is not delta:
                    state.merge(delta)
        await revisions.write(connection, states)
        await self._write_states(connection, states, rules)
        await _note_changes(connection, states)

    async def _enter_series(self, connection: AsyncConnection, ids: set[int], rules: Rules) -> None:
        new = sorted(ids - self._stored_series)
        await bulk.insert_missing(connection, tuple(series.c), [(one, *rules.book[one]) for one in new])
        self._stored_series.update(new)

    async def _replace(self, connection: AsyncConnection, batch: Batch, states: States) -> None:
        """Puts recounted states in the place of the old ones; all time follows from the days."""
        shard = batch.claim.partition.number
        anew = batch.recounted.buckets
        for key, state in anew.items():
            states[key, shard] = state
        for key in [key for key in anew if key.resolution == ALL_TIME]:
            rows = await connection.execute(
                select(bucket).where(
                    bucket.c.series_id == key.series_id, bucket.c.resolution == "1d", bucket.c.shard == shard
                )
            )
            days = {partial_of(tuple(row))[0]: partial_of(tuple(row))[2] for row in rows}
            days |= {day: state for day, state in anew.items() if day[:2] == (key.series_id, "1d")}
            for state in days.values():
                states[key, shard].merge(state)

    async def _write_states(self, connection: AsyncConnection, states: States, rules: Rules) -> None:
        now = self._clock()
        rows, empty = [], []
        for place, state in states.items():
            self._cache.put(place, state)
            key, shard = place
            if state.is_empty:
                empty.append((*key, shard))
                continue
            state.updated_at = now
            aggregate = rules.aggregate_of(key.series_id)
            rows.append(bucket_row(key, shard, state, state.estimate(aggregate), now))
        await bulk.upsert(connection, tuple(bucket.c), rows)
        await bulk.delete_by_key(connection, tuple(bucket.primary_key), empty)

    async def _states(self, connection: AsyncConnection, places: Iterable[tuple[BucketKey, int]]) -> States:
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


async def _note_changes(connection: AsyncConnection, states: States) -> None:
    """For the tick: which buckets changed (all time does whenever another one does), and on which days."""
    keys = sorted({key for key, _ in states if key.resolution != ALL_TIME})
    days = [(key.series_id, key.start) for key in keys if key.resolution == "1d"]
    changed = changed_series.c
    await bulk.insert(connection, (changed.series_id, changed.resolution, changed.bucket_start), keys)
    await bulk.insert(connection, (changed_day.c.series_id, changed_day.c.day), days)


def _amendment_row(one: Amendment) -> tuple[object, ...]:
    position = one.position
    return (
        one.target,
        one.identity,
        one.product,
        one.kind,
        one.time,
        one.event_id,
        one.event,
        one.received_at,
        position.partition.topic,
        position.partition.number,
        position.offset,
        position.index,
    )


def _amendment_of(row: tuple[Any, ...]) -> Amendment:
    target, identity, product, kind, time, event_id, event, received_at, topic, number, *place = row
    position = Position(Partition(topic, number), *place)
    return Amendment(
        bytes(target), bytes(identity), product, kind, time, event_id, event, received_at, position
    )


def _identity_rows(batches: Sequence[Batch]) -> list[tuple[object, ...]]:
    return [
        (identity, event.digest, event.record.partition.number, event.record.offset, event.index)
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
