"""What an event costs as series and identities become many: the state is put into PostgreSQL beforehand."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import psutil
from sqlalchemy import text

from benchmarks.aggregator import database, family_cpu_s
from benchmarks.direct import Cost, Direct
from benchmarks.events import PRODUCT, EventMaker, catalog_text, clinic_of, records
from benchmarks.process import run_apart
from benchmarks.results import Row
from impact_aggregator.rules import TOTAL, Series
from impact_aggregator.windows import DAY, floor
from impact_database.engine import connect
from impact_eventlog import Partition
from impact_schemas.tables import to_datetime
from impact_schemas.wire import EVENTS_TOPIC
from tests.rig.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.plan import Plan
    from impact_eventlog import Record

SECTION = "Growth"
NOTE = (
    "batches of 2,000 events go from memory through decode, dedup, fold and store into PostgreSQL, without"
    " Kafka. Series and identities are simulated: rows are put into the tables by SQL beforehand, since"
    " events would take hours. *An event* (a) is what batches cost that touch 10 segments; *a touched"
    " bucket* (b) is what the row of one more bucket adds in batches that touch up to 2,000 segments, each of"
    " them in the cache, or read from SQL first. Of 100 series each gets 20 events of such a batch, and a row"
    " costs less; from 1,000 on it is one or two. Bytes an identity are those of table and index on disk, the"
    " index 70 % full, as random inserts leave it."
)

BATCH = 2_000
FEW = 10  # segments that a narrow batch touches
PARTITION = Partition(EVENTS_TOPIC, 0)
_CUT = catalog_text(
    ("messages",), "clinic: data.clinic, language: data.language", "[clinic, language]", "28d, all"
)


# --- in the measured process --------------------------------------------------------------------------


def by_series(url: str, series: int, batches: int) -> dict[str, Any]:
    """What batches cost that touch few or many of `series` segments."""
    return asyncio.run(_by_series(url, series, batches))


async def _by_series(url: str, series: int, batches: int) -> dict[str, Any]:
    direct = Direct(url, _CUT)
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    await direct.begin()
    start_s = time.perf_counter() - started
    start_mib = (psutil.Process().memory_info().rss - before) / 1024**2
    make = _Batches(segments(series))
    seeded = random.Random(1)  # noqa: S311 (the same segments in every run)
    wide = [seeded.choices(range(series), k=BATCH) for _ in range(batches)]
    narrow = [[place % min(FEW, series) for place in range(BATCH)]] * batches
    await direct.count(make.polls(narrow[:2]))
    cold = await direct.count(make.polls(wide))
    few = warm = Cost(0, 0, 0.0, 0.0)
    for these, those in zip(narrow, wide, strict=True):  # in turns: the machine drifts
        few = few.plus(await direct.count(make.polls([these])))
        warm = warm.plus(await direct.count(make.polls([those])))
    await direct.close()
    bucket_us = _each_bucket_us(warm, few)
    event_us = (few.cpu_s * 1e6 - bucket_us * few.buckets) / few.events
    cold_us = _each_bucket_us(cold, few)
    return {
        "event_us": event_us,
        "bucket_us": bucket_us,
        "cold_us": cold_us,
        "start_s": start_s,
        "start_mib": start_mib,
    }


def _each_bucket_us(many: Cost, few: Cost) -> float:
    """What one more row costs: both have the same number of events."""
    return (many.cpu_s - few.cpu_s) * 1e6 / max(1, many.buckets - few.buckets)


class _Batches:
    """Polls of one record each, whose events fall into given segments."""

    def __init__(self, places: Sequence[tuple[str, str]]) -> None:
        self._places = places
        self._maker = EventMaker()
        self._number = 0
        self._offset = 0

    def polls(self, batches: Sequence[Sequence[int]]) -> list[list[Record]]:
        """For each batch the index of each event's segment."""
        return [self._poll(batch) for batch in batches]

    def _poll(self, batch: Sequence[int]) -> list[Record]:
        now = time.time_ns() // 1000
        events = []
        for index in batch:
            clinic, language = self._places[index]
            events.append((self._number, self._maker.event(self._number, now, clinic, language)))
            self._number += 1
        self._offset += 1
        return records(self._maker, events, 1, self._offset - 1)


