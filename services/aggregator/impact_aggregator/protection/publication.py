"""Decides each closed block of protected metrics once, and freezes it in SQL.

What comes later for a block that is decided, and what is taken back of it, goes into the last of the blocks
that are decided next. Runs in the leader's transaction.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from impact_aggregator.merged import merged
from impact_aggregator.partial import Partial
from impact_aggregator.protection.block_rows import (
    FrozenCell,
    account_of,
    account_row,
    difference,
    frozen_row,
)
from impact_aggregator.protection.grids import Grid, share_of_tick
from impact_aggregator.protection.holdings import Part, cell_of, holds_anything, segment_of, sizes
from impact_aggregator.protection.suppression import TOTAL, hidden_cells
from impact_aggregator.rules import TOTAL as TOTAL_SEGMENT
from impact_aggregator.windows import DAY, Span
from impact_database import bulk
from impact_schemas.tables import block_account, block_cell, bucket, series

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_aggregator.merged import Inputs, MergedBuckets
    from impact_aggregator.protection.holdings import Signed
    from impact_aggregator.protection.suppression import Cell
    from impact_aggregator.values import Metrics, Name

_EMPTY = Partial()


class _Place(NamedTuple):
    """What a series of the family is."""

    name: Name
    cell: Cell


class _Decided(NamedTuple):
    """One block of the family, ready to be frozen."""

    block: int
    parts: Mapping[Name, Part]
    hidden: Collection[Cell]
    is_restated: bool


class Publication:
    """Keeps `block_cell` and `block_account`, as long as this process leads."""

    def __init__(self, metrics: Metrics, buckets: MergedBuckets) -> None:
        self._metrics = metrics
        self._buckets = buckets
        self.grids = [
            Grid(
                product,
                family,
                tuple((product, name) for name in family.counted),
                tuple((product, name) for name in sorted(family.protected)),
            )
            for product, family in metrics.families
        ]

    async def follow(self, connection: AsyncConnection, touched: Collection[Name], now: int) -> list[Grid]:
        """Decides what has settled. Gives the families whose windows are others now."""
        return [grid for grid in self.grids if await self._step(connection, grid, touched, now)]

    async def _step(
        self, connection: AsyncConnection, grid: Grid, touched: Collection[Name], now: int
    ) -> bool:
        is_new = grid.closed is None
        if is_new:
            await self._load(connection, grid)
        if is_new or not set(grid.parts).isdisjoint(touched):
            await self._look(connection, grid)
        moved = grid.close(now)
        settled = grid.settled(now)
        decided: list[int] = []
        if settled:
            places = await self._places(connection, grid)
            decided = share_of_tick(settled, len(places))
            await self._decide(connection, grid, places, decided, now)
            grid.unread.update(decided)
        waited, grid.is_waiting = grid.is_waiting, grid.waits()
        if len(decided) < len(settled):
            return False  # the rest follows at once, and is shown together with these
        return is_new or moved or bool(decided) or waited != grid.is_waiting

    # --- reading --------------------------------------------------------------------------------------

    def _total(self, name: Name) -> int:
        return self._metrics.series(name, TOTAL_SEGMENT).series_id

    async def _load(self, connection: AsyncConnection, grid: Grid) -> None:
        """Which blocks are decided, and as of when they were looked at: the rows of the totals say so."""
        totals = {self._total(name): name for name in grid.parts}
        table = block_account.c
        rows = await connection.execute(
            select(table.series_id, table.block_start, table.changed_at).where(table.series_id.in_(totals))
        )
        for row in rows:
            grid.accounted.setdefault(row.block_start, {})[totals[row.series_id]] = row.changed_at

    async def _look(self, connection: AsyncConnection, grid: Grid) -> None:
        """When the days of each metric last changed: every event of its types changes its total."""
        totals = {self._total(name): name for name in grid.parts}
        table = bucket.c
        rows = await connection.execute(
            select(
                table.series_id, table.bucket_start, func.max(table.updated_at, type_=table.updated_at.type)
            )
            .where(table.series_id.in_(totals), table.resolution == "1d")
            .group_by(table.series_id, table.bucket_start)
        )
        days: dict[Name, dict[int, int]] = {name: {} for name in grid.parts}
        for series_id, day, moment in rows:
            days[totals[series_id]][day] = moment
        for name, of_name in days.items():
            grid.note(name, of_name)

    async def _places(self, connection: AsyncConnection, grid: Grid) -> dict[int, _Place]:
        """Every series of the family."""
        found: dict[int, _Place] = {}
        table = series.c
        for name in grid.parts:
            version = self._metrics.series(name, TOTAL_SEGMENT).version
            rows = await connection.execute(
                select(table.series_id, table.segment).where(
                    table.product == name[0], table.metric == name[1], table.version == version
                )
            )
            found |= {row.series_id: _Place(name, cell_of(row.segment)) for row in rows}
        return found

    # --- deciding -------------------------------------------------------------------------------------

    async def _decide(
        self,
        connection: AsyncConnection,
        grid: Grid,
        places: Mapping[int, _Place],
        blocks: Sequence[int],
        now: int,
    ) -> None:
        dirty = grid.dirty()
        spans = [Span(str(block), "1d", block, grid.end(block) - DAY) for block in (*blocks, *dirty)]
        held = await self._buckets.over(connection, dict.fromkeys(places, spans), remember=False)
        accounts = await _accounts(connection, places, dirty)
        carried = _carried(places, dirty, held, accounts)
        restated = any(holds_anything(state) for state in carried.values())
        for block in blocks:
            more = carried if block == blocks[-1] else {}
            parts = self._parts_of(grid, places, block, held, more)
            hidden = self._hidden(grid, parts)
            await self._freeze(connection, _Decided(block, parts, hidden, restated and bool(more)), now)
        await self._account(connection, grid, places, (*blocks, *dirty), held, accounts)

    def _parts_of(
        self,
        grid: Grid,
        places: Mapping[int, _Place],
        block: int,
        held: Inputs,
        carried: Mapping[int, Partial],
    ) -> dict[Name, Part]:
        """What each metric of the family holds in the block, with what is carried into it."""
        cells: dict[Name, dict[Cell, Partial]] = defaultdict(dict)
        for series_id, place in places.items():
            state = held.get((series_id, str(block)))
            if series_id in carried:
                state = merged(one for one in (state, carried[series_id]) if one is not None)
            if state is not None and (place.cell == TOTAL or holds_anything(state)):
                cells[place.name][place.cell] = state
        return {
            name: Part(
                self._metrics.definition(name).aggregate or "",
                frozenset(self._metrics.splits(name)),
                cells[name],
            )
            for name in grid.parts
        }

    def _hidden(self, grid: Grid, parts: Mapping[Name, Part]) -> set[Cell]:
        size = sizes(list(parts.values()), self._sums(grid, parts))
        cells = {
            cell for part in parts.values() for cell, state in part.cells.items() if holds_anything(state)
        }
        splits = {split for part in parts.values() for split in part.splits}
        return hidden_cells(splits, cells, size, grid.family.min_cell)

    def _sums(self, grid: Grid, parts: Mapping[Name, Part]) -> Iterator[Signed]:
        """What the family's derived metrics show as numbers of events or of distinct values."""
        for name in grid.protected:
            formula = self._metrics.formula(name)
            terms = (*formula.above, *formula.below)
            if len(terms) == 1 or {term.aggregate for term in terms} not in ({"count"}, {"unique"}):
                continue  # a sum of values is no number of people
            signed = [
                (term.sign, parts[part])
                for term, part in zip(terms, self._metrics.parts_of(name), strict=True)
            ]
            above, below = signed[: len(formula.above)], signed[len(formula.above) :]
            yield above
            if below:
                yield below
                yield [*below, *((-sign, part) for sign, part in above)]

    # --- writing --------------------------------------------------------------------------------------

    async def _freeze(self, connection: AsyncConnection, decided: _Decided, now: int) -> None:
        rows, named = [], []
        for name, part in decided.parts.items():
            hidden = {cell for cell in decided.hidden if tuple(pair[0] for pair in cell) in part.splits}
            for cell in sorted(hidden | part.cells.keys() | {TOTAL}):
                one = self._metrics.series(name, segment_of(cell))
                state = part.cells.get(cell, _EMPTY)
                frozen = FrozenCell(
                    one.series_id, decided.block, cell in hidden, decided.is_restated, now, state
                )
                rows.append(frozen_row(frozen, None if cell in hidden else state.value(part.aggregate)))
                named.append((one.series_id, *one))
        await bulk.insert_missing(connection, tuple(series.c), sorted(set(named)))
        await bulk.insert(connection, tuple(block_cell.c), rows)

    async def _account(
        self,
        connection: AsyncConnection,
        grid: Grid,
        places: Mapping[int, _Place],
        blocks: Sequence[int],
        held: Inputs,
        accounts: Mapping[tuple[int, int], Partial],
    ) -> None:
        """Notes what the blocks hold, so that only what is more counts later."""
        rows = []
        for block in blocks:
            seen = grid.account(block)
            for series_id, place in places.items():
                state = held.get((series_id, str(block)))
                if state is not None or place.cell == TOTAL or (series_id, block) in accounts:
                    moment = seen[place.name] if place.cell == TOTAL else None
                    rows.append(account_row(series_id, block, moment, state or _EMPTY))
        await bulk.upsert(connection, tuple(block_account.c), rows)


async def _accounts(
    connection: AsyncConnection, ids: Collection[int], blocks: Collection[int]
) -> dict[tuple[int, int], Partial]:
    table = block_account.c
    wanted = [(series_id, block) for block in blocks for series_id in ids]
    key = (table.series_id, table.block_start)
    rows = await bulk.select_by_key(connection, tuple(table), key, wanted)
    return {(series_id, block): state for series_id, block, state in map(account_of, rows)}


def _carried(
    ids: Collection[int],
    dirty: Collection[int],
    held: Inputs,
    accounts: Mapping[tuple[int, int], Partial],
) -> dict[int, Partial]:
    """What the decided blocks hold more or less than when they were last looked at, by series."""
    carried: dict[int, Partial] = {}
    for series_id in ids:
        for block in dirty:
            now, before = held.get((series_id, str(block))), accounts.get((series_id, block))
            if now is not None or before is not None:
                more = difference(now or _EMPTY, before or _EMPTY)
                carried.setdefault(series_id, Partial()).merge(more)
    return {series_id: state for series_id, state in carried.items() if holds_anything(state) or state.seen}
