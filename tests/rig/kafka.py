"""A real Apache Kafka broker (KRaft, one node) from its Maven artifacts.

Usable outside pytest:

    with KafkaServer.temporary() as kafka:
        print(kafka.bootstrap)
"""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rig.servers import REPOSITORY, ServerMissingError, ServerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KAFKA_VERSION = "4.1.1"  # the one in kafka-pom.xml
_POM = Path(__file__).parent / "kafka-pom.xml"
_NEEDED = "Java 17 and Maven are needed for Kafka: apt-get install openjdk-17-jre-headless maven"

_SETTINGS = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",  # a missing topic must be seen, not made with the wrong settings
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # after kill -9 the same node is let in again only when its old session has ended (default 9 s)
    "broker.session.timeout.ms": "2500",
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
}
# small and quick to start: the tests' machine has two cores
_JVM = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
_QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


def kafka_jars() -> Path:
    """The folder with Kafka's jars; fetches them with Maven the first time. Raises ServerMissingError."""
    jars = REPOSITORY / ".cache" / f"kafka-{KAFKA_VERSION}"
    if shutil.which("java") is None:
        raise ServerMissingError(_NEEDED)
    if jars.is_dir():
        return jars
    if shutil.which("mvn") is None:
        raise ServerMissingError(_NEEDED)
    jars.parent.mkdir(parents=True, exist_ok=True)
    fetched = Path(tempfile.mkdtemp(prefix="kafka-", dir=jars.parent))
    command = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(_POM),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={fetched}",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if run.returncode != 0:
        shutil.rmtree(fetched)
        raise ServerMissingError(f"Maven could not fetch Kafka {KAFKA_VERSION}: {run.stdout[-2000:]}")
    try:
        fetched.rename(jars)  # atomic: nobody ever sees half of the jars
    except OSError:  # another process was first
        shutil.rmtree(fetched)
    return jars


class KafkaServer:
    """A single-node broker on the loopback address; keeps its port and its data over restarts.

    All methods block: call them in a thread (`asyncio.to_thread`) where an event loop must go on.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._jars = kafka_jars()
        self.port = free_port()
        controller_port = free_port()
        self._settings = {
            **_SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.data_folder),
            **(settings or {}),
        }
        properties = str(folder / "server.properties")
        self.process = ServerProcess(
            "Kafka", [*self._java(), "kafka.Kafka", properties], folder / "server.log"
        )

    @classmethod
    @contextmanager
    def temporary(cls, settings: Mapping[str, str] | None = None) -> Iterator[KafkaServer]:
        """A started broker in a new folder; both are gone at the end."""
        with tempfile.TemporaryDirectory(prefix="impact-kafka-", ignore_cleanup_errors=True) as folder:
            server = cls(Path(folder), settings)
            server.start()
            try:
                yield server
            finally:
                server.kill()

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def data_folder(self) -> Path:
        """Where the partitions' log segments are: `<topic>-<partition>/00000000000000000000.log`."""
        return self._folder / "data"

    def start(self, timeout_s: float = 60) -> None:
        """Returns when the broker answers a metadata request."""
        if not self.data_folder.exists():
            self._format()
        self.process.start(lambda: _lists_a_broker(self.port), timeout_s)

    def stop(self, timeout_s: float = 30) -> None:
        """A controlled shutdown."""
        self.process.stop(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def restart(self) -> None:
        """A controlled shutdown and a start on the same port and data."""
        self.stop()
        self.start()

    def _java(self) -> list[str]:
        return ["java", *_JVM, _QUIET, "-cp", f"{self._jars}/*"]

    def _format(self) -> None:
        properties = self._folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))
        tool = ["kafka.tools.StorageTool", "format", "--cluster-id", "aW1wYWN0LXRlc3RzLTAwMQ"]
        command = [*self._java(), *tool, "--config", str(properties)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"Kafka's storage could not be formatted: {run.stdout}{run.stderr}")


def _lists_a_broker(port: int) -> bool:
    """Whether a metadata request (version 4, no topics) names a broker: an open port is too early."""
    request = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">ib", 0, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(4096)
    except OSError:
        return False
    # size, correlation id, throttle time, number of brokers
    return len(answer) >= 16 and struct.unpack(">iiii", answer[:16])[3] > 0
