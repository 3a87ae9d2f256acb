"""What the door costs: CPU microseconds an event of its process, beside others, on the same Kafka broker.

    python -m benchmarks.ingest [--json FILE] [--quick]

Every contender gets the same events (about 260 bytes), from this process, over 64 connections. Its CPU time
is read from the operating system; a figure is the median of three runs. The floor is what no door can do
without, in a loop in this process: decode, schema, pseudonym, identity, encode, Kafka batch. Only ratios
of one run tell something about the software; the figures themselves tell about the machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jsonschema_rs
import msgspec
import psutil
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from impact_schemas.catalog import parse_catalog
from impact_schemas.identity import Identities, Pseudonyms
from impact_schemas.wire import BATCH_TYPE, partition_of, record_headers
from tests.rig.kafka import KafkaServer
from tests.rig.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PARTITIONS = 12
CONNECTIONS = 64
RUNS = 3
MASTER = "a master key that is only for benchmarks"
PRODUCT = "bench"
TYPE = "bench.message.delivered.v1"
CATALOG = f"""\
apiVersion: impact/v1
product: {PRODUCT}
title: Messages to patients
sources: ["/bench/*"]
events:
  {TYPE}:
    subject: required
    data:
      type: object
      required: [channel, language]
      properties:
        channel: {{enum: [sms, voice]}}
        language: {{type: string}}
        cost: {{type: number, minimum: 0}}
        clinic: {{type: string}}
metrics:
  cost: {{title: Cost, event: {TYPE}, aggregate: sum, of: data.cost, role: business}}
"""
BATCHED = "application/cloudevents-batch+json"


class Load(NamedTuple):
    """Requests of `size` events, `requests` of them."""

    size: int
    requests: int
    connections: int

    @property
    def events(self) -> int:
        return self.size * self.requests


LOADS = [
    Load(1000, 400, 16),
    Load(100, 2_000, 32),
    Load(10, 8_000, CONNECTIONS),
    Load(1, 24_000, CONNECTIONS),
]


def an_event(number: int) -> dict[str, Any]:
    """Event number `number`: 100,000 subjects, 50 clinics, costs with two decimals."""
    minute, second = divmod(number % 3600, 60)
    return {
        "specversion": "1.0",
        "id": f"5b1c7f3e-8d2a-{number:012d}",
        "source": "/bench/worker-7",
        "type": TYPE,
        "time": f"2026-01-31T10:{minute:02d}:{second:02d}.{number % 1000:03d}Z",
        "subject": f"patient-{number * 7919 % 100_000}",
        "data": {
            "channel": "voice" if number % 3 else "sms",
            "language": ("es", "en", "fr", "sw")[number % 4],
            "cost": number % 1000 / 100,
            "clinic": f"clinic-{number % 50}",
        },
    }


def bodies(size: int, count: int) -> list[bytes]:
    """`count` batches of `size` events each, all different."""
    numbers = range(0, size * count, size)
    return [msgspec.json.encode([an_event(first + index) for index in range(size)]) for first in numbers]


# --- the floor ----------------------------------------------------------------------------------------


def floor_us(size: int) -> float:
    """CPU microseconds an event of the work that every door of this kind must do, in batches of `size`."""
    schema = dict(parse_catalog(CATALOG, "bench.yaml").events[TYPE].data)
    is_valid = jsonschema_rs.validator_for(schema).is_valid
    pseudonym = Pseudonyms(MASTER.encode()).of
    identity = Identities(MASTER.encode()).of
    decode = msgspec.json.Decoder(list[dict[str, Any]]).decode
    encode = msgspec.json.Encoder(order="sorted").encode

    async def take(producer: AIOKafkaProducer, body: bytes) -> None:
        partitions: dict[int, list[bytes]] = {}
        for event in decode(body):
            if not is_valid(event["data"]):
                raise ValueError(event)
            event["subject"] = pseudonym(PRODUCT, event["subject"])
            key = identity(PRODUCT, event["source"], event["id"])
            partitions.setdefault(partition_of(key, PARTITIONS), []).append(encode(event))
        for events in partitions.values():
            batch = producer.create_batch()
            headers = record_headers(BATCH_TYPE, PRODUCT, 1)
            batch.append(key=None, timestamp=1, value=b"[" + b",".join(events) + b"]", headers=headers)
            batch.close()

    async def run() -> float:
        # never started: it only makes batches
        producer = AIOKafkaProducer(bootstrap_servers="none:1", enable_idempotence=True, max_batch_size=10**6)
        ready = bodies(size, max(1, 10_000 // size))
        best = []
        for _ in range(5):
            before = time.process_time()
            for body in ready:
                await take(producer, body)
            best.append((time.process_time() - before) / (size * len(ready)))
        await producer.stop()
        return statistics.median(best) * 1e6

    return asyncio.run(run())


# --- contenders ---------------------------------------------------------------------------------------


class Contender(NamedTuple):
    """A server under test."""

    process: psutil.Process
    port: int
    key: str


@contextmanager
def server(command: Sequence[str], port: int, key: str, folder: Path, **settings: str) -> Iterator[Contender]:
    """A process that listens on `port`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMPACT_")}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 (a command of ours)
            command, env=environment | settings, stdout=log, stderr=log
        )
    try:
        _wait_for(port, process, folder)
        yield Contender(psutil.Process(process.pid), port, key)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            asyncio.run(_answers(port))
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "server.log").read_text()) from None
            time.sleep(0.1)
        else:
            return


