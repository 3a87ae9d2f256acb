"""What readers wait for: a scrape, the tick that keeps the rolling values, and the analysts' views."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
from sqlalchemy import text

from benchmarks.aggregator import database
from benchmarks.direct import Direct
from benchmarks.embedded import up
from benchmarks.events import METRICS, PRODUCT, SOURCE, EventMaker, catalog_text, id_of, records
from benchmarks.load import post_all
from benchmarks.process import run_apart
from benchmarks.results import Row
from impact_aggregator.windows import DAY
from impact_database.engine import read_only
from impact_schemas.tables import to_datetime
from tests.cli.service import wait_until
from tests.rig.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan

SECTION = "Reading"
NOTE = (
    "five metrics (unique, count, sum, mean, max) by 1,000 clinics in two windows are 10,010 gauges, from"
    " events of three days. The scrape is of `impact up`, over HTTP; the tick and the views are measured on"
    " both databases, through the views' own SQL."
)
WINDOWS = ("28d", "all")
DAYS = 3
FEW = 100  # clinics, of which an ordinary tick has news
REPEATS = 15
QUERIES = {
    "rolling_metrics, all of one metric": "SELECT * FROM rolling_metrics WHERE metric = 'cost'",
    "rolling_metrics, one total": "SELECT * FROM rolling_metrics WHERE metric = 'cost' AND segment = '{}'",
    "rolling_metrics, everything": "SELECT * FROM rolling_metrics",
    "metric_buckets, days of one total": "SELECT * FROM metric_buckets WHERE metric = 'cost'"
    " AND segment = '{}' AND resolution = '1d'",
    "metric_buckets, days of all clinics": "SELECT * FROM metric_buckets WHERE metric = 'cost'"
    " AND resolution = '1d'",
    "period_metrics, everything": "SELECT * FROM period_metrics",
    "ledger": "SELECT * FROM ledger",
}


def clinics_for(gauges: int) -> int:
    """How many clinics make that many gauges."""
    return max(1, gauges // len(WINDOWS) // len(METRICS))


def catalog() -> str:
    """Five metrics by clinic in two windows."""
    return catalog_text(METRICS, windows=", ".join(WINDOWS))


# --- in the measured process --------------------------------------------------------------------------


def ticks_and_views(url: str, gauges: int) -> dict[str, Any]:
    """Seconds of three kinds of tick, and milliseconds of each query."""
    return asyncio.run(_ticks_and_views(url, clinics_for(gauges)))


async def _ticks_and_views(url: str, clinics: int) -> dict[str, Any]:
    direct = Direct(url, catalog())
    await direct.begin()
    maker = EventMaker()
    now = time.time_ns() // 1000
    whole = [
        (number, maker.event(number, now - number // clinics * DAY, f"clinic-{number % clinics}", "es"))
        for number in range(clinics * DAYS)
    ]
    polls = [records(maker, whole[start : start + 1_000], 1, place) for place, start in _chunks(len(whole))]
    await direct.count(polls)
    first = await direct.tick()
    again = [
        (10**6 + number, maker.event(10**6 + number, now, f"clinic-{number}", "es")) for number in range(FEW)
    ]
    await direct.count([records(maker, again, 1, len(polls))])
    few = await direct.tick()
    idle = await direct.tick()
    queries = {name: await _query_ms(direct, sql) for name, sql in QUERIES.items()}
    await direct.close()
    return {"first_s": first.wall_s, "few_s": few.wall_s, "idle_s": idle.wall_s, "queries": queries}


def _chunks(count: int) -> list[tuple[int, int]]:
    return list(enumerate(range(0, count, 1_000)))


async def _query_ms(direct: Direct, sql: str) -> tuple[float, int]:
    """Median time until all rows are here, and how many there are."""
    times, rows = [], 0
    async with read_only(direct.engine).connect() as connection:
        for _ in range(5):
            started = time.perf_counter()
            rows = len((await connection.execute(text(sql))).all())
            times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times), rows


# --- around it ----------------------------------------------------------------------------------------


def run(plan: Plan) -> list[Row]:
    """All rows of the section."""
    plan.tell(f"{SECTION}: scrape")
    rows = list(_scrape_rows(plan.gauges))
    with PostgresServer.temporary() as postgres:
        for kind, name in (("postgresql", "PostgreSQL"), ("sqlite", "SQLite")):
            plan.tell(f"{SECTION}: tick and views, {name}")
            with database(kind, postgres) as url:
                found = run_apart("benchmarks.reading:ticks_and_views", url=url, gauges=plan.gauges)
            rows += _rows(found, name)
    return rows


def _rows(found: dict[str, Any], name: str) -> Iterator[Row]:
    peak = f"peak {found['peak_mib']:.0f} MiB"
    yield Row(SECTION, f"tick of a new leader, {name}", found["first_s"] * 1e3, "ms", peak)
    yield Row(SECTION, f"tick with news of {FEW} clinics, {name}", found["few_s"] * 1e3, "ms")
    yield Row(SECTION, f"tick without news, {name}", found["idle_s"] * 1e3, "ms")
    for query, (took_ms, rows) in found["queries"].items():
        yield Row(SECTION, f"{query}, {name}", took_ms, "ms", f"{rows:,} rows")


def _scrape_rows(gauges: int) -> Iterator[Row]:
    clinics = clinics_for(gauges)
    with up(catalog(), PRODUCT) as (service, door):
        asyncio.run(post_all(door.port, door.key, _bodies(clinics)))
        url = f"{service.url}/metrics"
        wait_until(lambda: _gauges(url) >= clinics * len(METRICS) * len(WINDOWS), "all gauges are there")
        times, before = [], _cpu_s(door)
        for _ in range(REPEATS):
            started = time.perf_counter()
            page = httpx.get(url, timeout=30)
            times.append((time.perf_counter() - started) * 1e3)
            time.sleep(0.05)
        cpu_ms = (_cpu_s(door) - before) / REPEATS * 1e3
        rss = door.process.memory_info().rss / 1024**2
    median_ms = statistics.median(times)
    beside = (
        f"at most {max(times):.0f} ms, CPU {cpu_ms:.0f} ms, {len(page.content) / 1e6:.1f} MB, {rss:.0f} MiB"
    )
    what = f"a scrape of {_business_lines(page.text):,} gauges"
    yield Row(SECTION, what, median_ms, "ms", beside, "<= 100 ms", median_ms <= 100)


def _bodies(clinics: int) -> Iterator[bytes]:
    now = time.time_ns() // 1000
    for start in range(0, clinics * DAYS, 1_000):
        yield msgspec.json.encode(
            [
                {
                    "specversion": "1.0",
                    "id": id_of(number),
                    "source": SOURCE,
                    "type": "bench.message.delivered.v1",
                    "time": to_datetime(now - number // clinics * DAY).isoformat(),
                    "subject": f"patient-{number % 777}",
                    "data": {"channel": "sms", "clinic": f"clinic-{number % clinics}", "cost": 0.25},
                }
                for number in range(start, min(start + 1_000, clinics * DAYS))
            ]
        )


def _gauges(url: str) -> int:
    time.sleep(0.3)  # a scrape each 50 ms would be in the tick's way
    return _business_lines(httpx.get(url, timeout=30).text)


def _business_lines(page: str) -> int:
    prefixes = tuple(f"impact_{name}" for name in METRICS)
    return sum(line.startswith(prefixes) for line in page.splitlines())


def _cpu_s(door: Any) -> float:
    times = door.process.cpu_times()
    return float(times.user + times.system)
