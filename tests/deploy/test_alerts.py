"""Alerts: each fires when it should and only then, tells what people need, and is in the runbook."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from ruamel.yaml import YAML

from deploy.catalogs import catalogs
from deploy.prometheus import product_alerts
from impact_schemas.catalog import parse_catalog
from tests.cli.service import Service, wait_until
from tests.docs.documents import read, table
from tests.rig.servers import REPOSITORY, ServerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
OPERATIONS = PROMETHEUS / "rules" / "operations.yml"
OPERATIONS_TEST = PROMETHEUS / "operations_test.yml"
PRODUCTS = sorted(path.stem for path in PROMETHEUS.glob("rules/*.yml") if path != OPERATIONS)
TOLD = {"summary", "since", "certainty", "meaning", "concerns", "next_step", "runbook"}
MISSING = "Prometheus is needed: apt-get install prometheus"
needs_prometheus = pytest.mark.skipif(
    not os.environ.get("CI") and shutil.which("promtool") is None, reason=MISSING
)

CATALOG = """\
apiVersion: impact/v1
product: clinic
title: Clinic
mission: {statement: Nobody waits in vain., beneficiaries: patients}
sources: ["/clinic/*"]
events:
  clinic.visit.v1: {data: {type: object, properties: {kept: {type: boolean}}}}
metrics:
  visits: {title: Visits, event: clinic.visit.v1, aggregate: count, role: impact, cadence: 1d}
  missed:
    title: Missed visits
    event: clinic.visit.v1
    where: {data.kept: false}
    aggregate: count
    role: guardrail
    direction: down
    windows: [all]
    limits: {max: 1}
    evidence: {level: counted, owner: front desk}
