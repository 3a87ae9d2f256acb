"""The product as its users run it: processes of the command `impact`, driven from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import msgspec
from sqlalchemy import text

from examples.flights import flights
from impact_database.engine import connect, read_only
from tests.rig.servers import REPOSITORY, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.rig.kafka import KafkaServer

FLIGHTS_CATALOG = REPOSITORY / "examples" / "flights" / "catalog"
IMPACT = (sys.executable, "-m", "impact_cli")
PATIENCE_S = 240.0  # two busy cores

_encode = msgspec.json.Encoder(decimal_format="number").encode


def flight_events(folder: Path) -> Path:
    """All flights as NDJSON; made once for a folder."""
    path = folder / "flights.ndjson"
    if not path.exists():
        with path.open("wb") as file:
            file.writelines(_encode(event) + b"\n" for event in flights.events())
    return path


def wait_until(
    look: Callable[[], object], what: str, timeout_s: float = PATIENCE_S, pause_s: float = 0.1
) -> None:
    """Returns when `look` finds something true."""
    deadline = time.monotonic() + timeout_s
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(pause_s)


class Process:
    """One process of `impact`, which can be killed and started again."""

    def __init__(self, name: str, command: Sequence[str], port: int, folder: Path, **settings: str) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self.program: Sequence[str] = IMPACT
        self._command = command
        self._folder = folder
        clean = {key: value for key, value in os.environ.items() if not key.startswith("IMPACT_")}
        self._environment = {**clean, "PYTHONPATH": str(REPOSITORY), **settings}
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it is ready."""
        self.spawn()
        wait_until(self.is_ready, f"{self.name} is ready")

    def spawn(self) -> None:
        """Starts it and returns at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, *self._command],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def wait(self, timeout_s: float) -> int:
        """Until it ends by itself; the exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it; the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(30)
        self._process = None
        return code

    def metrics(self) -> str:
        """What Prometheus would scrape."""
        return httpx.get(f"{self.url}/metrics", timeout=5, verify=False).text

    def peak_memory_bytes(self) -> int:
        """The most that the process ever held."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    def has_died(self) -> bool:
        """Whether it was ended by kill -9."""
        return self._process is not None and self._process.poll() == -signal.SIGKILL

    def is_ready(self) -> bool:
        """Whether it says so, or was killed. Raises RuntimeError if it has ended in another way."""
        assert self._process is not None
        if self.has_died():
            return True
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self._log.read_text()[-3000:]}")
        try:
            # no TLS here: a context for it takes a third of a second of the processor
            return httpx.get(f"{self.url}/readyz", timeout=5, verify=False).status_code == 200
        except httpx.TransportError:
            return False


class Service:
    """What both topologies share: sending, and looking at the database."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.door: Process
        self.key_of: dict[str, str] = {}

    def send(self, file: Path, product: str = "air_travel", *, refused: int = 0) -> None:
        """`impact send`; so many events have to be refused."""
        done = subprocess.run(
            [*IMPACT, "send", str(file), "--url", self.door.url, "--key", self.key_of[product], "--json"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == bool(refused), done.stdout + done.stderr
        assert json.loads(done.stdout)["rejected"] == refused

    def numbers(self, sql: str) -> list[tuple[Any, ...]]:
        """A query's rows, comparable between databases: sorted, numbers as doubles to 12 digits."""
        return sorted(
            (
                tuple(
                    float(f"{field:.12g}") if isinstance(field, Decimal | float) else field for field in row
                )
                for row in self.rows(sql)
            ),
            key=str,
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """A query's rows; none while the schema is not there yet."""
        return asyncio.run(self._rows(sql))

    async def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        engine = connect(self.database_url)
        try:
            async with read_only(engine).connect() as connection:
                return [tuple(row) for row in await connection.execute(text(sql))]
        finally:
            await engine.dispose()

    def wait_until_counted(self, product: str, events: int) -> None:
        """Until so many events of the product have been read from the log, and the tick has followed."""

        def received() -> bool:
            ledger = dict(self.rows("SELECT product, received FROM ledger"))
            return int(ledger.get(product, 0)) >= events

        wait_until(received, f"{events} events of {product} are counted")
        self.wait_until_rolled_up()

    def wait_until_rolled_up(self) -> None:
        """Until no change waits for the tick."""
        wait_until(
            lambda: self.rows("SELECT COUNT(*) FROM changed_series") == [(0,)], "the tick has followed"
        )


class Embedded(Service):
    """`impact up`."""

    topics = ("--topic", "impact.events.v1", "--quarantine-topic", "impact.quarantine.v1")

    def __init__(self, folder: Path, catalog: Path) -> None:
        self.data = folder / "data"
        super().__init__(folder, f"sqlite:///{self.data / 'metrics.db'}")
        port = free_port()
        command = ["up", "--catalog", str(catalog), "--data", str(self.data), "--port", str(port)]
        self.door = Process("up", command, port, folder)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.door.stop()

    def start(self) -> None:
        """Starts it, or starts it again."""
        self.door.start()
        self.key_of = json.loads((self.data / "keys.json").read_text())


class Production(Service):
    """Migrate, ingest and aggregators over Kafka and PostgreSQL."""

    def __init__(
        self,
        folder: Path,
        kafka: KafkaServer,
        database_url: str,
        catalog: Path,
        *,
        key: str = "0123456789abcdef0123456789abcdef",
        partitions: int = 12,
    ) -> None:
        super().__init__(folder, database_url)
        self._catalog = catalog
        self.topic = topic = f"events.{time.time_ns()}"
        self._settings = {
            "IMPACT_CATALOG": str(catalog),
            "IMPACT_EVENT_LOG": f"kafka://{kafka.bootstrap}",
            "IMPACT_DATABASE_URL": database_url,
            "IMPACT_PSEUDONYM_KEY": key,
            "IMPACT_KAFKA_PARTITIONS": str(partitions),
            "IMPACT_KAFKA_TOPIC": topic,
            "IMPACT_KAFKA_QUARANTINE_TOPIC": f"{topic}.quarantine",
            "IMPACT_KAFKA_GROUP": f"{topic}.group",
            "IMPACT_KAFKA_REPLICATION_FACTOR": "1",
        }
        self.aggregators: list[Process] = []

    def __enter__(self) -> Self:
        self.run("migrate")
        for product in (path.stem for path in self._catalog.glob("*.yaml")):
            created = json.loads(self.run("keys", "create", product, "--json"))
            self.key_of[product] = created["key"]
        port = free_port()
        self.door = Process("ingest", ["ingest"], port, self.folder, IMPACT_PORT=str(port), **self._settings)
        self.door.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.door, *self.aggregators):
            process.stop(signal.SIGKILL)

    def run(self, *command: str, timeout_s: float = 60) -> str:
        """One command of `impact` with the production settings."""
        done = subprocess.run(
            [*IMPACT, *command],
            cwd=self.folder,
            env={**os.environ, **self._settings},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def drop_schema(self) -> None:
        """Loses all that was counted, and the keys."""
        asyncio.run(self._drop_schema())

    async def _drop_schema(self) -> None:
        engine = connect(self.database_url)
        async with engine.begin() as connection:
            await connection.execute(text("DROP SCHEMA impact CASCADE"))
        await engine.dispose()

    def start_aggregator(self, name: str) -> Process:
        """One more aggregator of the group."""
        port = free_port()
        process = Process(
            name, ["aggregator"], port, self.folder, IMPACT_METRICS_PORT=str(port), **self._settings
        )
        self.aggregators.append(process)
        process.start()
        return process


__all__ = ["FLIGHTS_CATALOG", "Embedded", "Process", "Production", "flight_events", "wait_until"]
