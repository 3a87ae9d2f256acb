"""Rolling metrics: the leader's tick turns what changed in the buckets into the values that people look at.

A tick reads the keys that the fold wrote down as changed, the series whose window has moved on, and the
metrics that fell silent; recomputes those series from their buckets; and deletes just the keys it read: all
in one transaction that also renews the lease.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, literal, or_, select, update
from sqlalchemy.exc import DBAPIError

from impact_aggregator.fold import BucketKey
from impact_aggregator.leadership import hold_lease
from impact_aggregator.merged import PLAIN, Inputs, MergedBuckets, MergedMonths
from impact_aggregator.partial import QUANTILES, Partial
from impact_aggregator.protection.blocks import Extent
from impact_aggregator.protection.publication import Publication
from impact_aggregator.protection.windows import ProtectedWindows
from impact_aggregator.rules import TOTAL, Series
from impact_aggregator.values import Input, Metrics, Name, Reading, Spread, reading_of, spread_of
from impact_aggregator.windows import (
    ALL_TIME,
    DAY,
    HOUR,
    KEPT,
    RESOLUTIONS,
    WINDOWS,
    Period,
    Span,
    floor,
    periods_of,
    window_span,
    window_start,
)
from impact_database import bulk
from impact_schemas.tables import (
    bucket,
    catalog_state,
    changed_day,
    changed_series,
    merged_estimate,
    period_value,
    quarantine,
    rolling_day,
    rolling_value,
    series,
    window_position,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Row, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

MAX_CHANGES = 50_000  # rows of a tick; what is beyond waits for the next
PERIOD_PAUSE = 5_000_000  # microseconds: a year has 365 buckets a series, and nobody watches it by the second
PAYLOADS_KEPT = 90 * DAY  # of quarantined events; that they were, and why they were refused, is kept
_SERIALIZATION_FAILURE = "40001"

Segments = dict[Name, set[str]]

_EMPTY = Partial()


class Point(NamedTuple):
    """One rolling value as it stands in SQL."""

    series: Series
    window: str
    reading: Reading
    extent: Extent = Extent()  # of a protected metric: the closed blocks that it is made of
    spread: Spread | None = None  # of a mean that is shown


class News(NamedTuple):
    """What changed since somebody last asked."""

    points: dict[tuple[int, str], Point]  # by series id and window; those that are gone among them
    earlier: set[Series]  # counted series with a changed bucket of a day before today
    is_all: bool  # whether whatever was known before is void


class Rolling:
    """Keeps `rolling_value` and `period_value` right, as long as this process holds the lease."""

    def __init__(
        self, engine: AsyncEngine, clock: Callable[[], int], holder: str, period_pause: int = PERIOD_PAUSE
    ) -> None:
        if engine.dialect.name == "postgresql":
            # one snapshot for the whole tick: a ratio's two halves are of the same moment
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._engine = engine
        self._clock = clock
        self._holder = holder
        self._period_pause = period_pause
        self._metrics = Metrics({}, {})
        self._generation = -1
        self._offered: tuple[Metrics, int] | None = None  # taken up between ticks, never within one
        self._merged = MergedBuckets()
        self._months = MergedMonths(self._merged)
        self._epoch: int | None = None
        self._news = News({}, set(), is_all=True)
        self._forget()

    @property
    def points(self) -> Collection[Point]:
        """All current values, while this process leads; empty otherwise."""
        return self._points.values()

    @property
    def generation(self) -> int:
        """The catalog's generation that the points are of."""
        return self._generation

    def take_news(self) -> News:
        """What changed since the last call."""
        news, self._news = self._news, News({}, set(), is_all=False)
        return news

    def use(self, metrics: Metrics, generation: int) -> None:
        """Takes up the metrics of a catalog's generation; the next tick computes everything anew."""
        self._offered = (metrics, generation)

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
        for point in points:
            place = (point.series.series_id, point.window)
            self._news.points[place] = point
            if point.reading.status == GONE:
                self._points.pop(place, None)
            else:
                self._points[place] = point
        return True

    def _forget(self) -> None:
        self._last_tick: int | None = None
        self._last_periods: int | None = None
        self._series: dict[int, Series] = {}
        self._states: dict[Name, tuple[tuple[bool, ...], tuple[bool, ...]]] = {}
        self._last_times: dict[Name, int | None] = {}
        self._points: dict[tuple[int, str], Point] = {}
        self._news = News({}, set(), is_all=True)
        self._merged.clear()
        self._months.clear()
        self._publication = Publication(self._metrics, self._merged)
        self._protected = ProtectedWindows(self._metrics)
        self._protected.protect(self._publication.grids)

    async def _tick(self, connection: AsyncConnection) -> list[Point] | None:
        active = await connection.scalar(select(catalog_state.c.generation))
        if active != self._generation:
            return None
        epoch = await hold_lease(connection, self._holder)
        if epoch is None:
            return None
        if epoch != self._epoch:  # another has led since the last tick, and taken its changes away
            self._forget()
            self._epoch = epoch
        now = self._clock()
        await self._keep_day(connection, now)
        changes = await _rows(connection, changed_series)
        touched = {row.series_id for row in changes} | await self._sliding(connection, now)
        await self._learn(connection, touched)
        await self._follow_buckets(connection, changes)
        points = await self._recompute(connection, touched, now)
        await _write_points(connection, points, now)
        await self._follow_periods(connection, now)
        await self._write_positions(connection, now)
        await _delete(connection, changed_series, changes)
        await self._expire(connection, now)
        await hold_lease(connection, self._holder)  # of a long tick the first lease is over by now
        self._last_tick = now
        return points

    # --- what has to be computed anew -----------------------------------------------------------------

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
            resolution, start = _is_of(window.resolution, bucket), bucket.c.bucket_start
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

    def _counted(self, ids: Iterable[int]) -> Iterator[tuple[int, Series]]:
        """Those of the series into which events are folded now."""
        for series_id in ids:
            one = self._series.get(series_id)
            if one is not None and self._metrics.is_counted(one):
                yield series_id, one

    async def _follow_buckets(self, connection: AsyncConnection, changes: Sequence[Row[Any]]) -> None:
        """Takes note of what the changes say; keeps estimates of buckets with several shards."""
        self._merged.forget({row.series_id for row in changes if row.resolution is None})
        changed = {
            BucketKey(row.series_id, row.resolution, row.bucket_start)
            for row in changes
            if row.resolution is not None
        }
        sketched = {key for key in changed if key.resolution != ALL_TIME and self._has_sketch(key.series_id)}
        all_time = {BucketKey(key.series_id, ALL_TIME, 0) for key in changed}
        ids = {key.series_id for key in changed}
        plain = {one for one, own in self._counted(ids) if self._is_plain((own.product, own.metric))}
        found = await self._merged.refresh(connection, changed | all_time, sketched, plain)
        several = {key: found[key][1] for key in sketched if key in found and found[key][0] > 1}
        rows = [(*key, self._estimate(key.series_id, state)) for key, state in several.items()]
        await bulk.upsert(connection, tuple(merged_estimate.c), rows)
        # where there is one shard its own estimate holds
        alone = sorted(sketched - set(several))
        await bulk.delete_by_key(connection, tuple(merged_estimate.primary_key), alone)

    def _has_sketch(self, series_id: int) -> bool:
        one = self._series.get(series_id)
        if one is None or not self._metrics.is_counted(one):
            return False
        metric = self._metrics.definition((one.product, one.metric))
        return metric.aggregate == "unique" or metric.aggregate in QUANTILES or metric.per is not None

    def _estimate(self, series_id: int, state: Partial) -> int:
        one = self._series[series_id]
        return state.value(self._metrics.definition((one.product, one.metric)).aggregate or "") or 0

    # --- rolling windows ------------------------------------------------------------------------------

    async def _recompute(self, connection: AsyncConnection, touched: set[int], now: int) -> list[Point]:
        segments: Segments = defaultdict(set)
        for _, one in self._counted(touched):
            segments[one.product, one.metric].add(one.segment)
        for name in await self._follow_blocks(connection, set(segments), now):
            segments[name] |= await self._all_segments(connection, name)
        for name in self._fallen_silent(now):
            segments[name].add(TOTAL)
        totals = await self._windows(connection, {name: {TOTAL} for name in segments}, now)
        for name in list(segments):
            if self._state_changed(name, totals, now):
                segments[name] |= await self._all_segments(connection, name)
        derived = self._metrics.derived_of(segments)
        for name, wanted in derived.items():
            for part in self._metrics.parts_of(name):
                segments[part] |= wanted | {TOTAL}
        inputs = await self._windows(connection, segments, now)
        inputs |= {place: partial for place, partial in totals.items() if place not in inputs}
        every = {**segments, **derived}
        await self._protected.prepare(connection, every, now)
        return list(self._points_of(every, inputs, now))

    async def _follow_blocks(
        self, connection: AsyncConnection, touched: Collection[Name], now: int
    ) -> list[Name]:
        """Decides blocks of protected metrics; gives the metrics whose windows are others by it."""
        grids = await self._publication.follow(connection, touched, now)
        for grid in grids:
            self._protected.forget(grid)
            await self._protected.write_periods(connection, grid, now)
        return [name for grid in grids for name in grid.parts]

    async def _windows(self, connection: AsyncConnection, segments: Segments, now: int) -> Inputs:
        """What the buckets of each series hold together, for every window that its metric needs."""
        wanted: dict[int, tuple[Span, ...]] = {}
        plain: set[int] = set()
        for name, texts in segments.items():
            spans = tuple(window_span(window, now) for window in self._metrics.needed(name))
            ids = {self._metrics.series(name, segment).series_id for segment in texts}
            wanted |= dict.fromkeys(ids, spans)
            if self._is_plain(name):
                plain |= ids
        return await self._merged.over(connection, wanted, remember=True, plain=plain)

    def _is_plain(self, name: Name) -> bool:
        """Whether its buckets hold nothing but numbers: those of protected metrics hold people."""
        return self._metrics.definition(name).aggregate in PLAIN and name not in self._protected

    def _points_of(self, segments: Segments, inputs: Inputs, now: int) -> Iterator[Point]:
        for name, wanted in segments.items():
            stale = self._metrics.is_stale(name, self._last_times, now)
            for segment in wanted:
                own = self._metrics.series(name, segment)
                is_gone = segment != TOTAL and not any(
                    (part, ALL_TIME) in inputs for part in self._metrics.series_of_parts(name, segment)
                )
                for window in self._metrics.definition(name).windows:
                    if name in self._protected:
                        yield Point(own, window, *self._protected.shown(name, segment, window, stale=stale))
                        continue
                    reading = (
                        Reading(None, None, GONE)
                        if is_gone
                        else self._reading(name, segment, window, inputs, stale=stale)
                    )
                    spread = None if reading.value is None else self._spread(own, window, inputs)
                    yield Point(own, window, reading, spread=spread)

    def _reading(self, name: Name, segment: str, span: str, inputs: Inputs, *, stale: bool) -> Reading:
        parts, totals = (
            tuple(inputs.get((part, span), _EMPTY) for part in self._metrics.series_of_parts(name, text))
            for text in (segment, TOTAL)
        )
        metric = self._metrics.definition(name)
        return reading_of(metric, self._metrics.formula(name), Input(parts, totals, stale))

    @staticmethod
    def _spread(one: Series, window: str, inputs: Inputs) -> Spread | None:
        part = inputs.get((one.series_id, window))
        return None if part is None else spread_of(part)

    def _fallen_silent(self, now: int) -> Iterator[Name]:
        """Metrics that were fresh at the last tick and are stale now, with no event that would say so."""
        for name, last_time in self._last_times.items():
            if self._states[name][0] != self._metrics.staleness(name, last_time, now):
                yield name

    def _state_changed(self, name: Name, totals: Inputs, now: int) -> bool:
        """Whether a metric's total went silent or came back: that changes all of its segments."""
        total = self._metrics.series(name, TOTAL).series_id
        last_time = totals.get((total, ALL_TIME), _EMPTY).last_time
        seen = tuple(bool(totals.get((total, window), _EMPTY).seen) for window in self._metrics.needed(name))
        state = (self._metrics.staleness(name, last_time, now), seen)
        before = self._states.get(name)
        self._states[name] = state
        self._last_times[name] = last_time
        return before != state

    async def _all_segments(self, connection: AsyncConnection, name: Name) -> set[str]:
        table = series.c
        version = self._metrics.series(name, TOTAL).version
        rows = await connection.execute(
            select(table.segment).where(
                table.product == name[0], table.metric == name[1], table.version == version
            )
        )
        return {row.segment for row in rows}

    async def _write_positions(self, connection: AsyncConnection, now: int) -> None:
        rows = [(name, window_start(name, now), now) for name in (*WINDOWS, ALL_TIME)]
        await bulk.upsert(connection, tuple(window_position.c), rows)

    # --- calendar periods -----------------------------------------------------------------------------

    async def _follow_periods(self, connection: AsyncConnection, now: int) -> None:
        """Every few seconds: the months, quarters and years that contain a day that changed."""
        if self._last_periods is not None and 0 <= now - self._last_periods < self._period_pause:
            return
        self._last_periods = now
        rows = await _rows(connection, changed_day)
        days: dict[int, set[int]] = defaultdict(set)
        for row in rows:
            days[row.series_id].add(row.day)
        await self._learn(connection, days)
        earlier = [series_id for series_id, of_series in days.items() if min(of_series) < floor(now, DAY)]
        self._news.earlier.update(one for _, one in self._counted(earlier))
        await self._write_periods(connection, days, now)
        await _delete(connection, changed_day, rows)

    async def _write_periods(self, connection: AsyncConnection, days: dict[int, set[int]], now: int) -> None:
        changed: dict[Period, Segments] = defaultdict(lambda: defaultdict(set))
        for series_id, one in self._counted(days):
            for day in days[series_id]:
                for period in periods_of(day):
                    changed[period][one.product, one.metric].add(one.segment)
        wanted: dict[int, set[Period]] = defaultdict(set)
        plain: set[int] = set()
        for period, segments in changed.items():
            derived = self._metrics.derived_of(segments)
            for name, texts in [*segments.items(), *derived.items()]:
                for segment in texts | {TOTAL}:
                    for part in self._metrics.series_of_parts(name, segment):
                        wanted[part].add(period)
                    if self._is_plain(name):
                        plain.update(self._metrics.series_of_parts(name, segment))
            segments |= derived
        self._months.forget(days)
        inputs = await self._months.over(connection, wanted, plain)
        rows: list[tuple[object, ...]] = []
        gone: list[tuple[object, ...]] = []
        for period, segments in changed.items():
            for name, texts in segments.items():
                if name in self._protected:  # of theirs only closed blocks are shown
                    continue
                for segment in texts:
                    key = (self._metrics.series(name, segment).series_id, period.kind, period.starts_at)
                    parts = self._metrics.series_of_parts(name, segment)
                    if segment != TOTAL and not any((part, period.span.name) in inputs for part in parts):
                        gone.append(key)
                        continue
                    reading = self._reading(name, segment, period.span.name, inputs, stale=False)
                    rows.append((*key, period.ends_at, reading.value, reading.n, reading.status, now, None))
        await self._enter_derived(connection, changed)
        await bulk.upsert(connection, tuple(period_value.c), rows)
        await bulk.delete_by_key(connection, tuple(period_value.primary_key), gone)

    async def _enter_derived(self, connection: AsyncConnection, changed: dict[Period, Segments]) -> None:
        """A derived metric's segments become series when they first show in a period."""
        known = {
            self._metrics.series(name, segment)
            for segments in changed.values()
            for name, texts in segments.items()
            if self._metrics.parts_of(name) != (name,)
            for segment in texts
        }
        await bulk.insert_missing(
            connection, tuple(series.c), [(one.series_id, *one) for one in sorted(known)]
        )

    # --- once a day, once an hour ---------------------------------------------------------------------

    async def _keep_day(self, connection: AsyncConnection, now: int) -> None:
        """At the first tick of a day: keeps the values as they stood at the end of the last one."""
        last = self._last_tick
        if last is None:
            last = await connection.scalar(select(func.max(window_position.c.as_of)))
        if last is None or floor(last, DAY) == floor(now, DAY):
            return
        columns = ["series_id", "time_window", "at", "value", "n", "status"]
        midnight = literal(floor(last, DAY) + DAY, rolling_day.c.at.type)
        table = rolling_value.c
        shown = select(table.series_id, table.time_window, midnight, table.value, table.n, table.status)
        await connection.execute(
            delete(rolling_day).where(rolling_day.c.at == floor(last, DAY) + DAY)
        )  # a clock that was set back must not stop the tick
        await connection.execute(insert(rolling_day).from_select(columns, shown))

    async def _expire(self, connection: AsyncConnection, now: int) -> None:
        """Deletes fine buckets and payloads of quarantined events beyond their age, once an hour."""
        if self._last_tick is not None and floor(self._last_tick, HOUR) == floor(now, HOUR):
            return
        for resolution, age in KEPT.items():
            for table in (bucket, merged_estimate):
                oldest = floor(now - age, RESOLUTIONS[resolution])
                await connection.execute(
                    delete(table).where(_is_of(resolution, table), table.c.bucket_start < oldest)
                )
        old = (quarantine.c.received_at < now - PAYLOADS_KEPT) & quarantine.c.payload.is_not(None)
        await connection.execute(update(quarantine).where(old).values(payload=None))


