"""The aggregator draining a topic, beside the floor, a naive loop and quixstreams."""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import uuid
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import uvloop
from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry

from benchmarks.events import MASTER, PRODUCT, EventMaker, catalog_text, catalogs_of, clinic_of
from benchmarks.process import ROOT, metered, run_apart
from benchmarks.results import Row
from benchmarks.stages import STAGES
from impact_aggregator.runner import Aggregator
from impact_database import migrate
from impact_database.engine import connect
from impact_eventlog import KeyedEvent
from impact_eventlog.kafka import KafkaReader, KafkaSettings, KafkaWriter, create_topics
from impact_schemas.identity import Identities
from impact_schemas.wire import EVENTS_TOPIC, PARTITIONS, partition_of
from tests.rig.kafka import KafkaServer
from tests.rig.postgres import PostgresServer, fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.plan import Plan

SECTION = "Aggregator"
NOTE = (
    "processes of their own drain a prefilled topic of real Kafka with 12 partitions. Ours reads records of"
    " about 80 events, removes duplicates, and has committed everything to the database at the end; the"
    " metrics are unique patients, and with three also a count and a sum, each in total and by 50 clinics,"
    " at three resolutions. The others read one event a record. The naive loop keeps the same three numbers"
    " a clinic and hour in dicts: no dedup, nothing is kept. quixstreams counts and sums a clinic and hour"
    " in its windows, without unique and without dedup. The floor only fetches our records and decodes the"
    " envelopes. *Database* is the CPU of all of PostgreSQL's processes. *Of it* are the stages of ours with"
    " three metrics into PostgreSQL, measured one after the other on polls of 20,000 events from memory; the"
    " service takes more at once while it is behind, and pays less. Half of the naive loop is less than ours"
    " spends on what the naive loop leaves out: an identity and a digest of each event, a look-up of them in"
    " SQL and a row for each, groups, sketches, and buckets at three resolutions for each partition. While"
    " each event is an object of Python and a row of SQL, half of ours may be saved at best; the target would"
    " need records that are decoded and grouped by compiled code, and identities stored many to a row."
)

SINGLES_TOPIC = "bench.singles"
REQUEST = 1_000  # events an append, as from requests of that size
QUIXSTREAMS = ROOT / ".cache" / "quixstreams"  # its own environment, which `make bench` makes


class Contender(NamedTuple):
    """Who drains, into what."""

    name: str
    metrics: tuple[str, ...] = ()
    database: str = ""


FLOOR = Contender("floor: fetch and decode")
NAIVE = Contender("naive loop: getmany, json, dicts")
QUIX = Contender("quixstreams: count and sum")
ONE, THREE = ("patients",), ("patients", "messages", "cost")
GOAL = Contender("ours, 3 metrics, PostgreSQL", THREE, "postgresql")
OURS = (
    Contender("ours, 1 metric, PostgreSQL", ONE, "postgresql"),
    GOAL,
    Contender("ours, 1 metric, SQLite", ONE, "sqlite"),
    Contender("ours, 3 metrics, SQLite", THREE, "sqlite"),
)


# --- in the measured process --------------------------------------------------------------------------


