"""Trends in SQL: from day buckets, or published blocks, to the rows of `trend_day` that differ."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from impact_aggregator.bucket_rows import partial_of
from impact_aggregator.mission.trends import KEPT_DAYS, Cell, Trend, first_day_needed, is_followed
from impact_aggregator.mission.trends import cells as cells_of_days
from impact_aggregator.partial import Partial
from impact_aggregator.protection.blocks import block_end, closed_before, window_first
from impact_aggregator.protection.windows import ProtectedWindows, published_cells
from impact_aggregator.rules import TOTAL
from impact_aggregator.windows import DAY
from impact_database import bulk
from impact_schemas.tables import bucket, trend_day

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_aggregator.mission.trends import Days
    from impact_aggregator.protection.windows import Cells
    from impact_aggregator.values import Metrics, Name

Row = tuple[Any, ...]

_FIRST_DAY = -719_162 * DAY  # 0001-01-01, the first that both databases know


class Followed(NamedTuple):
    """The trends of one segment, what of them is to be written, and what it took to work them out."""

    by_window: dict[str, Trend]
    seen: frozenset[int]  # days with events of the metric's types; of a protected one its blocks
    cost: int  # rows that were read, or merged
    changes: Changes


class Changes(NamedTuple):
    """Rows of `trend_day` that are others than in SQL, and keys of those that are no more."""

    rows: list[Row]
    gone: list[Row]


CellsByWindow = dict[str, list[tuple[int, Cell]]]  # by window: midnights that ended days, in order


async def follow(
    connection: AsyncConnection, metrics: Metrics, name: Name, segment: str, today: int, block: str | None
) -> Followed:
    """Works the trends of one segment out anew, up to yesterday; reads only.

    `block`: the grid of a protected metric, of which only published blocks are looked at.
    """
    windows = [window for window in metrics.definition(name).windows if is_followed(window)]
    if block is None:
        found, seen, read = await _of_days(connection, metrics, (name, segment), windows, today)
    else:
        found, seen, read = await _of_blocks(connection, metrics, (name, segment), windows, (today, block))
    stored, changes = await _compare(connection, metrics.series(name, segment).series_id, found)
    by_window = {
        window: Trend(days[0][0], (cell for _, cell in days)) for window, days in found.items() if days
    }
    return Followed(by_window, seen, read + stored, changes)


async def write(connection: AsyncConnection, changes: Iterable[Changes]) -> None:
    """Writes what `follow` has found."""
    ordered = list(changes)
    gone = [key for one in ordered for key in one.gone]
    await bulk.delete_by_key(connection, tuple(trend_day.primary_key), gone)
    rows = {row[:3]: row for one in ordered for row in one.rows}
    await bulk.upsert(connection, tuple(trend_day.c), list(rows.values()))


async def forget(connection: AsyncConnection, series_ids: Iterable[int]) -> None:
    """Deletes the trends of these series."""
    await bulk.delete_by_key(connection, (trend_day.c.series_id,), [(one,) for one in series_ids])


async def followed_series(connection: AsyncConnection) -> set[int]:
    """The series that have trends in SQL."""
    rows = await connection.execute(select(trend_day.c.series_id).distinct())
    return {row.series_id for row in rows}


async def _of_days(
    connection: AsyncConnection,
    metrics: Metrics,
    of: tuple[Name, str],
    windows: Sequence[str],
    today: int,
) -> tuple[CellsByWindow, frozenset[int], int]:
    name, segment = of
    oldest = today - KEPT_DAYS * DAY
    needed = [first_day_needed(window, oldest) for window in windows]
    start = _FIRST_DAY if 0 in needed else min(needed, default=today)
    parts = await _days(connection, metrics.series_of_parts(name, segment), start, today - DAY)
    totals = await _seen(connection, metrics.series_of_parts(name, TOTAL), start, today - DAY)
    seen = frozenset(day for days in totals for day in days)
    found: CellsByWindow = {}
    first = max(min(seen, default=today), oldest)
    metric, formula = metrics.definition(name), metrics.formula(name)
    for window in windows:
        values = cells_of_days(metric, formula, parts, totals, window, first, today - DAY)
        found[window] = [(first + (place + 1) * DAY, cell) for place, cell in enumerate(values)]
    return found, seen, sum(len(days) for days in (*parts, *totals))


async def _of_blocks(
    connection: AsyncConnection,
    metrics: Metrics,
    of: tuple[Name, str],
    windows: Sequence[str],
    until: tuple[int, str],
) -> tuple[CellsByWindow, frozenset[int], int]:
    """A protected value at the end of a day is what the blocks that were closed by then say."""
    (name, segment), (today, block) = of, until
    ids = {*metrics.series_of_parts(name, segment), *metrics.series_of_parts(name, TOTAL)}
    cells = await published_cells(connection, ids)
    starts = frozenset(cell.block_start for ones in cells.values() for cell in ones)
    oldest = today - (KEPT_DAYS - 1) * DAY
    first = max(block_end(block, min(starts)), oldest) if starts else today + DAY
    reader, merges = ProtectedWindows(metrics), 0
    found: CellsByWindow = {window: [] for window in windows}
    for window in windows:
        closed, cell = None, None
        for at in range(first, today + DAY, DAY):
            if closed != closed_before(block, at) or cell is None:
                closed = closed_before(block, at)
                within = _closed_cells(cells, block, closed, window_first(window, block, at))
                merges += sum(map(len, within.values()))
                shown = reader.of_cells(name, segment, within, is_waiting=False)
                cell = Cell(shown.reading, shown.spread)
            found[window].append((at, cell))
    return found, starts, merges


def _closed_cells(cells: Cells, block: str, closed: int, first: int | None) -> Cells:
    return {
        series_id: [
            cell
            for cell in ones
            if (first is None or cell.block_start >= first) and block_end(block, cell.block_start) <= closed
        ]
        for series_id, ones in cells.items()
    }


async def _days(
    connection: AsyncConnection, series_ids: Collection[int], first: int, last: int
) -> tuple[Days, ...]:
    """The day buckets of each series, merged over their shards."""
    found: dict[int, Days] = defaultdict(dict)
    for row in await bulk.select_range(
        connection,
        tuple(bucket.c),
        (bucket.c.series_id, list(set(series_ids))),
        (bucket.c.resolution, "1d"),
        (bucket.c.bucket_start, first, last),
    ):
        key, _, partial = partial_of(row)
        _add(found[key.series_id], key.start, partial)
    return tuple(found[series_id] for series_id in series_ids)


async def _seen(
    connection: AsyncConnection, series_ids: Collection[int], first: int, last: int
) -> tuple[Days, ...]:
    """On which days events of the metric's types came, without what they hold."""
    table = bucket.c
    found: dict[int, Days] = defaultdict(dict)
    for series_id, day, seen, last_time in await bulk.select_range(
        connection,
        (table.series_id, table.bucket_start, table.seen, table.last_time),
        (table.series_id, list(set(series_ids))),
        (table.resolution, "1d"),
        (table.bucket_start, first, last),
    ):
        if seen:
            partial = Partial()
            partial.see(seen, last_time or 0)
            _add(found[series_id], day, partial)
    return tuple(found[series_id] for series_id in series_ids)


def _add(days: Days, day: int, partial: Partial) -> None:
    there = days.get(day)
    if there is None:
        days[day] = partial
    else:
        there.merge(partial)


async def _compare(connection: AsyncConnection, series_id: int, trends: CellsByWindow) -> tuple[int, Changes]:
    """With what is in SQL; gives how many rows were there, too."""
    key = (trend_day.c.series_id,)
    rows = await bulk.select_by_key(connection, tuple(trend_day.c), key, [(series_id,)])
    before = {row[:3]: row for row in rows}
    after = {
        (series_id, window, at): (series_id, window, at, *cell.reading)
        for window, found in trends.items()
        for at, cell in found
    }
    gone: list[Row] = [place for place in before if place not in after]
    changed: list[Row] = [row for place, row in after.items() if before.get(place) != row]
    return len(rows), Changes(changed, gone)
