"""Each process, started with exactly the command and environment of docker-compose.yml, against a real broker
and a real database: only host names, ports and the catalog's folder are those of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import psutil
import pytest
from sqlalchemy import text

from deploy.grafana import overview
from examples.flights import flights
from impact_database.engine import connect
from tests.conftest import missing
from tests.deploy.composition import compose
from tests.deploy.test_observation import METRIC_NAMES, promql, targets, yaml
from tests.rig.kafka import KafkaServer
from tests.rig.servers import REPOSITORY, ServerMissingError, ServerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from sqlalchemy import URL

EVENTS = 200
PROMETHEUS_MISSING = "Prometheus is needed: apt-get install prometheus"
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text("utf-8")
# a container gets these and nothing else from outside compose
PATH = f"{Path(sys.executable).parent}:{os.defpath}"


@dataclass
class Deployment:
    """The services of compose on this machine."""

    services: dict[str, dict[str, Any]]
    kafka: str
    database: URL
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, ServerProcess] = field(default_factory=dict)

    def environment(self, service: str) -> dict[str, str]:
        """Compose's, with its host names mapped to this machine."""
        here = {
            "kafka:9092": self.kafka,
            "@postgres:5432/impact": f"@{self.database.host}:{self.database.port}/{self.database.database}",
            "/etc/impact/catalog": str(REPOSITORY / "examples" / "flights" / "catalog"),
        }
        values = dict(self.services[service]["environment"])
        for name, value in values.items():
            for there, mapped in here.items():
                value = value.replace(there, mapped)
            values[name] = value
        return {**values, "PATH": PATH, "HOME": "/nonexistent"}

    def run(self, service: str, *command: str) -> str:
        """A one-shot container: its own command, or another as with `docker compose run`."""
        done = subprocess.run(
            command or self.services[service]["command"],
            env=self.environment(service),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, service: str, replica: str, port_setting: str) -> ServerProcess:
        """A long-running container; returns when it is ready as the Dockerfile's health check sees it."""
        environment = self.environment(service)
        self.ports[replica] = free_port()
        environment[port_setting] = str(self.ports[replica])
        health = {**environment, "HEALTH": health_check(service)}
        settings = [f"{name}={value}" for name, value in environment.items()]
        command = ["env", "-i", *settings, *self.services[service]["command"]]
        process = ServerProcess(replica, command, self.folder / f"{replica}.log")
        process.start(lambda: healthy(health), timeout_s=30)
        self.processes[replica] = process
        return process

    def get(self, replica: str, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.ports[replica]}{path}", headers=headers)


def health_check(service: str) -> str:
    """The Python text of the image's HEALTHCHECK."""
    stage = DOCKERFILE.partition(f"FROM runtime AS {service}\n")[2].partition("\nFROM ")[0]
    command = re.search(r'HEALTHCHECK .*?CMD \["python", "-c", \\\n\s*"(.*)"\]', stage)
    assert command is not None, stage
    return command[1]


def healthy(environment: dict[str, str]) -> bool:
    run = [sys.executable, "-c", environment["HEALTH"]]
    return subprocess.run(run, env=environment, capture_output=True, timeout=10, check=False).returncode == 0


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaServer]:
    """A broker of our own: the topics of compose must be new."""
    try:
        with KafkaServer.temporary() as server:
            yield server
    except ServerMissingError as error:
        missing(error)


@pytest.fixture(scope="module")
def deployment(
    secrets: dict[str, str],
    broker: KafkaServer,
    deployed_database: URL,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """Migrated, one ingest, two aggregators, and EVENTS flights sent."""
    deployment = Deployment(
        compose(secrets)["services"],
        broker.bootstrap,
        deployed_database,
        tmp_path_factory.mktemp("deployment"),
    )
    deployment.run("migrate")
    with ExitStack() as stack:
        for service, replica, setting in (
            ("ingest", "ingest", "IMPACT_PORT"),
            ("aggregator", "aggregator-1", "IMPACT_METRICS_PORT"),
            ("aggregator", "aggregator-2", "IMPACT_METRICS_PORT"),
        ):
            process = deployment.start(service, replica, setting)
            stack.callback(process.kill)
        send(deployment)
        yield deployment


def send(deployment: Deployment) -> None:
    created = json.loads(deployment.run("migrate", "impact", "keys", "create", "air_travel", "--json"))
    answer = httpx.post(
        f"http://127.0.0.1:{deployment.ports['ingest']}/v1/events",
        content=msgspec.json.Encoder(decimal_format="number").encode(list(islice(flights.events(), EVENTS))),
        headers={
            "Authorization": f"Bearer {created['key']}",
            "Content-Type": "application/cloudevents-batch+json",
        },
        timeout=30,
    )
    assert answer.status_code == 202, answer.text


async def rows(database: URL, sql: str) -> list[Any]:
    """What the reader's login sees."""
    engine = connect(database.set(username="impact_reader").render_as_string(hide_password=False))
    try:
        async with engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(sql))]
    finally:
        await engine.dispose()


