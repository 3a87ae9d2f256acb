"""Buckets merged over their shards, as the leader remembers them: bounded, and read again where they changed.

What is remembered of a series and a resolution is every bucket from a first one on, later ones included. So a
tick reads the buckets that changed, not the windows that they lie in.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from impact_aggregator.bucket_rows import partial_of
from impact_aggregator.partial import Partial
from impact_aggregator.windows import LAST_MOMENT, Period, month_of
from impact_database import bulk
from impact_schemas.tables import bucket

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_aggregator.fold import BucketKey
    from impact_aggregator.windows import Span

REMEMBERED_BYTES = 128 * 1024 * 1024
_CHUNK = 1_000  # series in one query

# How PostgreSQL itself merges the shards of a bucket, where there is nothing but numbers in it.
FOLDED = {
    "shard": "MIN",
    "seen": "SUM",
    "last_time": "MAX",
    "count": "SUM",
    "sum": "SUM",
    "min": "MIN",
    "max": "MAX",
    "sum_squares": "SUM",
    "top_count": "SUM",
    "updated_at": "MAX",
}
PLAIN = frozenset(["count", "sum", "mean", "min", "max"])  # aggregates whose buckets are so

Inputs = dict[tuple[int, str], Partial]  # (series id, name of a span) -> what its buckets hold together


class _Run:
    """The merged buckets of one series and resolution from `first` on."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.buckets: dict[int, Partial] = {}

    def weight(self) -> int:
        return 200 + sum(state.weight() for state in self.buckets.values())

    def begin_at(self, first: int) -> None:
        """Forgets what lies before."""
        if first > self.first:
            self.buckets = {start: state for start, state in self.buckets.items() if start >= first}
            self.first = first