GONE = "gone"  # of a segment all of whose events were taken back: it is not there, as if never sent


def _is_of(resolution: str, table: Table) -> ColumnElement[bool]:
    # written into the statement: a parameter does not match the condition of a partial index
    return table.c.resolution == bindparam(None, resolution, literal_execute=True)


async def _rows(connection: AsyncConnection, changes: Table) -> Sequence[Row[Any]]:
    """What the fold wrote down, up to a tick's fill."""
    return (await connection.execute(select(changes).order_by(changes.c.id).limit(MAX_CHANGES))).all()


async def _delete(connection: AsyncConnection, changes: Table, rows: Sequence[Row[Any]]) -> None:
    # exactly those that were read: one with a smaller id may become visible later
    await bulk.delete_by_key(connection, (changes.c.id,), [(row.id,) for row in rows])


async def _write_points(connection: AsyncConnection, points: list[Point], now: int) -> None:
    there = [point for point in points if point.reading.status != GONE]
    known = {point.series for point in there}
    rows = [(one.series_id, *one) for one in sorted(known)]
    await bulk.insert_missing(connection, tuple(series.c), rows)
    await bulk.upsert(
        connection,
        tuple(rolling_value.c),
        [(point.series.series_id, point.window, *point.reading, now, *point.extent) for point in there],
    )
    gone = [(point.series.series_id, point.window) for point in points if point.reading.status == GONE]
    await bulk.delete_by_key(connection, tuple(rolling_value.primary_key), gone)
