"""The service as it is run: `impact up` alone, or doors and aggregators over Kafka and PostgreSQL.

On Kafka every process reaches broker and database through proxies of its own, which faults can upset.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from impact_eventlog.kafka import KafkaReader, KafkaSettings
from proof.proxy import NONE, Proxy
from tests.end_to_end.services import IMPACT, Process, Service
from tests.rig.kafka import KafkaServer
from tests.rig.postgres import PostgresServer, fresh_database
from tests.rig.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

CATALOGS = {"proof": Path(__file__).parent / "catalog.yaml", "flood": Path(__file__).parent / "flood.yaml"}
DOORS = ("door-1", "door-2")
AGGREGATORS = ("aggregator-1", "aggregator-2")
PARTITIONS = 6
_MASTER_KEY = "0123456789abcdef0123456789abcdef"
Place = tuple[str, int]  # topic, partition


class Topology(Protocol):
    """What faults and checks need of a running service."""

    doors: list[Process]
    aggregators: list[Process]
    folder: Path

    @property
    def key(self) -> str: ...

    def rows(self, sql: str) -> list[tuple[Any, ...]]: ...

    def log_ends(self) -> Mapping[Place, int]: ...

    def events_in_log(self, product: str) -> int: ...

    def peak_memory_mib(self) -> Mapping[str, float]: ...

    def state(self) -> str: ...


class EmbeddedTopology(Service):
    """`impact up`: one process, two SQLite files."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.data = folder / "data"
        super().__init__(folder, f"sqlite:///{self.data / 'metrics.db'}")
        self.catalog = _catalog_in(folder / "catalog")
        port = free_port()
        command = ["up", "--catalog", str(self.catalog), "--data", str(self.data), "--port", str(port)]
        self.door = Process("up", command, port, folder, **settings)
        self.doors = [self.door]
        self.aggregators = [self.door]

    def __enter__(self) -> Self:
        with _ended_if_it_fails(self):
            self.door.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.door.stop(signal.SIGKILL)

    @property
    def key(self) -> str:
        """Of the product; the file is there from the first start on."""
        if not self.key_of:
            self.key_of = json.loads((self.data / "keys.json").read_text())
        return self.key_of["proof"]

    def log_ends(self) -> Mapping[Place, int]:
        """Of each partition with records: the offset behind the last one."""
        return ends_of(self.data / "events.db")

    def events_in_log(self, product: str) -> int:
        """Of both topics, copies too."""
        with closing(_reading(self.data / "events.db")) as database:
            rows = database.execute("SELECT payload FROM record WHERE product = ?", (product,))
            return sum(len(json.loads(payload)) for (payload,) in rows)

    def peak_memory_mib(self) -> Mapping[str, float]:
        """Door and aggregator are one process here."""
        return {"up": peak_memory_mib(self.door)}

    def state(self) -> str:
        """The last words of the process."""
        return _last_words(self.folder, ["up"])


def ends_of(events_db: Path) -> dict[Place, int]:
    """Of each partition with records in the file: the offset behind the last one."""
    with closing(_reading(events_db)) as database:
        sql = "SELECT topic, partition, MAX(offset) + 1 FROM record GROUP BY 1, 2"
        return {(topic, partition): end for topic, partition, end in database.execute(sql)}