def drain(bootstrap: str, topic: str, url: str, metrics: Sequence[str], events: int) -> dict[str, Any]:
    """The aggregator as `impact aggregator` runs it, from its start until `events` are counted."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drain(topics_on(bootstrap, topic), topic, url, metrics, events))


async def _drain(
    kafka: KafkaSettings, topic: str, url: str, metrics: Sequence[str], events: int
) -> dict[str, Any]:
    engine = connect(url)
    registry = CollectorRegistry()
    topics = (topic, kafka.quarantine_topic)
    aggregator = Aggregator(
        reader=KafkaReader(kafka, topics, group=f"bench-{uuid.uuid4().hex}"),
        history=KafkaReader(kafka, topics, group=None),
        engine=engine,
        catalogs=catalogs_of(catalog_text(metrics)),
        identities=Identities(MASTER),
        registry=registry,
        quarantine_topic=kafka.quarantine_topic,
        holder="bench",
    )
    gc.collect()
    gc.freeze()  # as the service does at its start, with these thresholds
    gc.set_threshold(100_000, 50, 100)
    with metered() as spent:
        running = asyncio.create_task(aggregator.run())
        # the service has no event for it: its counters are asked
        while _counted(registry) < events and not running.done():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await aggregator.stop()
    await running
    await engine.dispose()
    return {"cpu_us": spent.cpu_s / events * 1e6, "events_per_s": events / spent.wall_s}


def topics_on(bootstrap: str, topic: str) -> KafkaSettings:
    """The broker, with a quarantine topic beside `topic`."""
    return KafkaSettings(bootstrap=bootstrap, quarantine_topic=f"{topic}.quarantine")


def _counted(registry: CollectorRegistry) -> float:
    return registry.get_sample_value("impact_aggregator_events_total", {"outcome": "counted"}) or 0.0


# --- around it ----------------------------------------------------------------------------------------


def run(plan: Plan) -> list[Row]:
    """All rows of the section."""
    results: defaultdict[Contender, list[dict[str, Any]]] = defaultdict(list)
    contenders = [FLOOR, NAIVE, *OURS, *([QUIX] if (QUIXSTREAMS / "installed").exists() else [])]
    with KafkaServer.temporary() as kafka, PostgresServer.temporary() as postgres:
        asyncio.run(fill(kafka.bootstrap, EVENTS_TOPIC, SINGLES_TOPIC, plan.events))
        for _ in range(plan.runs):
            for contender in contenders:
                plan.tell(f"{SECTION}: {contender.name}")
                results[contender].append(_one_run(contender, kafka, postgres, plan.events))
        plan.tell(f"{SECTION}: stages")
        with database("postgresql", postgres) as url:
            parts = run_apart("benchmarks.stages:stages", url=url, metrics=THREE, polls=plan.batches // 2)
    return [*_rows(results), *_stage_rows(parts)]


async def fill(bootstrap: str, topic: str, singles: str, events: int) -> None:
    """The same events twice: in our records, and one a record with the clinic as its key."""
    kafka = topics_on(bootstrap, topic)
    await create_topics(kafka, (topic, kafka.quarantine_topic, singles))
    writer = KafkaWriter(kafka, (topic, kafka.quarantine_topic))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type="lz4", linger_ms=5)
    await writer.start()
    await producer.start()
    maker = EventMaker()
    for start in range(0, events, REQUEST):
        made = list(maker.stream(range(start, min(start + REQUEST, events))))
        await writer.append(
            topic, PRODUCT, [KeyedEvent(maker.identity(number), event) for number, event in made]
        )
        for number, event in made:
            clinic = clinic_of(number).encode()
            await producer.send(
                singles, event, key=clinic, partition=partition_of(clinic.rjust(8), PARTITIONS)
            )
    await producer.stop()
    await writer.stop()


def _one_run(
    contender: Contender, kafka: KafkaServer, postgres: PostgresServer, events: int
) -> dict[str, Any]:
    common: dict[str, Any] = {"bootstrap": kafka.bootstrap, "events": events}
    if contender == FLOOR:
        return run_apart("benchmarks.rivals:floor", topic=EVENTS_TOPIC, **common)
    if contender == NAIVE:
        return run_apart("benchmarks.rivals:naive", topic=SINGLES_TOPIC, **common)
    if contender == QUIX:
        group = f"bench-{uuid.uuid4().hex}"
        drained = "benchmarks.rival_quixstreams:drain"
        return run_apart(
            drained, python=str(QUIXSTREAMS / "bin" / "python"), topic=SINGLES_TOPIC, group=group, **common
        )
    with database(contender.database, postgres) as url:
        before = family_cpu_s(postgres)
        drained = "benchmarks.aggregator:drain"
        result = run_apart(drained, topic=EVENTS_TOPIC, url=url, metrics=contender.metrics, **common)
        result["database_us"] = (family_cpu_s(postgres) - before) / events * 1e6
    return result


@contextmanager
def database(kind: str, postgres: PostgresServer) -> Iterator[str]:
    """The URL of a new database with the schema in it."""
    with tempfile.TemporaryDirectory(prefix="impact-bench-") as folder:
        if kind == "sqlite":
            url = f"sqlite:///{Path(folder, 'metrics.db')}"
            asyncio.run(_migrate(url))
            yield url
            return
        with fresh_database(postgres.url) as url:
            asyncio.run(_migrate(url))
            yield url


async def _migrate(url: str) -> None:
    engine = connect(url)
    await migrate.upgrade(engine)
    await engine.dispose()


def family_cpu_s(postgres: PostgresServer) -> float:
    """CPU seconds of PostgreSQL's processes, those that have ended too."""
    parent = psutil.Process(postgres.process.pid)
    own = parent.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in parent.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return float(total)


# --- rows ---------------------------------------------------------------------------------------------


def median(results: Sequence[dict[str, Any]], name: str) -> float:
    """Of one figure over the runs."""
    return float(statistics.median(result[name] for result in results))


def _rows(results: dict[Contender, list[dict[str, Any]]]) -> Iterator[Row]:
    cpu = {contender: median(runs, "cpu_us") for contender, runs in results.items()}
    for contender, runs in results.items():
        facts = [f"{cpu[contender] / cpu[FLOOR]:.1f} x floor", f"{cpu[contender] / cpu[NAIVE]:.2f} x naive"]
        if contender.database == "postgresql":
            facts.append(f"database {median(runs, 'database_us'):.1f} us")
        spread = [result["cpu_us"] for result in runs]
        facts.append(f"{median(runs, 'events_per_s'):,.0f} events/s, peak {median(runs, 'peak_mib'):.0f} MiB")
        facts.append(f"runs {min(spread):.1f} to {max(spread):.1f}")
        yield Row(SECTION, contender.name, cpu[contender], "us an event", ", ".join(facts))
    to_naive = cpu[GOAL] / cpu[NAIVE]
    yield Row(SECTION, "ours, 3 metrics, PostgreSQL / naive", to_naive, "x", "", "<= 0.5", to_naive <= 0.5)
    if QUIX in cpu:
        to_quix = cpu[GOAL] / cpu[QUIX]
        yield Row(
            SECTION, "ours, 3 metrics, PostgreSQL / quixstreams", to_quix, "x", "", "<= 0.2", to_quix <= 0.2
        )
    else:
        yield Row(
            SECTION, QUIX.name, None, "us an event", f"not installed in {QUIXSTREAMS.relative_to(ROOT)}"
        )
    peak = median(results[GOAL], "peak_mib")
    yield Row(SECTION, "peak memory of ours", peak, "MiB", "no id is kept in memory", "<= 512", peak <= 512)


def _stage_rows(parts: dict[str, Any]) -> Iterator[Row]:
    for stage, what in STAGES.items():
        yield Row(SECTION, f"of it, {stage}", parts[stage], "us an event", what)
