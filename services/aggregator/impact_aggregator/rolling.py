"""Rolling metrics: the leader's tick turns what changed in the buckets into the values that people look at.

A tick reads the keys that the fold wrote down as changed, the series whose window has moved on, and the
metrics that fell silent; recomputes those series from their buckets; and deletes just the keys it read: all
in one transaction that also renews the lease.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, or_, select
from sqlalchemy.exc import DBAPIError

from impact_aggregator.leadership import hold_lease
from impact_aggregator.partial import Partial
from impact_aggregator.rules import TOTAL, Series
from impact_aggregator.store import partial_of
from impact_aggregator.values import Input, Metrics, Reading, reading_of
from impact_aggregator.windows import ALL_TIME, HOUR, KEPT, RESOLUTIONS, WINDOWS, floor, window_start
from impact_database import bulk
from impact_schemas.tables import (
    bucket,
    catalog_state,
    changed_series,
    changed_sketch,
    merged_estimate,
    rolling_value,
    series,
    window_position,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

MAX_CHANGES = 50_000  # rows of a tick; what is beyond waits for the next
_CHUNK = 1_000  # series in one query
_SERIALIZATION_FAILURE = "40001"

Inputs = dict[tuple[int, str], Partial]  # (series id, window) -> what its buckets hold together


class Point(NamedTuple):
    """One rolling value as it stands in SQL."""

    series: Series
    window: str
    reading: Reading


class Rolling:
    """Keeps `rolling_value` right, as long as this process holds the lease."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], int], holder: str) -> None:
        if engine.dialect.name == "postgresql":
            # one snapshot for the whole tick: a ratio's two halves are of the same moment
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._engine = engine
        self._clock = clock
        self._holder = holder
        self._metrics = Metrics({}, {})
        self._generation = -1
        self._offered: tuple[Metrics, int] | None = None  # a tick under way ends with what it began with
        self._forget()

    @property
    def points(self) -> Collection[Point]:
        """All current values, while this process leads; empty otherwise."""
        return self._points.values()

    def use(self, metrics: Metrics, generation: int) -> None:
        """Takes up the metrics of a catalog's generation; the next tick computes everything anew."""
        self._offered = (metrics, generation)
        self._points.clear()

    async def tick(self) -> bool:
        """Brings the rolling metrics up to date.

        False if another process leads, or another catalog is active.
        """
        if self._offered is not None:
            (self._metrics, self._generation), self._offered = self._offered, None
            self._forget()
        try:
            async with self._engine.begin() as connection:
                points = await self._tick(connection)
        except DBAPIError as error:
            self._forget()
            if getattr(error.orig, "sqlstate", None) == _SERIALIZATION_FAILURE:
                return False  # another took the lease in the same moment
            raise
        if points is None:
            self._forget()
            return False
        if self._offered is None:
            self._points.update({(point.series.series_id, point.window): point for point in points})
        return True

    def _forget(self) -> None:
        self._last_tick: int | None = None
        self._series: dict[int, Series] = {}
        self._states: dict[tuple[str, str], tuple[tuple[bool, ...], tuple[bool, ...]]] = {}
        self._last_times: dict[tuple[str, str], int | None] = {}
        self._points: dict[tuple[int, str], Point] = {}

    async def _tick(self, connection: AsyncConnection) -> list[Point] | None:
        active = await connection.scalar(select(catalog_state.c.generation))
        if active != self._generation or not await hold_lease(connection, self._holder):
            return None
        now = self._clock()
        change_ids, touched = await _changes(connection)
        touched |= await self._sliding(connection, now)
        await self._learn(connection, touched)
        points = await self._recompute(connection, touched, now)
        await _write_points(connection, points, now)
        await self._write_positions(connection, now)
        await _delete_by_id(connection, changed_series, change_ids)
        await self._merge_sketches(connection)
        await self._expire(connection, now)
        self._last_tick = now
        return points

    async def _sliding(self, connection: AsyncConnection, now: int) -> set[int]:
        """Series with a bucket that has left a window, or come into one, since the last tick."""
        if self._last_tick is None:  # a new leader knows nothing of what was done before
            rows = await connection.execute(select(series.c.series_id))
            return {row.series_id for row in rows}
        ranges = []
        for window in WINDOWS.values():
            first, last = window.first_bucket(now), window.last_bucket(now)
            if last == window.last_bucket(self._last_tick):
                continue
            resolution, start = bucket.c.resolution == window.resolution, bucket.c.bucket_start
            before = window.first_bucket(self._last_tick)
            ranges.append(resolution & (start >= before) & (start < first))
            ranges.append(resolution & (start > window.last_bucket(self._last_tick)) & (start <= last))
        if not ranges:
            return set()
        rows = await connection.execute(select(bucket.c.series_id).where(or_(*ranges)).distinct())
        return {row.series_id for row in rows}

    async def _learn(self, connection: AsyncConnection, ids: Iterable[int]) -> None:
        """Reads what the series stand for, where that is not known yet."""
        wanted = [(series_id,) for series_id in ids if series_id not in self._series]
        for row in await bulk.select_by_key(connection, tuple(series.c), (series.c.series_id,), wanted):
            self._series[row[0]] = Series(*row[1:])

    async def _recompute(self, connection: AsyncConnection, touched: set[int], now: int) -> list[Point]:
        active = [self._series[series_id] for series_id in touched if series_id in self._series]
        segments: dict[tuple[str, str], set[str]] = defaultdict(set)
        for one in active:
            if self._metrics.is_counted(one):
                segments[one.product, one.metric].add(one.segment)
        for name in self._fallen_silent(now):
            segments[name].add(TOTAL)
        totals = await self._inputs(connection, {name: {TOTAL} for name in segments}, now)
        for name in list(segments):
            if self._state_changed(name, totals, now):
                segments[name] |= await self._all_segments(connection, name)
        ratios = self._metrics.ratios_of(segments)
        for name, wanted in ratios.items():
            for part in self._metrics.parts_of(name):
                segments[part] |= wanted | {TOTAL}
        inputs = await self._inputs(connection, segments, now)
        inputs |= {place: partial for place, partial in totals.items() if place not in inputs}
        return list(self._points_of({**segments, **ratios}, inputs, now))

    def _points_of(
        self, segments: dict[tuple[str, str], set[str]], inputs: Inputs, now: int
    ) -> Iterator[Point]:
        for name, wanted in segments.items():
            metric = self._metrics.definition(name)
            aggregates = self._metrics.aggregates(name)
            totals = self._metrics.series_of_parts(name, TOTAL)
            stale = self._metrics.is_stale(name, self._last_times, now)
            for segment in wanted:
                parts = self._metrics.series_of_parts(name, segment)
                own = self._metrics.series(name, segment)
                for window in metric.windows:
                    values = tuple(inputs.get((part, window), _EMPTY) for part in parts)
                    whole = tuple(inputs.get((total, window), _EMPTY) for total in totals)
                    yield Point(own, window, reading_of(metric, aggregates, Input(values, whole, stale)))

    def _fallen_silent(self, now: int) -> Iterator[tuple[str, str]]:
        """Metrics that were fresh at the last tick and are stale now, with no event that would say so."""
        for name, last_time in self._last_times.items():
            if self._states[name][0] != self._metrics.staleness(name, last_time, now):
                yield name

    def _state_changed(self, name: tuple[str, str], totals: Inputs, now: int) -> bool:
        """Whether a metric's total went silent or came back: that changes all of its segments."""
        total = self._metrics.series(name, TOTAL).series_id
        last_time = totals.get((total, ALL_TIME), _EMPTY).last_time
        seen = tuple(bool(totals.get((total, window), _EMPTY).seen) for window in self._metrics.needed(name))
        state = (self._metrics.staleness(name, last_time, now), seen)
        before = self._states.get(name)
        self._states[name] = state
        self._last_times[name] = last_time
        return before != state

    async def _all_segments(self, connection: AsyncConnection, name: tuple[str, str]) -> set[str]:
        table = series.c
        version = self._metrics.series(name, TOTAL).version
        rows = await connection.execute(
            select(table.segment).where(
                table.product == name[0], table.metric == name[1], table.version == version
            )
        )
        return {row.segment for row in rows}

    async def _inputs(
        self, connection: AsyncConnection, segments: dict[tuple[str, str], set[str]], now: int
    ) -> Inputs:
        """What the buckets of each series hold together, for every window that its metric needs."""
        by_windows: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for name, wanted in segments.items():
            needed = self._metrics.needed(name)
            by_windows[needed] += [self._metrics.series(name, segment).series_id for segment in wanted]
        inputs: Inputs = defaultdict(Partial)
        for windows, ids in by_windows.items():
            for start in range(0, len(ids), _CHUNK):
                await _add_inputs(connection, inputs, ids[start : start + _CHUNK], windows, now)
        return inputs

    async def _write_positions(self, connection: AsyncConnection, now: int) -> None:
        rows = [(name, window_start(name, now), now) for name in (*WINDOWS, ALL_TIME)]
        await bulk.upsert(connection, tuple(window_position.c), rows)

    async def _merge_sketches(self, connection: AsyncConnection) -> None:
        """Estimates of one bucket over all shards; where there is one shard its own estimate holds."""
        table = changed_sketch.c
        rows = (await connection.execute(select(changed_sketch).order_by(table.id).limit(MAX_CHANGES))).all()
        places = {(row.series_id, row.resolution, row.bucket_start) for row in rows}
        await self._learn(connection, {place[0] for place in places})
        columns = (bucket.c.series_id, bucket.c.resolution, bucket.c.bucket_start)
        merged: dict[tuple[int, str, int], list[Partial]] = defaultdict(list)
        for row in await bulk.select_by_key(connection, tuple(bucket.c), columns, sorted(places)):
            key, _, partial = partial_of(row)
            merged[key].append(partial)
        estimates = []
        for place, partials in merged.items():
            one = self._series.get(place[0])
            if len(partials) == 1 or one is None or not self._metrics.is_counted(one):
                continue
            total = Partial()
            for partial in partials:
                total.merge(partial)
            aggregate = self._metrics.definition((one.product, one.metric)).aggregate
            estimates.append((*place, total.value(aggregate or "") or 0))
        await bulk.upsert(connection, tuple(merged_estimate.c), estimates)
        await _delete_by_id(connection, changed_sketch, [row.id for row in rows])

    async def _expire(self, connection: AsyncConnection, now: int) -> None:
        """Deletes fine buckets beyond their age, once an hour."""
        if self._last_tick is not None and floor(self._last_tick, HOUR) == floor(now, HOUR):
            return
        for resolution, age in KEPT.items():
            for table in (bucket, merged_estimate):
                oldest = floor(now - age, RESOLUTIONS[resolution])
                await connection.execute(
                    delete(table).where(table.c.resolution == resolution, table.c.bucket_start < oldest)
                )


