"""What the service says: one snapshot of the SQL views, with the log positions up to which they count."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from impact_aggregator.verify.definitions import Metric, metrics_of
from impact_database.engine import read_only
from impact_eventlog import Partition
from impact_schemas.view import select_text
from impact_schemas.views import TRUE_BUCKETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

BATCH_ROWS = 5_000
_WIDE = Context(prec=100)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = tuple[Any, ...]


class Pending(NamedTuple):
    """Metrics (product, name) whose published values wait for the leader."""

    windows: set[tuple[str, str]]
    periods: set[tuple[str, str]]


class Snapshot:
    """One moment of the database: everything that is asked of it agrees."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def positions(self, topics: Sequence[str] = ()) -> dict[Partition, int]:
        """For each partition of these topics (none: of all) the first offset that is not counted."""
        rows = await self._rows('SELECT topic, "partition", next_offset FROM log_positions')
        return {
            Partition(topic, number): offset
            for topic, number, offset in rows
            if not topics or topic in topics
        }

    async def metrics(self) -> list[Metric]:
        """Every metric in force."""
        rows = await self._rows(
            "SELECT product, metric, version, min_cell, definition, block FROM metrics"
            " ORDER BY product, metric"
        )
        return metrics_of(row[:6] for row in rows)

    async def moments(self) -> dict[str, tuple[int | None, int]]:
        """Where each window begins (None: never), and when its values are right."""
        rows = await self._rows("SELECT time_window, window_start, as_of FROM window_position")
        return {
            window: (None if start is None else to_micros(start), to_micros(moment))
            for window, start, moment in rows
        }

    async def pending(self) -> Pending:
        """(product, metric) of which the next tick will change a value."""
        return Pending(
            await self._names("SELECT series_id FROM changed_series"),
            await self._names("SELECT series_id FROM changed_day"),
        )

    async def _names(self, ids: str) -> set[tuple[str, str]]:
        query = f"SELECT DISTINCT product, metric FROM series WHERE series_id IN ({ids})"  # noqa: S608 (constants)
        return {(product, metric) for product, metric in await self._rows(query)}

    async def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        """Any query's rows, by column."""
        result = await self._connection.execute(text(query), parameters)
        return [dict(row) for row in result.mappings()]

    async def ledger(self) -> dict[str, tuple[int, int, int]]:
        """(counted, duplicates, quarantined) of each product."""
        rows = await self._rows("SELECT product, counted, duplicates, quarantined FROM ledger")
        return {product: (int(a), int(b), int(c)) for product, a, b, c in rows}

    async def set_aside(self, topic: str) -> list[tuple[int, int, int, str]]:
        """Positions of quarantined events of the event log whose reason is not in the log itself."""
        return [
            (number, offset, position, code)
            for number, offset, position, code in await self._rows(
                'SELECT "partition", "offset", position, code FROM quarantine'
                " WHERE topic = :topic AND code NOT IN ('id_conflict', 'invalid_envelope')",
                topic=topic,
            )
        ]

    async def has_view(self, name: str) -> bool:
        """Whether the database has this view."""
        tables = "sqlite_master WHERE name = :name"
        if self._connection.dialect.name == "postgresql":
            tables = "pg_views WHERE viewname = :name AND schemaname = 'impact'"
        return bool(await self._rows(f"SELECT 1 FROM {tables}", name=name))  # noqa: S608 (one of two constants)

    async def buckets(self) -> AsyncIterator[list[Row]]:
        """(product, metric, resolution, start, segment, count, sum, mean, min, max, value), in batches.

        Those of protected metrics too, of which the views show closed blocks only.
        """
        buckets = select_text(TRUE_BUCKETS, self._connection.dialect.name).replace(":", "\\:")
        columns = (
            'product, metric, resolution, bucket_start, segment, "count", "sum", mean, "min", "max", value'
        )
        query = f"SELECT {columns} FROM ({buckets}) AS b"  # noqa: S608 (the view's own text)
        async for batch in self._batches(query):
            yield [(*row[:3], to_micros(row[3]), row[4], row[5], *map(to_nanos, row[6:])) for row in batch]

    async def rolling(self) -> AsyncIterator[list[Row]]:
        """(product, metric, window, segment, value, n, status), in batches."""
        query = "SELECT product, metric, time_window, segment, value, n, status FROM rolling_metrics"
        async for batch in self._batches(query):
            yield [(*row[:4], to_nanos(row[4]), *row[5:]) for row in batch]

    async def periods(self) -> AsyncIterator[list[Row]]:
        """(product, metric, period, start, end, segment, value, n, status), in batches."""
        columns = "product, metric, period, starts_at, ends_at, segment, value, n, status"
        query = f"SELECT {columns} FROM period_metrics"  # noqa: S608 (constants)
        async for batch in self._batches(query):
            yield [
                (*row[:3], to_micros(row[3]), to_micros(row[4]), row[5], to_nanos(row[6]), *row[7:])
                for row in batch
            ]

    async def _rows(self, query: str, **parameters: object) -> Sequence[Any]:
        return (await self._connection.execute(text(query), parameters)).all()

    async def _batches(self, query: str) -> AsyncIterator[Sequence[Any]]:
        async with self._connection.stream(text(query)) as result:
            async for batch in result.partitions(BATCH_ROWS):
                yield batch


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[Snapshot]:
    """A snapshot that lasts as long as the context."""
    reading = read_only(engine)
    if engine.dialect.name == "postgresql":
        reading = reading.execution_options(isolation_level="REPEATABLE READ")
    async with reading.connect() as connection:
        yield Snapshot(connection)


async def wait_for_tick(engine: AsyncEngine, patience_s: float) -> None:
    """Until no value waits for the next tick, or for at most `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        async with snapshot(engine) as one:
            if not any(await one.pending()):
                return
        await asyncio.sleep(0.2)


def to_micros(moment: Any) -> int:
    """Microseconds since 1970 of a view's time: a datetime on PostgreSQL, UTC text on SQLite."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    since = moment - _EPOCH
    return int((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def to_nanos(number: Decimal | float | int | None) -> str | None:
    """A view's number in units of 10^-9, as text; a double stands for its shortest decimal."""
    if number is None:
        return None
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    return str(int(exact.scaleb(9, _WIDE).to_integral_value(ROUND_HALF_EVEN, _WIDE)))
