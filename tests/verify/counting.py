"""A catalog with everything in it, and its events counted by the real aggregator from a real log."""

# ruff: noqa: E501 (the catalog has one metric a line)

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import CollectorRegistry
from sqlalchemy import select, text

from impact_aggregator.runner import Aggregator
from impact_aggregator.verify import Explanation, Log, Report, Scope, explain, verify
from impact_database import migrate
from impact_database.engine import connect, read_only
from impact_eventlog.embedded import EmbeddedReader, EmbeddedWriter
from impact_eventlog.ports import KeyedEvent
from impact_ingest.split import decode
from impact_schemas.catalog import parse_catalog
from impact_schemas.identity import Identities
from impact_schemas.tables import window_position
from impact_schemas.wire import EVENTS_TOPIC, QUARANTINE_TOPIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_eventlog.ports import EventLogReader, EventLogWriter

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
TOPICS = (EVENTS_TOPIC, QUARANTINE_TOPIC)

_VISIT = "event: clinic.visit.v1, role: impact, cadence: 1d, windows: [5m, 1h, 24h, 28d, all]"
_SPLIT = (
    "dimensions: {language: data.language, region: {path: data.region, values: [north, 3, 2.5]}},"
    " cuts: [[region, language]]"
)
_MINUTES = f"{_VISIT}, {_SPLIT}, of: data.minutes"

CATALOG = f"""
apiVersion: impact/v1
product: clinic
title: Clinic
sources: ["/clinic/*"]
events:
  clinic.visit.v1:
    data:
      type: object
      properties:
        language: {{type: [string, "null"]}}
        region: {{}}
        kept: {{type: boolean}}
        minutes: {{type: number}}
        ward: {{type: object, properties: {{place: {{type: string}}, beds: {{type: integer}}}}}}
  clinic.closed.v1: {{data: {{type: object}}}}
metrics:
  visits: {{title: Visits, {_VISIT}, {_SPLIT}, aggregate: count}}
  kept: {{title: Kept, {_VISIT}, {_SPLIT}, aggregate: count, where: {{data.kept: true}}}}
  some: {{title: Some, {_VISIT}, aggregate: count, where: {{data.language: [es, null], data.region: {{ne: [3, a]}}}}}}
  fraction: {{title: Fraction, {_VISIT}, aggregate: count, where: {{data.region: 2.5}}}}
  long: {{title: Long, {_MINUTES}, aggregate: sum, where: {{data.minutes: {{gt: 1.5, lte: 100}}}}}}
  short: {{title: Short, {_MINUTES}, aggregate: sum, where: {{data.minutes: {{gte: -1, lt: 1.5, ne: 0}}}}}}
  patients: {{title: Patients, {_VISIT}, {_SPLIT}, aggregate: unique, of: subject}}
  languages: {{title: Languages, {_VISIT}, aggregate: unique, of: data.language}}
  lengths: {{title: Lengths, {_MINUTES}, aggregate: unique}}
  minutes: {{title: Minutes, {_MINUTES}, aggregate: sum}}
  mean: {{title: Mean, {_MINUTES}, aggregate: mean}}
  least: {{title: Least, {_MINUTES}, aggregate: min}}
  most: {{title: Most, {_MINUTES}, aggregate: max}}
  last: {{title: Last, {_MINUTES}, aggregate: latest}}
  p50: {{title: Median, {_MINUTES}, aggregate: p50}}
  p99: {{title: Nearly all, {_MINUTES}, aggregate: p99}}
  beds: {{title: Beds, {_VISIT}, {_SPLIT}, aggregate: latest, of: data.ward.beds, per: data.ward.place}}
  few: {{title: Few, event: clinic.visit.v1, role: impact, cadence: 1d, windows: [24h, 28d, all], {_SPLIT}, aggregate: count, privacy: {{min_cell: 3}}}}
  both: {{title: Both, event: [clinic.visit.v1, clinic.closed.v1], role: impact, aggregate: count, windows: [7d]}}
  kept_rate: {{title: Kept rate, ratio: {{numerator: kept, denominator: visits}}, role: impact, windows: [1h, 90d]}}
  per_patient:
    {{title: Each, ratio: {{numerator: long, denominator: patients}}, role: impact, dimensions: {{language: data.language}}}}
"""

_LARGE_ONLY = [
    "some",
    "fraction",
    "long",
    "short",
    "languages",
    "lengths",
    "least",
    "p99",
    "beds",
    "both",
    "per_patient",
]
SMALL_CATALOG = re.sub(
    rf"^  ({'|'.join(_LARGE_ONLY)}):.*?(?=^  \w|\Z)", "", CATALOG, flags=re.MULTILINE | re.DOTALL
)

identities = Identities(b"k" * 32)
_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


def event(
    event_id: str,
    time: int | None = NOON,
    subject: str | None = "p1",
    source: str = "/clinic/a",
    event_type: str = "clinic.visit.v1",
    **data: Any,
) -> dict[str, Any]:
    """An event as a product sends it."""
    made: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": event_type,
        "data": data,
    }
    if time is not None:
        made["time"] = rfc3339(time)
    if subject is not None:
        made["subject"] = subject
    return made


