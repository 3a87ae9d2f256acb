"""The running aggregator over a real embedded log: what it counts, what it waits for, when it stops."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text

from impact_aggregator import counting, runner
from impact_aggregator.leadership import LEASE_SECONDS
from impact_aggregator.rebuild import Rebuild
from impact_aggregator.recount import History
from impact_aggregator.runner import Aggregator, Stalled
from impact_aggregator.store import LogReplaced, Store, check_log
from impact_database import migrate
from impact_database.engine import connect, read_only
from impact_eventlog import KeyedEvent, LogHole, Partition
from impact_eventlog.embedded import EmbeddedReader, EmbeddedWriter
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import EVENTS, NOON, QUARANTINE, TEXT, identities, payload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from impact_eventlog import Record
    from impact_schemas.catalog import Catalog

WAIT_S = 30.0


class Running:
    """An aggregator on a log and a database of its own."""

    def __init__(self, folder: Path, writer: EmbeddedWriter, catalog: Catalog) -> None:
        self.writer = writer
        self.task: asyncio.Task[None]
        self.engine = connect(f"sqlite:///{folder / 'metrics.db'}")
        self.registry = CollectorRegistry()
        log = folder / "events.db"
        self.aggregator = Aggregator(
            reader=EmbeddedReader(log, [EVENTS, QUARANTINE], writer=writer),
            history=EmbeddedReader(log, [EVENTS, QUARANTINE]),
            engine=self.engine,
            catalogs={catalog.product: catalog},
            identities=identities,
            registry=self.registry,
            quarantine_topic=QUARANTINE,
            holder="test",
        )

    async def append(self, *raws: bytes, topic: str = EVENTS) -> None:
        await self.writer.append(topic, "clinic", [KeyedEvent(b"k" * 16, raw) for raw in raws])

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async with read_only(self.engine).connect() as connection:
            return [tuple(row) for row in await connection.execute(text(sql))]

    async def until(self, sql: str, wanted: Callable[[list[tuple[Any, ...]]], bool]) -> list[tuple[Any, ...]]:
        """The rows, as soon as they are as wanted."""
        async with asyncio.timeout(WAIT_S):
            while not wanted(rows := await self.rows(sql)):  # noqa: ASYNC110 (nothing here could be awaited)
                await asyncio.sleep(0.05)
        return rows

    async def until_ledger(self, *expected: int) -> None:
        """Until received, counted, duplicates and quarantined are so."""
        sql = "SELECT received, counted, duplicates, quarantined FROM ledger"
        await self.until(sql, lambda rows: rows == [expected])

    def metrics(self) -> str:
        return (generate_latest(self.registry) + self.aggregator.business_gauges()).decode()


@asynccontextmanager
async def running(folder: Path, catalog: Catalog) -> AsyncIterator[Running]:
    writer = EmbeddedWriter(folder / "events.db")
    await writer.start()
    made = Running(folder, writer, catalog)
    await migrate.upgrade(made.engine)
    made.task = asyncio.create_task(made.aggregator.run())
    try:
        yield made
        await made.aggregator.stop()
        await made.task
    finally:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)
        await writer.stop()
        await made.engine.dispose()


async def test_what_stands_before_a_hole_is_counted_before_the_hole_is_passed(
    tmp_path: Path, catalog: Catalog
) -> None:
    async with running(tmp_path, catalog) as one:
        poll = one.aggregator._reader.poll
        first: list[Record] = []

        async def poll_up_to_a_hole(timeout_s: float) -> Sequence[Record]:
            if len(first) == 6:  # a turn that is behind polls again before it counts
                first.clear()
                one.aggregator._reader.poll = poll  # type: ignore[method-assign]
                raise LogHole(Partition(EVENTS, 0), 5, 5, "the test has lost it")
            first.extend(await poll(timeout_s))
            return first[:5]

        one.aggregator._reader.poll = poll_up_to_a_hole  # type: ignore[method-assign]
        large = {"note": "x" * 240_000}
        await one.append(*(payload(f"e{number}", large) for number in range(6)))
        await one.until("SELECT first_offset FROM log_holes", lambda rows: rows == [(5,)])
        await one.until_ledger(5, 5, 0, 0)


async def test_events_become_numbers_in_sql_and_gauges(tmp_path: Path, catalog: Catalog) -> None:
    async with running(tmp_path, catalog) as one:
        data = {"language": "es", "region": "north", "minutes": 12}
        await one.append(payload("a", data), payload("b", {"kept": False}), payload("a", data))
        await one.until_ledger(3, 2, 1, 0)
        await one.until(
            "SELECT value FROM rolling_metrics"
            " WHERE metric = 'minutes' AND time_window = 'all' AND segment = '{}'",
            lambda rows: rows == [(12.0,)],
        )
        text_of_metrics = one.metrics()
    for line in (
        'impact_minutes{product="clinic",window="all"} 12.0',
        'impact_minutes_by_language{language="es",product="clinic",window="all"} 12.0',
        'impact_visits_by_language{language="(unknown)",product="clinic",window="all"} 1.0',
        'impact_visits_by_region_language{language="es",product="clinic",region="north",window="all"} 1.0',
        'impact_metric_state{metric="visits",product="clinic",status="ok",window="all"} 1.0',
        'impact_aggregator_events_total{outcome="counted"} 2.0',
        'impact_aggregator_events_total{outcome="duplicate"} 1.0',
        "impact_aggregator_freshness_seconds_count 1.0",
    ):
        assert line in text_of_metrics
    assert "impact_mean_minutes{" in text_of_metrics
    assert 'impact_catalog_info{product="clinic"' in text_of_metrics
    # a value that is not known is absent, never 0
    assert 'impact_mean_minutes_by_region{product="clinic",region="(unknown)"' not in text_of_metrics


async def test_what_is_no_event_is_quarantined_and_the_rest_of_its_record_counts(
    tmp_path: Path, catalog: Catalog
) -> None:
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {}), b'{"id": 5}', b"17", payload("b", {}))
        await one.until_ledger(4, 2, 0, 2)
        rows = await one.rows("SELECT code, payload FROM quarantined_events ORDER BY payload")
        assert rows == [("invalid_envelope", "17"), ("invalid_envelope", '{"id": 5}')]


async def test_the_doors_rejections_are_read_from_their_own_log(tmp_path: Path, catalog: Catalog) -> None:
    rejected = b'{"code":"schema_violation","detail":"too long","pointer":"/data/minutes","event":{"id":"x"}}'
    async with running(tmp_path, catalog) as one:
        await one.append(rejected, topic=QUARANTINE)
        await one.append(payload("a", {}))
        await one.until_ledger(2, 1, 0, 1)
        rows = await one.rows("SELECT code, detail, pointer, event_id FROM quarantined_events")
        assert rows == [("schema_violation", "too long", "/data/minutes", "x")]


async def test_a_type_that_the_catalog_lacks_waits_for_the_catalog_and_is_then_counted(
    tmp_path: Path, catalog: Catalog
) -> None:
    """The door may take up a changed catalog some seconds before the aggregator does."""
    more = TEXT.replace("events:\n", "events:\n  clinic.call.v1: {data: {type: object}}\n", 1)
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {}))
        await one.until_ledger(1, 1, 0, 0)
        await one.append(payload("c", {}, event_type="clinic.call.v1"))
        await asyncio.sleep(1.5)
        assert await one.rows("SELECT received FROM ledger") == [(1,)]
        one.aggregator.use({"clinic": parse_catalog(more, "clinic.yaml")})
        await one.until_ledger(2, 2, 0, 0)


async def test_a_type_that_never_gets_into_the_catalog_is_quarantined(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "PATIENCE_S", 0.5)
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {}), payload("c", {}, event_type="clinic.call.v1"))
        await one.until_ledger(2, 1, 0, 1)


async def test_a_catalog_that_another_process_made_active_stops_the_fold_until_it_is_here(
    tmp_path: Path, catalog: Catalog
) -> None:
    from impact_aggregator.active import activate

    changed = parse_catalog(TEXT.replace("title: Clinic", "title: Clinics"), "clinic.yaml")
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {}))
        await one.until_ledger(1, 1, 0, 0)
        await activate(one.engine, {"clinic": changed}, NOON)
        await one.append(payload("b", {}))
        await asyncio.sleep(1.5)
        assert await one.rows("SELECT received FROM ledger") == [(1,)]
        assert not await one.aggregator.ready()
        one.aggregator.use({"clinic": changed})
        await one.until_ledger(2, 2, 0, 0)
        assert await one.rows("SELECT title FROM products") == [("Clinics",)]


async def test_a_rebuild_is_taken_up_even_if_no_event_comes(tmp_path: Path, catalog: Catalog) -> None:
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {"minutes": 3}, NOON))
        await one.until_ledger(1, 1, 0, 0)
        reader = EmbeddedReader(tmp_path / "events.db", [EVENTS, QUARANTINE])
        history = History(reader)
        rebuild = Rebuild(
            engine=one.engine,
            store=Store(one.engine, lambda: NOON, "rebuild"),
            history=history,
            identities=identities,
            catalogs={catalog.product: catalog},
            events_topic=EVENTS,
            clock=lambda: NOON,
        )
        await rebuild.run()
        await history.stop()
        sql = "SELECT value, version FROM rolling_metrics WHERE metric = 'minutes' AND segment = '{}'"
        await one.until(f"{sql} AND time_window = 'all'", lambda rows: rows == [(3, 2)])


async def test_a_log_that_ends_before_what_was_counted_stops_the_start(
    tmp_path: Path, catalog: Catalog
) -> None:
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {}))
        await one.until_ledger(1, 1, 0, 0)
        async with one.engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE claim SET next_offset = 9")
    with pytest.raises(LogReplaced, match="bring the whole log back"):
        async with running(tmp_path, catalog) as one:
            await asyncio.wait([one.task], timeout=WAIT_S)


async def test_it_goes_on_where_it_was_after_a_restart(tmp_path: Path, catalog: Catalog) -> None:
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {}))
        await one.until_ledger(1, 1, 0, 0)
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {}), payload("b", {}))
        await one.until_ledger(3, 2, 1, 0)


async def test_a_log_that_is_not_the_counted_one_is_told_before_anything_is_appended(
    tmp_path: Path, catalog: Catalog
) -> None:
    async with running(tmp_path, catalog) as one:
        await one.append(payload("a", {}))
        await one.until_ledger(1, 1, 0, 0)
        reader = EmbeddedReader(tmp_path / "events.db", [EVENTS, QUARANTINE])
        await reader.start()
        await check_log(one.engine, reader)
        async with one.engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE claim SET next_offset = 9 WHERE topic = ?", (EVENTS,))
        with pytest.raises(LogReplaced, match="ends at offset 1"):
            await check_log(one.engine, reader)
        async with one.engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE claim SET next_offset = 1, log_id = 'x'")
        with pytest.raises(LogReplaced, match="came from x"):
            await check_log(one.engine, reader)
        await reader.stop()


async def test_a_tick_that_never_ends_ends_the_process(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database neither answers nor closes its connection: the next process may find another one."""
    for limit, seconds in {"HUNG_S": 3.0, "LAG_S": 0.2, "CLOSE_S": 0.2}.items():
        monkeypatch.setattr(runner, limit, seconds)

    async def hang() -> None:
        async with running(tmp_path, catalog) as one:
            one.aggregator._rolling.tick = asyncio.Event().wait  # type: ignore[method-assign]
            await asyncio.wait([one.task], timeout=WAIT_S)

    with pytest.raises(Stalled, match="tick has not ended"):
        await hang()


async def test_after_a_tick_that_slept_the_next_one_comes_while_the_lease_lasts(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep_s, ticks = 0.0, asyncio.Queue[float]()
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + asleep_s)

    async def tick() -> bool:
        nonlocal asleep_s
        ticks.put_nowait(monotonic())
        asleep_s += 70
        return False

    async with running(tmp_path, catalog) as one:
        one.aggregator._rolling.tick = tick  # type: ignore[method-assign]
        first, second = [await asyncio.wait_for(ticks.get(), WAIT_S) for _ in range(2)]
    assert second - first < LEASE_SECONDS