async def _answers(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


@contextmanager
def service(kafka: KafkaServer) -> Iterator[Contender]:
    """`impact ingest` as it runs in production, with its keys in SQLite."""
    with tempfile.TemporaryDirectory(prefix="impact-bench-") as name:
        folder = Path(name)
        (folder / "catalog").mkdir()
        (folder / "catalog" / "bench.yaml").write_text(CATALOG)
        port = free_port()
        settings = {
            "IMPACT_CATALOG": str(folder / "catalog"),
            "IMPACT_EVENT_LOG": f"kafka://{kafka.bootstrap}",
            "IMPACT_DATABASE_URL": f"sqlite:///{folder}/metrics.db",
            "IMPACT_PSEUDONYM_KEY": MASTER,
            "IMPACT_PORT": str(port),
            "IMPACT_LOG_LEVEL": "error",
        }
        impact = [sys.executable, "-m", "impact_cli"]
        environment = os.environ | settings
        outputs = [
            subprocess.run(  # noqa: S603 (a command of ours)
                [*impact, *arguments], env=environment, check=True, capture_output=True
            ).stdout
            for arguments in (["migrate"], ["keys", "create", PRODUCT, "--json"])
        ]
        key = json.loads(outputs[1])["key"]
        with server([*impact, "ingest"], port, key, folder, **settings) as contender:
            yield contender


@contextmanager
def other(name: str, kafka: KafkaServer) -> Iterator[Contender]:
    """One of `ingest_servers`."""
    port = free_port()
    arguments = [name, str(port), kafka.bootstrap, "bench.naive"]
    command = [sys.executable, "-m", "benchmarks.ingest_servers", *arguments]
    with (
        tempfile.TemporaryDirectory(prefix="impact-bench-") as folder,
        server(command, port, "none", Path(folder)) as contender,
    ):
        yield contender


# --- the client ---------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """Sends requests one after the other; counts answers that are 202."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            if b" 202 " not in head[:20] and not self._done.done():
                self._done.set_exception(RuntimeError(self._answer[:500].decode()))
            self._answer = b""
            self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def send(contender: Contender, load: Load, ready: Sequence[bytes]) -> None:
    """The whole load. Raises RuntimeError for any answer but 202."""
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {contender.key}\r\n"
        f"Content-Type: {BATCHED if contender.key != 'none' else 'application/json'}\r\nContent-Length: "
    ).encode()
    requests = [head + b"%d\r\n\r\n" % len(body) + body for body in ready]
    source = cycle(requests)
    queue = (next(source) for _ in range(load.requests))
    loop = asyncio.get_running_loop()
    ends = [loop.create_future() for _ in range(load.connections)]
    for end in ends:
        await loop.create_connection(partial(_Connection, queue, end), "127.0.0.1", contender.port)
    await asyncio.gather(*ends)