class MergedBuckets:
    """Valid as long as every change of the table is told by `refresh`, in the transaction that shows it."""

    def __init__(self, limit_bytes: int = REMEMBERED_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._runs: dict[tuple[int, str], tuple[_Run, int]] = {}  # with its weight; the longest unused first
        self._bytes = 0

    def forget(self, series_ids: Collection[int]) -> None:
        """Forgets these series: anything of them may have changed."""
        for place in [place for place in self._runs if place[0] in series_ids]:
            self._pop(place)

    async def refresh(
        self,
        connection: AsyncConnection,
        changed: Iterable[BucketKey],
        asked: Collection[BucketKey],
        plain: Container[int] = frozenset(),
    ) -> dict[BucketKey, tuple[int, Partial]]:
        """Reads the changed buckets again, those that are remembered or asked for.

        Gives each that is there: of how many rows, and what they hold together. `plain`: see `over`.
        """
        wanted = {key for key in changed if (key.series_id, key.resolution) in self._runs} | set(asked)
        numbers = {key for key in wanted if key.series_id in plain}
        found = await _read(connection, numbers, FOLDED)
        found |= await _read(connection, wanted - numbers, None)
        by_run: dict[tuple[int, str], list[BucketKey]] = defaultdict(list)
        for key in wanted:
            by_run[key.series_id, key.resolution].append(key)
        for place, keys in by_run.items():
            run = self._pop(place)
            if run is not None:
                _renew(run, keys, found)
                self._keep(place, run)
        return found

    async def over(
        self,
        connection: AsyncConnection,
        wanted: Mapping[int, Collection[Span]],
        *,
        remember: bool,
        plain: Container[int] = frozenset(),
    ) -> Inputs:
        """For each series the merged buckets of each of its spans; what holds nothing is left out.

        Of the series in `plain` it is known that their buckets hold nothing but numbers.
        """
        groups: dict[tuple[str, frozenset[Span], bool], list[int]] = defaultdict(list)
        for series_id, spans in wanted.items():
            for resolution in {span.resolution for span in spans}:
                of_resolution = frozenset(span for span in spans if span.resolution == resolution)
                groups[resolution, of_resolution, series_id in plain].append(series_id)
        inputs: Inputs = {}
        for (resolution, spans, is_plain), ids in groups.items():
            for start in range(0, len(ids), _CHUNK):
                chunk = ids[start : start + _CHUNK]
                for series_id, run in await self._runs_of(
                    connection, chunk, resolution, spans, remember=remember, is_plain=is_plain
                ):
                    _add_inputs(inputs, series_id, run, spans)
        return inputs

    async def _runs_of(
        self,
        connection: AsyncConnection,
        ids: Sequence[int],
        resolution: str,
        spans: Collection[Span],
        *,
        remember: bool,
        is_plain: bool,
    ) -> list[tuple[int, _Run]]:
        first = min(span.first for span in spans)
        last = LAST_MOMENT if remember else max(span.last for span in spans)
        runs: dict[int, _Run] = {}
        for series_id in ids:
            known = self._runs.get((series_id, resolution))
            if known is not None and known[0].first <= first:
                runs[series_id] = known[0]
        missing = {series_id: _Run(first) for series_id in ids if series_id not in runs}
        await _fill(connection, missing, resolution, (first, last), FOLDED if is_plain else None)
        if remember:
            for series_id, run in (runs | missing).items():
                self._pop((series_id, resolution))
                run.begin_at(first)
                self._keep((series_id, resolution), run)
        return list((runs | missing).items())

    def _pop(self, place: tuple[int, str]) -> _Run | None:
        run, weight = self._runs.pop(place, (None, 0))
        self._bytes -= weight
        return run

    def _keep(self, place: tuple[int, str], run: _Run) -> None:
        weight = run.weight()
        self._runs[place] = (run, weight)
        self._bytes += weight
        while self._bytes > self._limit_bytes:
            self._pop(next(iter(self._runs)))


class MergedMonths:
    """Day buckets merged by calendar month, from which quarters and years are made.

    Without them a year of many shards would be read again for every day that changes.
    """

    def __init__(self, buckets: MergedBuckets, limit_bytes: int = REMEMBERED_BYTES // 2) -> None:
        self._buckets = buckets
        self._limit_bytes = limit_bytes
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._months: dict[tuple[int, Period], Partial] = {}  # an empty one where there is no event
        self._bytes = 0

    def forget(self, days: Mapping[int, Collection[int]]) -> None:
        """Forgets, of each series, the months in which these days are."""
        for series_id, of_series in days.items():
            for month in {month_of(day) for day in of_series}:
                self._pop((series_id, month))

    async def over(
        self,
        connection: AsyncConnection,
        wanted: Mapping[int, Collection[Period]],
        plain: Container[int] = frozenset(),
    ) -> Inputs:
        """For each series the merged days of each of its periods; what holds nothing is left out."""
        places = {(one, month) for one in wanted for period in wanted[one] for month in period.months}
        known = {place: self._months[place] for place in places if place in self._months}
        missing: dict[int, list[Span]] = defaultdict(list)
        for one, month in places - known.keys():
            missing[one].append(month.span)
        read = await self._buckets.over(connection, missing, remember=False, plain=plain)
        for one, month in places - known.keys():
            known[one, month] = read.get((one, month.span.name), Partial())
        inputs: Inputs = {}
        for one, periods in wanted.items():
            for period in periods:
                states = [state for month in period.months if not (state := known[one, month]).is_empty]
                if states:
                    inputs[one, period.span.name] = states[0] if len(states) == 1 else merged(states)
        for place, state in known.items():
            self._keep(place, state)
        return inputs

    def _pop(self, place: tuple[int, Period]) -> None:
        state = self._months.pop(place, None)
        self._bytes -= 0 if state is None else state.weight()

    def _keep(self, place: tuple[int, Period], state: Partial) -> None:
        self._pop(place)
        self._months[place] = state  # last: the longest unused are first
        self._bytes += state.weight()
        while self._bytes > self._limit_bytes:
            self._pop(next(iter(self._months)))


def _renew(run: _Run, keys: Iterable[BucketKey], found: Mapping[BucketKey, tuple[int, Partial]]) -> None:
    for key in keys:
        if key in found:
            if key.start >= run.first:
                run.buckets[key.start] = found[key][1]
        else:
            run.buckets.pop(key.start, None)


def _add_inputs(inputs: Inputs, series_id: int, run: _Run, spans: Iterable[Span]) -> None:
    for span in spans:
        states = [state for start, state in run.buckets.items() if span.first <= start <= span.last]
        if states:
            inputs[series_id, span.name] = states[0] if len(states) == 1 else merged(states)


async def _read(
    connection: AsyncConnection, wanted: Collection[BucketKey], folded: Mapping[str, str] | None
) -> dict[BucketKey, tuple[int, Partial]]:
    shards: dict[BucketKey, list[Partial]] = defaultdict(list)
    columns = (bucket.c.series_id, bucket.c.resolution, bucket.c.bucket_start)
    for row in await bulk.select_by_key(connection, tuple(bucket.c), columns, sorted(wanted), folded):
        key, _, state = partial_of(row)
        shards[key].append(state)
    return {
        key: (len(states), states[0] if len(states) == 1 else merged(states))
        for key, states in shards.items()
    }


async def _fill(
    connection: AsyncConnection,
    runs: Mapping[int, _Run],
    resolution: str,
    between: tuple[int, int],
    folded: Mapping[str, str] | None,
) -> None:
    if not runs:
        return
    rows = await bulk.select_range(
        connection,
        tuple(bucket.c),
        (bucket.c.series_id, list(runs)),
        (bucket.c.resolution, resolution),
        (bucket.c.bucket_start, *between),
        folded,
    )
    for row in rows:
        key, _, state = partial_of(row)
        buckets = runs[key.series_id].buckets
        there = buckets.get(key.start)
        if there is None:
            buckets[key.start] = state
        else:
            there.merge(state)


def merged(states: Iterable[Partial]) -> Partial:
    """All of them together, in a new one."""
    total = Partial()
    for state in states:
        total.merge(state)
    return total