async def test_events_posted_to_ingest_become_numbers_that_analysts_see(deployment: Deployment) -> None:
    async def counted() -> list[Any]:
        return await rows(deployment.database, "SELECT received, counted FROM ledger")

    await wait_for(counted, [(EVENTS, EVENTS)])

    async def flights_scheduled() -> list[Any]:
        sql = (
            "SELECT value, status FROM rolling_metrics"
            " WHERE metric = 'flights_scheduled' AND time_window = 'all' AND segment = '{}'"
        )
        return await rows(deployment.database, sql)

    await wait_for(flights_scheduled, [(EVENTS, "ok")])


def test_migrate_may_be_repeated_beside_the_running_processes(deployment: Deployment) -> None:
    deployment.run("migrate")


def test_business_gauges_need_the_token_and_come_from_one_aggregator_alone(deployment: Deployment) -> None:
    replicas = ("aggregator-1", "aggregator-2")
    name = "impact_flights_scheduled{"

    def exporters() -> list[str]:
        return [replica for replica in replicas if name in deployment.get(replica, "/metrics", **token).text]

    token = {"Authorization": f"Bearer {deployment.environment('aggregator')['IMPACT_METRICS_TOKEN']}"}
    wait_until(lambda: len(exporters()) == 1, "one aggregator exports the business gauges")
    for replica in replicas:
        assert name not in deployment.get(replica, "/metrics").text


def test_every_metric_that_the_dashboard_asks_for_is_exported(deployment: Deployment) -> None:
    wait_until(lambda: METRIC_NAMES - exported(deployment) == {"up"}, "all metrics are exported")


def exported(deployment: Deployment) -> set[str]:
    """The names of all series on all /metrics pages."""
    token = {"Authorization": f"Bearer {deployment.environment('ingest')['IMPACT_METRICS_TOKEN']}"}
    pages = [deployment.get(replica, "/metrics", **token).text for replica in deployment.ports]
    return {name for page in pages for name in re.findall(r"^(\w+)", page, re.MULTILINE)}


@pytest.mark.skipif(
    not os.environ.get("CI") and shutil.which("prometheus") is None, reason=PROMETHEUS_MISSING
)
def test_a_real_prometheus_scrapes_them_and_answers_the_dashboard(deployment: Deployment) -> None:
    assert shutil.which("prometheus") is not None, PROMETHEUS_MISSING
    port = free_port()
    configuration = prometheus_configuration(deployment)
    (deployment.folder / "prometheus.yml").write_text(configuration)
    command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    command.append("--storage.tsdb.path=data")
    url = f"http://127.0.0.1:{port}/api/v1/query"
    process = subprocess.Popen(
        command, cwd=deployment.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        def answers(expression: str) -> int:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(url, params={"query": expression})
                if answer.status_code == 503:
                    return 0
                assert answer.status_code == 200, f"{expression}: {answer.text}"
                return len(answer.json()["data"]["result"])
            return 0

        wait_until(lambda: answers('up{job=~"ingest|aggregator"} == 1') == 3, "all three are scraped")
        for target in targets(overview.FILE, "impact-prometheus"):
            expression = promql(target["expr"]).replace('product="x"', 'product="air_travel"')
            expression = expression.replace('window="x"', 'window="all"').replace("[1m]", "[10s]")
            wait_until(lambda: answers(expression) > 0, expression)  # noqa: B023 (called at once)
    finally:
        process.kill()
        process.wait()


def prometheus_configuration(deployment: Deployment) -> str:
    """The committed one, with its DNS names replaced by this machine's ports, and quicker."""
    configuration = yaml(REPOSITORY / "deploy/prometheus/prometheus.yml")
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    token = deployment.folder / "metrics_token"
    token.write_text(deployment.environment("ingest")["IMPACT_METRICS_TOKEN"])
    for job in configuration["scrape_configs"]:
        if job.pop("dns_sd_configs", None):
            job["authorization"] = {"credentials_file": str(token)}
            ports = [
                port for replica, port in deployment.ports.items() if replica.startswith(job["job_name"])
            ]
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        else:
            job["static_configs"] = []
    return json.dumps(configuration)  # JSON is YAML


async def wait_for(
    read: Callable[[], Awaitable[list[Any]]], wanted: list[Any], timeout_s: float = 30
) -> None:
    deadline = time.monotonic() + timeout_s
    while (found := await read()) != wanted:
        assert time.monotonic() < deadline, f"wanted {wanted}, still {found} after {timeout_s:g} s"
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("replica", ["ingest", "aggregator-1", "aggregator-2"])
def test_a_process_ends_in_good_order_soon_after_sigterm(deployment: Deployment, replica: str) -> None:
    """Last in the file: it ends what the tests above use."""
    process = psutil.Process(deployment.processes[replica].pid)
    process.terminate()
    assert process.wait(timeout=20) == 0, (deployment.folder / f"{replica}.log").read_text()[-2000:]
