"""The leader's evaluation: after each tick, what the numbers mean, for what changed.

It stands beside the rolling metrics, in a transaction of its own that renews the lease and only writes, so
that values and counting are never kept waiting by what is said about them. Trends are worked out a portion
at a time; a metric is judged once it has its own, a product once all of its metrics have theirs. Until then
SQL keeps what it said before.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import select

from impact_aggregator.leadership import hold_lease
from impact_aggregator.mission import meaning, trend_rows
from impact_aggregator.mission.board import Board, Cells
from impact_aggregator.mission.equity import reference_of
from impact_aggregator.mission.rows import MeaningRows
from impact_aggregator.mission.segments import to_follow
from impact_aggregator.mission.trends import Cell
from impact_aggregator.mission.violations import ViolationRow
from impact_aggregator.rolling import GONE
from impact_aggregator.rules import TOTAL
from impact_aggregator.values import Metrics
from impact_aggregator.windows import DAY, HOUR, floor
from impact_database.engine import read_only
from impact_schemas.catalog.protection import families
from impact_schemas.tables import catalog_state, violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_aggregator.mission.meaning import Row
    from impact_aggregator.mission.trends import Trend
    from impact_aggregator.rolling import News, Point, Rolling
    from impact_aggregator.values import Name
    from impact_schemas.catalog import Catalog

ROWS_A_TICK = 40_000  # read or merged for trends; the rest waits: about 0.3 s
_ROWS_OF_A_SERIES = 200  # as many as its queries cost beside the rows

Trends = dict[tuple[str, str, str], "Trend"]  # by metric, segment and window


class Evaluation:
    """Keeps the tables of the mission layer right, as long as its `rolling` leads."""

    def __init__(
        self,
        engine: AsyncEngine,
        clock: Callable[[], int],
        holder: str,
        rolling: Rolling,
        rows_a_tick: int = ROWS_A_TICK,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._holder = holder
        self._rolling = rolling
        self._rows_a_tick = rows_a_tick
        self._catalogs: Mapping[str, Catalog] = {}
        self._metrics = Metrics({}, {})
        self._generation = -1
        self._blocks: dict[Name, str] = {}  # the grids of protected metrics
        self._offered: tuple[Mapping[str, Catalog], Metrics, int] | None = None
        self._forget()

    def use(self, catalogs: Mapping[str, Catalog], metrics: Metrics, generation: int) -> None:
        """Takes up the catalogs of a generation, as soon as the rolling metrics have."""
        self._offered = (catalogs, metrics, generation)

    def rows(self, table: Table) -> Iterator[Row]:
        """What a table holds, while this process leads; nothing otherwise."""
        return self._rows.of(table.name)

    @property
    def waiting(self) -> int:
        """Series whose trends are still to be worked out: until there are none, not all is said."""
        return sum(map(len, self._waiting.values()))

    async def tick(self) -> None:
        """Brings the tables up to date with the last tick of the rolling metrics."""
        news = self._rolling.take_news()
        if self._offered is not None and self._offered[2] == self._rolling.generation:
            (self._catalogs, self._metrics, self._generation), self._offered = self._offered, None
            self._blocks = {
                (product, name): family.block
                for product, catalog in self._catalogs.items()
                for family in families(catalog)
                for name in family.protected
            }
            self._forget()
        if not self._rolling.points or self._rolling.generation != self._generation:
            self._forget()
            return
        now = self._clock()
        self._take(news, now)
        if not (self._waiting or self._touched or self._gone):
            return
        try:
            async with read_only(self._engine).connect() as connection:
                await self._read(connection, floor(now, DAY))
            self._judge(now)
            async with self._engine.begin() as connection:
                is_done = await self._write(connection)
        except BaseException:
            self._forget()
            raise
        if not is_done:
            self._forget()

    def _forget(self) -> None:
        self._rows = MeaningRows()
        self._is_read = False
        self._moment: int | None = None
        self._cells: dict[str, Cells] = defaultdict(dict)
        self._trends: dict[str, Trends] = defaultdict(dict)
        self._to_follow: dict[Name, list[str]] = {}  # as long as a metric has the same segments
        self._seen: dict[Name, frozenset[int]] = {}
        self._waiting: dict[Name, set[str]] = {}  # segments whose trends are to be worked out
        self._without: set[Name] = set()  # metrics that have no trends yet
        self._touched: dict[Name, set[str]] = {}  # metrics to be judged, with segments to be judged alone
        self._gone: set[int] = set()  # series whose events were all taken back
        self._changes: list[trend_rows.Changes] = []  # of trends, to be written

    # --- what has to be done --------------------------------------------------------------------------

    def _take(self, news: News, now: int) -> None:
        before = self._moment
        if before is None or news.is_all:
            self._forget()
            self._learn(self._rolling.points)
            self._without = set(self._touched)
        else:
            for name in self._learn(news.points.values()) & self._blocks.keys():
                self._waiting.setdefault(name, set()).update(self._followed(name))  # a block was decided
            for one in news.earlier:
                self._follow_later(one.product, one.metric, one.segment)
        if before is None or news.is_all or floor(before, DAY) != floor(now, DAY):
            for name in self._names():
                self._waiting.setdefault(name, set()).update(self._followed(name))
        elif floor(before, HOUR) != floor(now, HOUR):
            for name in self._names():  # what time alone changes is said of metrics, not of segments
                self._touched.setdefault(name, set())
        self._moment = now

    def _learn(self, points: Iterable[Point]) -> set[Name]:
        """Takes up the points; gives the metrics of those that are others than before."""
        changed = set()
        for point in points:
            product, metric, _, segment = point.series
            segments = self._cells[product].setdefault(metric, {})
            cell = Cell(point.reading, point.spread)
            if (point.reading.status == GONE) == (segment in segments):
                self._to_follow.pop((product, metric), None)
            if point.reading.status == GONE:
                segments.pop(segment, None)
                self._gone.add(point.series.series_id)
            elif segments.setdefault(segment, {}).get(point.window) == cell:
                continue
            else:
                segments[segment][point.window] = cell
            changed.add((product, metric))
            self._touched.setdefault((product, metric), set()).add(segment)
        return changed

    def _follow_later(self, product: str, metric: str, segment: str) -> None:
        """A day before today has changed: that of a counted metric, and of those that are made of it."""
        changed = {(product, metric): {segment}}
        for name in {**changed, **self._metrics.derived_of(changed)}:
            if name not in self._blocks and segment in self._followed(name):
                self._waiting.setdefault(name, set()).add(segment)

    def _followed(self, name: Name) -> list[str]:
        found = self._to_follow.get(name)
        if found is None:
            there = self._cells[name[0]].get(name[1], {})
            found = self._to_follow[name] = to_follow(self._catalogs[name[0]], name[1], there)
        return found

    def _names(self) -> Iterator[Name]:
        for product, catalog in self._catalogs.items():
            for metric in catalog.metrics:
                yield product, metric

    # --- doing it -------------------------------------------------------------------------------------

    async def _read(self, connection: AsyncConnection, today: int) -> None:
        """All that is read, before the lock of a writer is taken: counting must not wait for it."""
        if not self._is_read:
            await self._rows.read(connection, self._catalogs)
            self._gone |= await self._others(connection)
            self._is_read = True
        await self._follow_trends(connection, today)

    async def _write(self, connection: AsyncConnection) -> bool:
        """False if another process leads, or another catalog is active."""
        active = await connection.scalar(select(catalog_state.c.generation))
        if active != self._generation or await hold_lease(connection, self._holder) is None:
            return False
        await trend_rows.forget(connection, self._gone)
        await trend_rows.write(connection, self._changes)
        await self._rows.write(connection)
        self._gone.clear()
        self._changes.clear()
        return True

    async def _others(self, connection: AsyncConnection) -> set[int]:
        """The series that have trends in SQL and shall have none any more."""
        wanted = {
            self._metrics.series(name, segment).series_id
            for name in self._names()
            for segment in self._followed(name)
        }
        return await trend_rows.followed_series(connection) - wanted

    async def _follow_trends(self, connection: AsyncConnection, today: int) -> None:
        left = self._rows_a_tick
        for name in list(self._waiting):
            while self._waiting[name] and left > 0:
                segment = TOTAL if TOTAL in self._waiting[name] else min(self._waiting[name])
                self._waiting[name].discard(segment)
                left -= await self._follow(connection, name, segment, today)
            if not self._waiting[name]:
                del self._waiting[name]
                self._without.discard(name)
                self._touched.setdefault(name, set())

    async def _follow(self, connection: AsyncConnection, name: Name, segment: str, today: int) -> int:
        block = self._blocks.get(name)
        followed = await trend_rows.follow(connection, self._metrics, name, segment, today, block)
        product, metric = name
        self._changes.append(followed.changes)
        for unknown in self._metrics.definition(name).windows:
            self._trends[product].pop((metric, segment, unknown), None)
        for window, trend in followed.by_window.items():
            self._trends[product][metric, segment, window] = trend
        if self._seen.get(name, followed.seen) != followed.seen:  # no data became nothing, or the reverse
            self._waiting[name].update(set(self._followed(name)) - {segment})
        self._seen[name] = followed.seen
        return followed.cost + _ROWS_OF_A_SERIES

    def _judge(self, now: int) -> None:
        ready = {name: segments for name, segments in self._touched.items() if name not in self._without}
        self._touched = {name: one for name, one in self._touched.items() if name in self._without}
        for product in sorted({name[0] for name in ready}):
            board = self._board(product, now)
            for (owner, metric), segments in ready.items():
                if owner == product:
                    self._judge_metric(board, metric, segments)
            if not any(name[0] == product for name in self._without):
                before = [ViolationRow(*row) for row in self._rows.of_product(violation.name, product)]
                self._rows.replace((product, "", ""), meaning.of_product(board, before))

    def _judge_metric(self, board: Board, metric: str, segments: set[str]) -> None:
        if reference_of(board.catalog.metrics[metric]) in segments:
            segments = segments | board.segments(metric).keys()
        for segment in segments:
            self._rows.replace((board.product, metric, segment), meaning.of_segment(board, metric, segment))
        self._rows.replace((board.product, metric, ""), meaning.of_metric(board, metric))

    def _board(self, product: str, now: int) -> Board:
        blocks = {metric: block for (owner, metric), block in self._blocks.items() if owner == product}
        return Board(self._catalogs[product], self._cells[product], self._trends[product], now, blocks)