_EMPTY = Partial()


async def _changes(connection: AsyncConnection) -> tuple[list[int], set[int]]:
    table = changed_series.c
    rows = (await connection.execute(select(changed_series).order_by(table.id).limit(MAX_CHANGES))).all()
    return [row.id for row in rows], {row.series_id for row in rows}


async def _delete_by_id(connection: AsyncConnection, table: Table, ids: list[int]) -> None:
    # exactly those that were read: one with a smaller id may become visible later
    for start in range(0, len(ids), _CHUNK):
        await connection.execute(delete(table).where(table.c.id.in_(ids[start : start + _CHUNK])))


async def _add_inputs(
    connection: AsyncConnection, inputs: Inputs, ids: list[int], windows: tuple[str, ...], now: int
) -> None:
    for resolution in ("1m", "1h", "1d", ALL_TIME):
        spans = [
            (name, *_span(name, now))
            for name in windows
            if (WINDOWS[name].resolution if name in WINDOWS else ALL_TIME) == resolution
        ]
        if not spans:
            continue
        first, last = min(span[1] for span in spans), max(span[2] for span in spans)
        rows = await connection.execute(
            select(bucket).where(
                bucket.c.series_id.in_(ids),
                bucket.c.resolution == resolution,
                bucket.c.bucket_start >= first,
                bucket.c.bucket_start <= last,
            )
        )
        for row in rows:
            key, _, partial = partial_of(tuple(row))
            for name, start, end in spans:
                if start <= key.start <= end:
                    inputs[key.series_id, name].merge(partial)


def _span(name: str, now: int) -> tuple[int, int]:
    """First and last bucket of a window."""
    if name == ALL_TIME:
        return 0, 0
    return WINDOWS[name].first_bucket(now), WINDOWS[name].last_bucket(now)


async def _write_points(connection: AsyncConnection, points: list[Point], now: int) -> None:
    known = {point.series for point in points}
    rows = [(one.series_id, *one) for one in sorted(known)]
    await bulk.insert_missing(connection, tuple(series.c), rows)
    await bulk.upsert(
        connection,
        tuple(rolling_value.c),
        [
            (
                point.series.series_id,
                point.window,
                point.reading.value,
                point.reading.n,
                point.reading.status,
                now,
            )
            for point in points
        ],
    )
