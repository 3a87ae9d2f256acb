"""What is shown of protected metrics: windows and calendar periods as unions of decided blocks.

A value is made of the blocks whose cell is published. Hidden ones are counted, and left out.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from impact_aggregator.merged import merged
from impact_aggregator.partial import Partial
from impact_aggregator.protection.block_rows import FrozenCell, frozen_of
from impact_aggregator.protection.blocks import Extent, block_start, window_first
from impact_aggregator.protection.grids import GRACE
from impact_aggregator.rules import TOTAL
from impact_aggregator.values import Input, Reading, Spread, open_reading_of, spread_of
from impact_aggregator.windows import periods_of
from impact_database import bulk
from impact_schemas.tables import block_cell, period_value, series

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_aggregator.protection.grids import Grid
    from impact_aggregator.values import Metrics, Name
    from impact_aggregator.windows import Period

_CHUNK = 1_000  # series in one query
SUPPRESSED = Reading(None, None, "suppressed")

Cells = dict[int, list[FrozenCell]]  # of each series, those of decided blocks


class Shown(NamedTuple):
    """What is published of one series and window; `stale` is not yet known."""

    reading: Reading
    extent: Extent
    spread: Spread | None


class ProtectedWindows:
    """Readings of protected metrics, remembered until a block is decided or closed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._grids: dict[Name, Grid] = {}
        self._shown: dict[Name, dict[str, dict[str, Shown]]] = {}

    def protect(self, grids: Iterable[Grid]) -> None:
        """Takes up whose metrics are protected."""
        self._grids = {name: grid for grid in grids for name in grid.protected}

    def __contains__(self, name: Name) -> bool:
        """Whether the metric is protected."""
        return name in self._grids

    def forget(self, grid: Grid) -> None:
        """The family's blocks are others now."""
        for name in grid.protected:
            self._shown.pop(name, None)

    def shown(self, name: Name, segment: str, window: str, *, stale: bool) -> Shown:
        """What `prepare` has worked out."""
        found = self._shown[name][segment][window]
        if stale and found.reading.status == "ok":
            return found._replace(reading=found.reading._replace(status="stale"))
        return found

    async def prepare(
        self, connection: AsyncConnection, segments: Mapping[Name, Collection[str]], now: int
    ) -> None:
        """Works out the windows of these segments of protected metrics, where they are not remembered."""
        wanted = {
            name: set(texts) - self._shown.get(name, {}).keys()
            for name, texts in segments.items()
            if name in self._grids
        }
        wanted = {name: texts for name, texts in wanted.items() if texts}
        cells = await published_cells(connection, self._ids(wanted))
        for name, texts in wanted.items():
            for segment in texts:
                found = {
                    window: self._window(name, segment, window, cells, now) for window in self._windows(name)
                }
                self._shown.setdefault(name, {})[segment] = found

    def _windows(self, name: Name) -> tuple[str, ...]:
        return self._metrics.definition(name).windows

    def _ids(self, segments: Mapping[Name, Collection[str]]) -> set[int]:
        return {
            series_id
            for name, texts in segments.items()
            for segment in {*texts, TOTAL}
            for series_id in self._metrics.series_of_parts(name, segment)
        }

    def _window(self, name: Name, segment: str, window: str, cells: Cells, now: int) -> Shown:
        grid = self._grids[name]
        kind = grid.family.block
        first = window_first(window, kind, now - GRACE)
        end = grid.closed or 0
        within = {
            series_id: [
                cell for cell in cells.get(series_id, ()) if first is None or cell.block_start >= first
            ]
            for series_id in self._ids({name: (segment,)})
        }
        is_too_short = first is not None and block_start(kind, end - 1) < first
        is_waiting = grid.is_waiting or (is_too_short and bool(grid.accounted))
        shown = self.of_cells(name, segment, within, is_waiting=is_waiting)
        return shown._replace(extent=Extent(shown.extent.hidden, first, end))

    def of_cells(self, name: Name, segment: str, cells: Cells, *, is_waiting: bool) -> Shown:
        """What these cells of the segment's parts, and of the total's, say together.

        `is_waiting`: whether there are events that no block of these could show yet.
        """
        parts = [cells.get(series_id, []) for series_id in self._metrics.series_of_parts(name, segment)]
        hidden = {cell.block_start for part in parts for cell in part if cell.is_hidden}
        open_cells = [[cell for cell in part if not cell.is_hidden] for part in parts]
        totals = tuple(
            _seen(cells.get(series_id, [])) for series_id in self._metrics.series_of_parts(name, TOTAL)
        )
        extent = Extent(len(hidden))
        if all(total.seen for total in totals):
            is_hidden = bool(hidden) and not any(open_cells)
        else:
            is_hidden = is_waiting
        if is_hidden:
            return Shown(SUPPRESSED, extent, None)
        states = tuple(merged(cell.state for cell in part) for part in open_cells)
        reading = open_reading_of(self._metrics.formula(name), Input(states, totals, stale=False))
        spread = spread_of(states[0]) if len(states) == 1 and reading.value is not None else None
        return Shown(reading, extent, spread)

    # --- calendar periods -----------------------------------------------------------------------------

    async def write_periods(self, connection: AsyncConnection, grid: Grid, now: int) -> None:
        """The periods that the blocks fall into which were decided since the last time."""
        periods = {period for block in grid.unread for period in _periods(grid, block)}
        grid.unread.clear()
        if not periods:
            return
        segments = await self._segments(connection, grid)
        cells = await published_cells(connection, self._ids(segments))
        rows, named = [], []
        for name, texts in segments.items():
            for segment in texts:
                one = self._metrics.series(name, segment)
                named.append((one.series_id, *one))
                for period in periods:
                    within = self._within(grid, name, segment, period, cells)
                    if segment != TOTAL and not any(
                        within[part] for part in self._metrics.series_of_parts(name, segment)
                    ):
                        continue
                    shown = self.of_cells(name, segment, within, is_waiting=False)
                    key = (one.series_id, period.kind, period.starts_at, period.ends_at)
                    rows.append((*key, *shown.reading, now, shown.extent.hidden))
        await bulk.insert_missing(connection, tuple(series.c), sorted(named))
        await bulk.upsert(connection, tuple(period_value.c), rows)

    def _within(self, grid: Grid, name: Name, segment: str, period: Period, cells: Cells) -> Cells:
        return {
            series_id: [
                cell
                for cell in cells.get(series_id, ())
                if period.starts_at <= cell.block_start and grid.end(cell.block_start) <= period.ends_at
            ]
            for series_id in self._ids({name: (segment,)})
        }

    async def _segments(self, connection: AsyncConnection, grid: Grid) -> dict[Name, set[str]]:
        """Every segment of the family's protected metrics."""
        counted: dict[Name, set[str]] = {}
        table = series.c
        for name in grid.parts:
            version = self._metrics.series(name, TOTAL).version
            rows = await connection.execute(
                select(table.segment).where(
                    table.product == name[0], table.metric == name[1], table.version == version
                )
            )
            counted[name] = {row.segment for row in rows}
        every = {**counted, **self._metrics.derived_of(counted)}
        return {name: every[name] for name in grid.protected if name in every}


def _seen(cells: Iterable[FrozenCell]) -> Partial:
    """That events of the metric's types came is no secret."""
    together = Partial()
    together.seen = sum(cell.state.seen for cell in cells)
    return together


def _periods(grid: Grid, block: int) -> Iterator[Period]:
    """Those that contain the whole block."""
    return (period for period in periods_of(block) if grid.end(block) <= period.ends_at)


async def published_cells(connection: AsyncConnection, ids: Collection[int]) -> Cells:
    """The cells of each series in every decided block."""
    cells: Cells = defaultdict(list)
    ordered = sorted(ids)
    columns: Any = tuple(block_cell.c)
    for start in range(0, len(ordered), _CHUNK):
        chunk = ordered[start : start + _CHUNK]
        statement = select(block_cell).where(block_cell.c.series_id.in_(chunk))
        for row in await bulk.select_rows(connection, statement, columns):
            cell = frozen_of(row)
            cells[cell.series_id].append(cell)
    return cells