class Measured(NamedTuple):
    """Of one contender under one load, the median run."""

    cpu_us: float  # of the server's process, an event
    events_per_s: float
    rss_mib: float


def measure(contender: Contender, load: Load) -> Measured:
    """Warms up, and then runs three times.

    Long enough that nothing of the start is counted: connections, first batches, caches, specialised code.
    """
    ready = bodies(load.size, min(load.requests, max(20, 2_000 // load.size)))
    asyncio.run(send(contender, load._replace(requests=max(4 * load.connections, load.requests // 4)), ready))
    cpu, rate = [], []
    for _ in range(RUNS):
        before, started = _cpu_s(contender.process), time.perf_counter()
        asyncio.run(send(contender, load, ready))
        rate.append(load.events / (time.perf_counter() - started))
        cpu.append((_cpu_s(contender.process) - before) / load.events * 1e6)
    rss = contender.process.memory_info().rss / 1024**2
    return Measured(statistics.median(cpu), statistics.median(rate), rss)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# --- the table ----------------------------------------------------------------------------------------

NAMES = ["the service", "FastAPI, pydantic, send", "a bare uvicorn route"]


def run(loads: Sequence[Load], only: Callable[[str], bool]) -> list[dict[str, Any]]:
    """All figures: a dict a row."""
    rows: list[dict[str, Any]] = []
    floors = {load.size: floor_us(load.size) for load in loads}
    with KafkaServer.temporary() as kafka, ExitStack() as stack:
        asyncio.run(_make_topic(kafka))
        contenders = {
            NAMES[0]: stack.enter_context(service(kafka)),
            NAMES[1]: stack.enter_context(other("fastapi", kafka)),
            NAMES[2]: stack.enter_context(other("bare", kafka)),
        }
        for load in loads:
            rows.append({"size": load.size, "name": "the floor, in process", "cpu_us": floors[load.size]})
            for name, contender in contenders.items():
                if only(name):
                    measured = measure(contender, load)
                    rows.append({"size": load.size, "name": name, **measured._asdict()})
    for row in rows:
        row["ratio_to_floor"] = row["cpu_us"] / floors[row["size"]]
    return rows


async def _make_topic(kafka: KafkaServer) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("bench.naive", PARTITIONS, 1)])
    await admin.close()


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """For people."""
    shown = Table(title="Ingest: CPU of the server's process, Kafka with acks=all")
    for column in ("events a request", "what", "CPU us an event", "x floor", "events/s", "RSS MiB"):
        shown.add_column(column, justify="left" if column == "what" else "right")
    size = None
    for row in rows:
        if size not in (None, row["size"]):
            shown.add_section()
        first = str(row["size"]) if row["size"] != size else ""
        size = row["size"]
        rest = (f"{row[name]:,.0f}" if name in row else "" for name in ("events_per_s", "rss_mib"))
        shown.add_row(first, row["name"], f"{row['cpu_us']:.1f}", f"{row['ratio_to_floor']:.2f}", *rest)
    return shown


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a tenth of the load")
    parser.add_argument("--ours", action="store_true", help="without the servers to compare with")
    given = parser.parse_args()
    loads = [load._replace(requests=load.requests // 10) for load in LOADS] if given.quick else LOADS
    rows = run(loads, lambda name: name == NAMES[0] or not given.ours)
    Console().print(table(rows))
    if given.json:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "system": platform.platform()}
        given.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