def _reading(events_db: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{events_db}?mode=ro", uri=True, timeout=5)


class Servers:
    """Kafka and PostgreSQL, each behind one proxy for every process."""

    def __init__(
        self, folder: Path, kafka_settings: Mapping[str, str], postgres_settings: Mapping[str, str]
    ) -> None:
        processes = (*DOORS, *AGGREGATORS)
        inside = {name: free_port() for name in processes}
        ports = {name: free_port() for name in processes}
        self.kafka = _kafka_behind(folder / "kafka", inside, ports, kafka_settings)
        postgres_folder = folder / "postgres"
        postgres_folder.mkdir(parents=True)
        self.postgres = PostgresServer(postgres_folder, postgres_settings)
        self.to_kafka = {name: Proxy(ports[name], inside[name]) for name in processes}
        self.to_postgres = {name: Proxy(free_port(), self.postgres.port) for name in processes}

    @classmethod
    @contextmanager
    def running(
        cls,
        folder: Path,
        kafka_settings: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> Iterator[Servers]:
        """Started; gone at the end."""
        servers = cls(folder, kafka_settings or {}, postgres_settings or {})
        with ExitStack() as stack:
            with ThreadPoolExecutor(2) as pool:
                for started in [pool.submit(servers.kafka.start), pool.submit(servers.postgres.start)]:
                    started.result()
            stack.callback(servers.kafka.kill)
            stack.callback(servers.postgres.kill)
            for proxy in (*servers.to_kafka.values(), *servers.to_postgres.values()):
                proxy.start()
                stack.callback(proxy.stop)
            yield servers

    def heal(self) -> None:
        """After a round that may have ended within its fault: nothing of it is left for the next one."""
        for proxy in (*self.to_kafka.values(), *self.to_postgres.values()):
            proxy.make(NONE)
        for server in (self.kafka, self.postgres):
            server.kill()
            server.start()


def _kafka_behind(
    folder: Path, inside: Mapping[str, int], outside: Mapping[str, int], settings: Mapping[str, str]
) -> KafkaServer:
    """A broker with a listener for each process, which tells its clients the port of their proxy."""
    folder.mkdir(parents=True)
    server = KafkaServer(folder)
    listeners = [server._settings["listeners"]]
    advertised = [server._settings["advertised.listeners"]]
    protocols = [server._settings["listener.security.protocol.map"]]
    for name in inside:
        listener = name.upper().replace("-", "_")
        listeners.append(f"{listener}://127.0.0.1:{inside[name]}")
        advertised.append(f"{listener}://127.0.0.1:{outside[name]}")
        protocols.append(f"{listener}:PLAINTEXT")
    server._settings |= {
        "listeners": ",".join(listeners),
        "advertised.listeners": ",".join(advertised),
        "listener.security.protocol.map": ",".join(protocols),
        "inter.broker.listener.name": "PLAINTEXT",
        **settings,
    }
    return server


class ProductionTopology(Service):
    """Two doors and two aggregators on `servers`, with a database and topics of their own."""

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        database_url: str,
        layer: Callable[[str], Mapping[str, str]] = lambda _: {},
    ) -> None:
        super().__init__(folder, database_url)
        self.servers = servers
        self._layer = layer
        self.topic = f"events.{time.time_ns()}"
        self._settings = {
            "IMPACT_PSEUDONYM_KEY": _MASTER_KEY,
            "IMPACT_KAFKA_PARTITIONS": str(PARTITIONS),
            "IMPACT_KAFKA_TOPIC": self.topic,
            "IMPACT_KAFKA_QUARANTINE_TOPIC": f"{self.topic}.quarantine",
            "IMPACT_KAFKA_GROUP": f"{self.topic}.group",
            "IMPACT_KAFKA_REPLICATION_FACTOR": "1",
            "IMPACT_LOG_LEVEL": "info",
        }
        self.doors = [self._process(name, "ingest", "IMPACT_PORT") for name in DOORS]
        self.aggregators = [self._process(name, "aggregator", "IMPACT_METRICS_PORT") for name in AGGREGATORS]
        self.door = self.doors[0]

    def __enter__(self) -> Self:
        self.run("migrate")
        for product in CATALOGS:
            self.key_of[product] = json.loads(self.run("keys", "create", product, "--json"))["key"]
        with _ended_if_it_fails(self):
            start_all([*self.doors, *self.aggregators])
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.doors, *self.aggregators):
            process.stop(signal.SIGKILL)

    @property
    def key(self) -> str:
        """Of the product."""
        return self.key_of["proof"]

    def settings_of(self, name: str) -> dict[str, str]:
        """The environment of the process: its own proxies, its own catalog folder."""
        through = self.servers.to_postgres[name].port
        url = make_url(self.database_url).set(drivername="postgresql", port=through)
        return {
            **self._settings,
            "IMPACT_CATALOG": str(_catalog_in(self.catalog_of(name))),
            "IMPACT_EVENT_LOG": f"kafka://127.0.0.1:{self.servers.to_kafka[name].port}",
            "IMPACT_DATABASE_URL": url.render_as_string(hide_password=False),
            **self._layer(name),
        }

    def catalog_of(self, name: str) -> Path:
        """The folder of the process's catalog files."""
        return self.folder / f"catalog of {name}"

    def run(self, *command: str) -> str:
        """One command of `impact`, past the proxies."""
        done = subprocess.run(
            [*IMPACT, *command],
            cwd=self.folder,
            env={**os.environ, **self.direct_settings()},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"impact {' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stdout

    def direct_settings(self) -> dict[str, str]:
        """The environment of a process that is not part of the fault."""
        return {
            **self._settings,
            "IMPACT_CATALOG": str(_catalog_in(self.folder / "catalog")),
            "IMPACT_EVENT_LOG": f"kafka://{self.servers.kafka.bootstrap}",
            "IMPACT_DATABASE_URL": self.database_url,
        }

    def one_more_aggregator(self, name: str) -> Process:
        """Not started; past the proxies."""
        port = free_port()
        process = Process(
            name, ["aggregator"], port, self.folder, IMPACT_METRICS_PORT=str(port), **self.direct_settings()
        )
        self.aggregators.append(process)
        return process

    def log_ends(self) -> Mapping[Place, int]:
        """Of each partition: the offset behind the last record."""
        return asyncio.run(self._log_ends())

    async def _log_ends(self) -> dict[Place, int]:
        async with self._reader() as reader:
            ends = await reader.end_offsets(list(reader.assignment()))
            return {(partition.topic, partition.number): end for partition, end in ends.items()}

    def events_in_log(self, product: str) -> int:
        """Of both topics, copies too."""
        return asyncio.run(self._events_in_log(product))

    async def _events_in_log(self, product: str) -> int:
        events = 0
        async with self._reader() as reader, asyncio.timeout(120):
            left = {
                partition: end
                for partition, end in (await reader.end_offsets(list(reader.assignment()))).items()
                if end
            }
            for partition in left:
                reader.seek(partition, 0)
            while left:
                for record in await reader.poll(1.0):
                    events += len(json.loads(record.payload)) if record.product == product else 0
                    if record.offset + 1 == left.get(record.partition):
                        del left[record.partition]
        return events

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[KafkaReader]:
        settings = KafkaSettings(self.servers.kafka.bootstrap)
        reader = KafkaReader(settings, [self.topic, f"{self.topic}.quarantine"], group=None)
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()

    def peak_memory_mib(self) -> Mapping[str, float]:
        """By process."""
        return {one.name: peak_memory_mib(one) for one in (*self.doors, *self.aggregators)}

    def state(self) -> str:
        """The last words of each process."""
        return _last_words(self.folder, [one.name for one in (*self.doors, *self.aggregators)])

    def _process(self, name: str, command: str, port_setting: str) -> Process:
        port = free_port()
        return Process(
            name, [command], port, self.folder, **{port_setting: str(port)}, **self.settings_of(name)
        )


@contextmanager
def production(
    folder: Path, servers: Servers, layer: Callable[[str], Mapping[str, str]] = lambda _: {}
) -> Iterator[ProductionTopology]:
    """A new database and new topics, and the processes not yet started.

    `layer` gives what a process has in its environment beside its settings.
    """
    database = fresh_database(servers.postgres.url)
    try:
        yield ProductionTopology(folder, servers, database.__enter__(), layer)
    finally:
        # a server that has just been hurt may not drop it: then it goes with the server
        with suppress(OSError, DBAPIError):
            database.__exit__(None, None, None)


@contextmanager
def _ended_if_it_fails(service: EmbeddedTopology | ProductionTopology) -> Iterator[None]:
    """A start that fails or is interrupted leaves no process behind."""
    try:
        yield
    except BaseException:
        service.__exit__()
        raise


def start_all(processes: list[Process]) -> None:
    """Side by side; returns when all are ready."""
    with ThreadPoolExecutor(len(processes)) as pool:
        for started in [pool.submit(process.start) for process in processes]:
            started.result()


def peak_memory_mib(process: Process) -> float:
    """The most that the running process ever held; 0 if it does not run."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (OSError, AssertionError):
        return 0.0
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0
    )


def _catalog_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for product, file in CATALOGS.items():
        if not (folder / f"{product}.yaml").exists():
            shutil.copy(file, folder / f"{product}.yaml")
    return folder


def _last_words(folder: Path, names: list[str]) -> str:
    ends = []
    for name in names:
        log = folder / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        ends.append(f"{name}: {lines[-1][:300] if lines else 'said nothing'}")
    return "; ".join(ends)
