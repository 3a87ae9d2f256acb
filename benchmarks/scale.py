"""Many events through Kafka into PostgreSQL by two aggregators; then `verify`, and a loss of the database."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from benchmarks.aggregator import THREE, family_cpu_s, topics_on
from benchmarks.events import CLINICS, MASTER, PRODUCT, EventMaker, catalog_text
from benchmarks.process import run_apart
from benchmarks.results import Row
from impact_eventlog import KeyedEvent
from impact_eventlog.kafka import KafkaWriter
from tests.end_to_end.services import Production, wait_until
from tests.rig.kafka import KafkaServer
from tests.rig.postgres import PostgresServer, fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan

SECTION = "Scale"
NOTE = (
    f"events with three metrics by {CLINICS} clinics, one in a thousand sent twice, lie in real Kafka (12"
    " partitions) before two processes `impact aggregator` start; CPU is that of both. Then `impact verify`"
    " counts everything again from the log, by other code, and compares; and the schema is dropped, `impact"
    " migrate` and two aggregators are started, and every bucket and rolling value must be what it was."
)

REQUEST = 1_000
ONE_IN = 1_000  # is sent twice
FILLERS = 2  # processes that fill the topic
PATIENCE_S = 3_000.0
_NUMBERS = (
    "SELECT metric, resolution, bucket_start, segment, count, sum, value FROM metric_buckets",
    "SELECT metric, time_window, segment, value, n, status FROM rolling_metrics",
    "SELECT product, received, counted, duplicates, quarantined FROM ledger",
)


class Counted(NamedTuple):
    """What counting took."""

    wall_s: float
    cpu_s: float  # of all aggregators
    database_s: float
    peak_mib: float  # of the larger one


def run(plan: Plan) -> list[Row]:
    """All rows of the section."""
    with (
        tempfile.TemporaryDirectory(prefix="impact-bench-") as name,
        KafkaServer.temporary() as kafka,
        PostgresServer.temporary() as postgres,
        fresh_database(postgres.url) as url,
    ):
        folder = Path(name)
        catalog = folder / "catalog"
        catalog.mkdir()
        (catalog / f"{PRODUCT}.yaml").write_text(catalog_text(THREE))
        with Production(folder, kafka, url, catalog, key=MASTER.decode()) as service:
            service.door.stop()  # the events are in the log before anything is counted
            plan.tell(f"{SECTION}: {plan.scale_events:,} events into Kafka")
            _fill(kafka.bootstrap, service.topic, plan.scale_events)
            return list(_rows(service, postgres, plan))


def _rows(service: Production, postgres: PostgresServer, plan: Plan) -> Iterator[Row]:
    sent = plan.scale_events + plan.scale_events // ONE_IN
    plan.tell(f"{SECTION}: two aggregators count")
    first = _count(service, postgres, sent)
    numbers = [service.numbers(sql) for sql in _NUMBERS]
    (ledger,) = numbers[-1]
    beside = (
        f"{sent / first.wall_s:,.0f} events/s, database {first.database_s / sent * 1e6:.1f} us,"
        f" peak {first.peak_mib:.0f} MiB a process"
    )
    yield Row(SECTION, f"{sent:,} events, two aggregators", first.cpu_s / sent * 1e6, "us an event", beside)
    said = f"of {ledger[1]:,.0f} received, {ledger[3]:,.0f} duplicates, {ledger[4]:,.0f} quarantined"
    is_exact = ledger[1:] == (sent, plan.scale_events, sent - plan.scale_events, 0)
    yield Row(SECTION, "of them counted", ledger[2], "events", said, f"{plan.scale_events:,}", is_exact)
    plan.tell(f"{SECTION}: impact verify")
    started = time.monotonic()
    report = json.loads(service.run("verify", "--json", timeout_s=PATIENCE_S))
    took_s = time.monotonic() - started
    beside = f"{report['events']:,} events recomputed, {report['differences_total']} differences"
    yield Row(SECTION, "impact verify", took_s, "s", beside, "equal", report["equal"])
    plan.tell(f"{SECTION}: the database is lost")
    for process in service.aggregators:
        process.stop()
    service.aggregators.clear()
    service.drop_schema()
    service.run("migrate")
    second = _count(service, postgres, sent)
    is_same = numbers == [service.numbers(sql) for sql in _NUMBERS]
    rows = sum(map(len, numbers))
    beside = f"{rows:,} rows of buckets, rolling values and ledger compared"
    yield Row(SECTION, "a lost database is back after", second.wall_s, "s", beside, "the same", is_same)


def _count(service: Production, postgres: PostgresServer, events: int) -> Counted:
    database_s, started = family_cpu_s(postgres), time.monotonic()
    for number in range(2):
        service.start_aggregator(f"aggregator-{number}")
    processes = [psutil.Process(one.pid) for one in service.aggregators]

    def received() -> bool:
        return bool(service.rows(f"SELECT 1 FROM ledger WHERE received >= {events}"))  # noqa: S608 (a number)

    wait_until(received, f"{events:,} events are counted", PATIENCE_S, pause_s=1)
    wall_s = time.monotonic() - started
    cpu_s = sum(sum(one.cpu_times()[:2]) for one in processes)
    peak = max(one.peak_memory_bytes() for one in service.aggregators)
    service.wait_until_rolled_up()
    return Counted(wall_s, cpu_s, family_cpu_s(postgres) - database_s, peak / 2**20)


# --- filling the topic --------------------------------------------------------------------------------


def _fill(bootstrap: str, topic: str, events: int) -> None:
    """All events, by processes of their own, each a share of the numbers."""
    shares = [(events * one // FILLERS, events * (one + 1) // FILLERS) for one in range(FILLERS)]
    with ThreadPoolExecutor(FILLERS) as threads:
        filling = [
            threads.submit(
                run_apart, "benchmarks.scale:fill", bootstrap=bootstrap, topic=topic, first=first, after=after
            )
            for first, after in shares
        ]
        for one in filling:
            one.result()


def fill(bootstrap: str, topic: str, first: int, after: int) -> dict[str, Any]:
    """Events `first` to before `after`; the first of each request is sent twice."""
    asyncio.run(_append(bootstrap, topic, first, after))
    return {}


async def _append(bootstrap: str, topic: str, first: int, after: int) -> None:
    kafka = topics_on(bootstrap, topic)
    writer = KafkaWriter(kafka, (topic, kafka.quarantine_topic))
    maker = EventMaker()
    await writer.start()
    for start in range(first, after, REQUEST):
        made = list(maker.stream(range(start, min(start + REQUEST, after))))
        await writer.append(
            topic, PRODUCT, [KeyedEvent(maker.identity(number), event) for number, event in (*made, made[0])]
        )
    await writer.stop()