def segments(count: int) -> list[tuple[str, str]]:
    """`count` pairs of clinic and language: at most 1,000 of each."""
    languages = max(10, count // 1_000)
    return [(f"clinic-{place // languages}", f"l{place % languages}") for place in range(count)]


def by_identities(url: str, batches: int) -> dict[str, Any]:
    """What a batch of new events costs, and how long a claim takes, on what is in the database."""
    return asyncio.run(_by_identities(url, batches))


async def _by_identities(url: str, batches: int) -> dict[str, Any]:
    direct = Direct(url, catalog_text())
    await direct.begin()
    started = time.perf_counter()
    await direct.claim(PARTITION)
    claim_s = time.perf_counter() - started
    make = _Batches([(clinic_of(place), "es") for place in range(50)])
    plain = [[place % 50 for place in range(BATCH)]] * batches
    await direct.count(make.polls(plain[:2]))
    cost = await direct.count(make.polls(plain))
    await direct.close()
    event_us = cost.cpu_s / cost.events * 1e6
    return {"event_us": event_us, "batch_ms": cost.wall_s / batches * 1e3, "claim_s": claim_s}


# --- around it ----------------------------------------------------------------------------------------


def run(plan: Plan) -> list[Row]:
    """All rows of the section."""
    with PostgresServer.temporary() as postgres:
        return [*_rows_by_series(plan, postgres), *_rows_by_identities(plan, postgres)]


def _rows_by_series(plan: Plan, postgres: PostgresServer) -> Iterator[Row]:
    events, buckets = [], []
    for series in plan.series:
        plan.tell(f"{SECTION}: {series:,} series")
        with database("postgresql", postgres) as url:
            asyncio.run(fill_series(url, series))
            # few series have few buckets: more batches, for a figure that is not noise
            batches = plan.batches * (4 if series < 1_000 else 1)
            found = run_apart("benchmarks.growth:by_series", url=url, series=series, batches=batches)
        events.append(found["event_us"])
        buckets.append(found["bucket_us"])
        beside = f"series known at the start in {found['start_s']:.1f} s, {found['start_mib']:.0f} MiB"
        yield Row(SECTION, f"an event, {series:,} series", found["event_us"], "us", beside)
        beside = f"{found['cold_us']:.0f} us if read from SQL first"
        yield Row(SECTION, f"a touched bucket, {series:,} series", found["bucket_us"], "us", beside)
    yield _flat("an event over the series", events, 0.2)
    yield _flat("a touched bucket over the series", buckets, 0.5)


def _rows_by_identities(plan: Plan, postgres: PostgresServer) -> Iterator[Row]:
    events = []
    with database("postgresql", postgres) as url:
        for count in plan.identities:
            plan.tell(f"{SECTION}: {count:,} identities")
            asyncio.run(fill_identities(url, count))
            size = asyncio.run(identity_bytes(url))
            before = family_cpu_s(postgres)
            found = run_apart("benchmarks.growth:by_identities", url=url, batches=plan.batches)
            server_us = (family_cpu_s(postgres) - before) / (plan.batches + 2) / BATCH * 1e6
            asyncio.run(forget_events(url))
            events.append(found["event_us"])
            beside = f"database {server_us:.1f} us, a batch of 2,000 takes {found['batch_ms']:.0f} ms"
            yield Row(SECTION, f"an event, {count:,} identities", found["event_us"], "us", beside)
            yield Row(SECTION, f"an identity on disk, of {count:,}", size, "bytes")
            claim = f"a partition taken over, {count:,} identities"
            yield Row(SECTION, claim, found["claim_s"] * 1e3, "ms", "", "<= 10 s", found["claim_s"] <= 10)
    yield _flat("an event over the identities", events, 0.2)


def _flat(what: str, values: list[float], allowed: float) -> Row:
    middle = statistics.median(values)
    worst = max(abs(value - middle) / middle for value in values) * 100
    target = f"<= {allowed:.0%} from the median"
    return Row(SECTION, f"{what}: farthest from flat", worst, "%", "", target, worst <= allowed * 100)


# --- simulated state ----------------------------------------------------------------------------------


async def fill_series(url: str, count: int) -> None:
    """All segments with the rows of today and of all time."""
    pairs = segments(count)
    texts = [TOTAL, *(f'{{"clinic":"{clinic}","language":"{language}"}}' for clinic, language in pairs)]
    texts += [f'{{"clinic":"{clinic}"}}' for clinic in {clinic for clinic, _ in pairs}]
    texts += [f'{{"language":"{language}"}}' for language in {language for _, language in pairs}]
    rows = [(one.series_id, *one) for one in (Series(PRODUCT, "messages", 1, segment) for segment in texts)]
    now = time.time_ns() // 1000
    engine = connect(url)
    async with engine.begin() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection  # asyncpg's
        columns = ["series_id", "product", "metric", "version", "segment"]
        await raw.copy_records_to_table("series", records=rows, columns=columns)
        for resolution, start in (("1d", floor(now, DAY)), ("all", 0)):
            await connection.execute(
                text(
                    "INSERT INTO bucket (series_id, resolution, bucket_start, shard, seen, last_time, count,"
                    " updated_at) SELECT series_id, :resolution, :start, 0, 3, :now, 3, :now FROM series"
                    " ORDER BY series_id ON CONFLICT DO NOTHING"
                ),
                {"resolution": resolution, "start": to_datetime(start), "now": to_datetime(now)},
            )
    await _analyze(engine)
    await engine.dispose()


async def fill_identities(url: str, count: int) -> None:
    """Brings the table to `count` rows with random identities."""
    engine = connect(url)
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        there = await connection.scalar(text("SELECT count(*) FROM event_identity")) or 0
        await connection.execute(text("ALTER TABLE event_identity DROP CONSTRAINT event_identity_pkey"))
        await connection.execute(
            text(
                "INSERT INTO event_identity SELECT decode(md5(n::text), 'hex'), n, n % 12, n / 80, n % 80"
                " FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"
            ),
            {"first": there + 1, "last": count},
        )
        await connection.execute(
            text("ALTER TABLE event_identity ADD PRIMARY KEY (identity) WITH (fillfactor = 70)")
        )
    await _analyze(engine)
    await engine.dispose()


async def _analyze(engine: Any) -> None:
    """So that no autovacuum of the filling is counted with what is measured."""
    async with engine.connect() as connection:
        own = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await own.execute(text("SET statement_timeout = 0"))
        for name in ("series", "bucket", "event_identity"):
            await own.execute(text(f"VACUUM ANALYZE {name}"))


async def identity_bytes(url: str) -> float:
    engine = connect(url)
    async with engine.connect() as connection:
        size = await connection.scalar(
            text("SELECT pg_total_relation_size('event_identity') / count(*)::float FROM event_identity")
        )
    await engine.dispose()
    return float(size or 0)


async def forget_events(url: str) -> None:
    """Takes out what was counted, so that the next size begins with the same events."""
    engine = connect(url)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM event_identity WHERE digest < 0 OR digest > 1000000000"))
        await connection.execute(text("UPDATE claim SET next_offset = 0"))
    await engine.dispose()