def retraction(event_id: str, of: str, time: int = NOON) -> dict[str, Any]:
    """Takes the event `of` back."""
    return _amendment("impact.retraction.v1", event_id, of, time)


def correction(event_id: str, of: str, data: dict[str, Any], time: int = NOON) -> dict[str, Any]:
    """Replaces the data of the event `of`."""
    made = _amendment("impact.correction.v1", event_id, of, time)
    made["data"]["data"] = data
    return made


def _amendment(event_type: str, event_id: str, of: str, time: int) -> dict[str, Any]:
    made = event(event_id, time, None, event_type=event_type)
    made["data"] = {"source": "/clinic/a", "id": of, "reason": "a mistake"}
    return made


def rfc3339(micros: int) -> str:
    """A time as text."""
    return (datetime(1970, 1, 1) + timedelta(microseconds=micros)).isoformat() + "Z"  # noqa: DTZ001 (UTC)


def keyed(made: dict[str, Any]) -> KeyedEvent:
    """An event on its way into the log, canonical as the door writes it."""
    names = made["data"] if made["type"].startswith("impact.") else made
    key = identities.of("clinic", names["source"], names["id"])
    return KeyedEvent(key, _encode(decode(_encode(made), "the test")))


class Counting:
    """A log, and a database into which it is counted."""

    def __init__(
        self,
        engine: AsyncEngine,
        writer: EventLogWriter,
        open_reader: Callable[[], EventLogReader],
        catalog: str = CATALOG,
    ) -> None:
        self.engine = engine
        self.writer = writer
        self.open_reader = open_reader
        self.catalogs = {"clinic": parse_catalog(catalog, "clinic.yaml")}
        self.now = NOON

    async def send(self, *events: dict[str, Any], received_at: int = NOON) -> None:
        """Appends events as one batch."""
        await self.writer.append(EVENTS_TOPIC, "clinic", [keyed(one) for one in events], received_at)

    async def count(self, reader: EventLogReader | None = None) -> None:
        """Runs an aggregator until all is counted and the rolling metrics have followed."""
        aggregator = Aggregator(
            reader=reader or self.open_reader(),
            history=self.open_reader(),
            engine=self.engine,
            catalogs=self.catalogs,
            identities=identities,
            registry=CollectorRegistry(),
            quarantine_topic=QUARANTINE_TOPIC,
            holder="test",
            clock=lambda: self.now,
        )
        running = asyncio.create_task(aggregator.run())
        try:
            async with asyncio.timeout(60):
                while not (
                    await aggregator.ready() and await aggregator.caught_up() and await self._has_followed()
                ):
                    if running.done():
                        break
                    await asyncio.sleep(0.05)
        finally:
            await aggregator.stop()
            await running

    async def _has_followed(self) -> bool:
        async with read_only(self.engine).connect() as connection:
            ticked = (await connection.scalars(select(window_position.c.as_of))).all()
        if await self.rows("SELECT 1 FROM changed_series"):
            return False
        if await self.rows("SELECT 1 FROM changed_day"):
            self.now += 5 * SECOND  # periods follow every five seconds
            return False
        return self.now in ticked

    async def verify(self, product: str | None = None, metric: str | None = None) -> Report:
        """Of the whole database, unless told otherwise."""
        log = Log(self.open_reader(), *TOPICS)
        return await verify(self.engine, log, identities, Scope(product, metric), patience_s=0)

    async def explain(
        self, metric: str, segment: str = "{}", window: str | None = None, *, with_log: bool = True
    ) -> Explanation:
        """Of a metric of the clinic's."""
        log = Log(self.open_reader(), *TOPICS) if with_log else None
        scope = Scope("clinic", metric)
        return await explain(self.engine, log, identities, scope, segment=segment, window=window)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """A query's rows."""
        async with read_only(self.engine).connect() as connection:
            return [tuple(row) for row in await connection.execute(text(sql))]

    async def change(self, sql: str) -> None:
        """What nobody should do."""
        async with self.engine.begin() as connection:
            await connection.exec_driver_sql(sql)


@asynccontextmanager
async def embedded(
    folder: Path, url: str, partitions: int = 1, catalog: str = CATALOG
) -> AsyncIterator[Counting]:
    """Counting from an embedded log in `folder` into the database at `url`."""
    engine = connect(url)
    writer = EmbeddedWriter(folder / "events.db", partitions=partitions)
    await writer.start()
    try:
        await migrate.upgrade(engine)
        yield Counting(engine, writer, lambda: EmbeddedReader(folder / "events.db", TOPICS), catalog)
    finally:
        await writer.stop()
        await engine.dispose()


def told(report: Report) -> Sequence[tuple[str, ...]]:
    """The differences, for a test's message."""
    return [
        (
            one.metric,
            one.kind,
            one.place,
            one.start or "",
            one.segment,
            one.field,
            f"{one.expected}",
            f"{one.found}",
        )
        for one in report.differences
    ]