"""


def groups(path: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = YAML(typ="safe").load(path.read_text("utf-8"))["groups"]
    return loaded


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in groups(path) for rule in group["rules"]]


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_committed_rules_are_those_of_the_catalog(product: str) -> None:
    """After a change of an example: `.venv/bin/python -m deploy`."""
    committed = (PROMETHEUS / "rules" / f"{product}.yml").read_text("utf-8")
    assert committed == product_alerts.rendered(catalogs()[product])


def test_every_example_has_its_rules() -> None:
    files = {path.stem for path in PROMETHEUS.glob("rules/*.yml")}
    assert files == {*catalogs(), OPERATIONS.stem}


def test_each_rule_says_all_that_its_readers_need_and_has_its_line_in_the_runbook() -> None:
    by_audience: dict[str, set[str]] = {"product": set(), "operations": set()}
    for file in sorted(PROMETHEUS.glob("rules/*.yml")):
        for rule in rules(file):
            audience = rule["labels"]["audience"]
            by_audience[audience].add(rule["alert"])
            assert rule["annotations"]["runbook"].endswith(f" {rule['alert']}")
            if audience == "product":
                assert set(rule["annotations"]) == TOLD
                assert all(rule["annotations"].values())
            else:
                assert rule["labels"]["severity"] in ("page", "ticket")
    for audience, alerts in by_audience.items():
        heading = "### Alerts of products" if audience == "product" else "### Alerts of operations"
        assert {row[0].strip("`") for row in table(read("docs/ops.md"), heading)} == alerts


def test_each_alert_of_operations_is_seen_firing_and_seen_quiet() -> None:
    tests = YAML(typ="safe").load(OPERATIONS_TEST.read_text("utf-8"))["tests"]
    quiet = {alert["alertname"] for test in tests for alert in test.get("alert_rule_test", ())}
    asked = " ".join(query["expr"] for test in tests for query in test.get("promql_expr_test", ()))
    firing = set(re.findall(r'alertname="(\w+)"', asked))
    assert quiet == firing == {rule["alert"] for rule in rules(OPERATIONS)}


@needs_prometheus
def test_alerts_of_operations_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", str(OPERATIONS_TEST))


@needs_prometheus
def test_alerts_of_every_example_fire_while_their_series_are_1(tmp_path: Path) -> None:
    tests = []
    for product, catalog in catalogs().items():
        alerts = list(product_alerts.alerts(catalog))
        firing = f'ALERTS{{alertstate="firing", audience="product", product="{product}"}}'
        by_value: dict[int, list[dict[str, Any]]] = {0: [], 1: [{"labels": "{}", "value": len(alerts)}]}
        for value, expected in by_value.items():
            series = [{"series": alert.series, "values": f"{value}x90"} for alert in alerts]
            asked = {"expr": f"count({firing})", "eval_time": "80m", "exp_samples": expected}
            tests.append({"interval": "1m", "input_series": series, "promql_expr_test": [asked]})
        assert len({alert.series for alert in alerts}) == len(alerts)
    file = tmp_path / "products_test.yml"
    files = [str(PROMETHEUS / "rules" / f"{product}.yml") for product in catalogs()]
    with file.open("w", encoding="utf-8") as out:
        YAML(typ="safe").dump({"rule_files": files, "evaluation_interval": "20m", "tests": tests}, out)
    promtool("test", "rules", str(file))


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    assert program is not None, MISSING
    run = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=180, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_prometheus
def test_a_real_prometheus_scrapes_a_real_service_and_its_alerts_fire(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "clinic.yaml").write_text(CATALOG)
    service = Service(tmp_path)
    service.start()
    try:
        long_ago = datetime.now(UTC) - timedelta(days=3)
        assert service.post([visit(number, long_ago) for number in range(3)]).status_code == 202
        with prometheus(tmp_path, service.port) as url:
            wait_until(lambda: set(firing(url)) >= {"GuardrailBroken", "Silence"}, "both alerts fire")
            found = firing(url)
            loaded = httpx.get(f"{url}/api/v1/rules", timeout=5).json()["data"]["groups"]
    finally:
        service.stop(signal.SIGTERM)
    broken = found["GuardrailBroken"]
    assert broken["labels"]["rule"] == "missed_max"
    assert broken["labels"]["audience"] == "product"
    assert broken["annotations"]["summary"] == "Clinic: Missed visits is beyond its bound (missed_max)"
    assert broken["annotations"]["since"] == "not seen fine in the last 30 days"
    assert broken["annotations"]["concerns"] == "owner: front desk; in the end: patients"
    assert "rule = 'missed_max'" in broken["annotations"]["next_step"]
    assert {rule["health"] for group in loaded for rule in group["rules"]} == {"ok"}


def visit(number: int, at: datetime) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"v{number}",
        "source": "/clinic/north",
        "type": "clinic.visit.v1",
        "time": at.isoformat(),
        "data": {"kept": False},
    }


@contextmanager
def prometheus(folder: Path, scraped_port: int) -> Iterator[str]:
    """The URL of a Prometheus that scrapes this port, with all rules, which do not wait before they fire."""
    product = product_alerts.rendered(parse_catalog(CATALOG, "clinic.yaml"))
    for name, text in (("product", product), ("operations", OPERATIONS.read_text("utf-8"))):
        (folder / f"{name}.yml").write_text(re.sub(r"for: \w+", "for: 0s", text))
    port = free_port()
    scraped = f"[{{targets: ['127.0.0.1:{scraped_port}']}}]"
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{folder}/product.yml, {folder}/operations.yml]\n"
        f"scrape_configs: [{{job_name: impact, static_configs: {scraped}}}]\n"
    )
    program = shutil.which("prometheus")
    assert program is not None, MISSING
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    server = ServerProcess("Prometheus", command, folder / "prometheus.log")
    url = f"http://127.0.0.1:{port}"
    server.start(lambda: _is_ready(url), timeout_s=30)
    try:
        yield url
    finally:
        server.stop(signal.SIGTERM, timeout_s=10)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def firing(url: str) -> dict[str, dict[str, Any]]:
    found = httpx.get(f"{url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
    return {one["labels"]["alertname"]: one for one in found if one["state"] == "firing"}
