"""Grafana and Prometheus: what they are given to read exists, and what they ask is a valid question."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from deploy.catalogs import catalogs
from deploy.grafana import mission, overview, panels
from impact_schemas.catalog.families import families
from tests.deploy.composition import compose
from tests.rig.servers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The public names (the product's own metrics have theirs from the catalog).
METRIC_NAMES = {
    "up",
    "impact_metric_state",
    "impact_catalog_info",
    "impact_ingest_events_total",
    "impact_ingest_request_seconds_bucket",
    "impact_aggregator_events_total",
    "impact_aggregator_lag_records",
    "impact_aggregator_freshness_seconds_bucket",
    "impact_aggregator_tick_seconds_bucket",
    "impact_ingest_requests_total",
}
# exported once something has gone wrong
SELDOM_NAMES = {"impact_aggregator_errors_total", "impact_ingest_quarantine_bytes_total"}
BOARDS = sorted(path.stem.removeprefix("mission-") for path in panels.FOLDER.glob("mission-*.json"))
PROMTOOL_MISSING = "promtool is needed: apt-get install prometheus"
GRAFANA = REPOSITORY / "deploy" / "grafana"


def dashboard(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return loaded


def targets(file: Path, data_source: str) -> Iterator[dict[str, Any]]:
    """The queries of all panels of one data source."""
    for panel in dashboard(file)["panels"]:
        if panel.get("datasource", {}).get("uid") == data_source:
            yield from panel["targets"]


def promql(expression: str) -> str:
    """With Grafana's variables replaced, as Grafana does before it asks."""
    return re.sub(r"\$(product|window)\b", "x", expression.replace("$__rate_interval", "1m"))


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text("utf-8"))


def test_the_committed_dashboard_is_the_one_that_the_code_makes() -> None:
    assert overview.FILE.read_text("utf-8") == panels.rendered(overview.overview())


@pytest.mark.parametrize("product", BOARDS)
def test_the_committed_mission_board_is_the_one_of_the_catalog(product: str) -> None:
    """After a change of an example: `.venv/bin/python -m deploy`."""
    catalog = catalogs()[product]
    assert mission.file_of(product).read_text("utf-8") == mission.text_of(catalog)


def test_every_example_has_a_board_of_its_own() -> None:
    assert set(BOARDS) == set(catalogs())
    uids = {dashboard(file)["uid"] for file in panels.FOLDER.glob("*.json")}
    assert len(uids) == len(BOARDS) + 1
    assert max(map(len, uids)) <= 40  # Grafana's limit


@pytest.mark.parametrize("product", BOARDS)
def test_a_board_asks_for_families_that_its_metrics_have(product: str) -> None:
    metrics = catalogs()[product].metrics
    exported = {one.name for name in metrics for one in families(name, metrics)}
    asked = set()
    for target in targets(mission.file_of(product), "impact-prometheus"):
        promql_parser.parse(target["expr"])
        asked |= set(re.findall(r"^\w+", target["expr"]))
    assert asked <= exported
    assert {f"impact_{name}" for name in metrics} <= asked


def test_a_board_writes_shares_as_percentages_and_cuts_nothing_off_that_is_below_0() -> None:
    panels_of = {panel["title"]: panel for panel in dashboard(mission.file_of("caremessage"))["panels"]}
    change, share = (
        panels_of[title]["fieldConfig"]["defaults"] for title in ("Change of HbA1c", "No-show rate")
    )
    assert "min" not in change
    assert share["unit"] == "percentunit"


def test_every_prometheus_query_is_valid_and_asks_for_metrics_that_exist() -> None:
    expressions = [target["expr"] for target in targets(overview.FILE, "impact-prometheus")]
    variables = [variable["query"] for variable in dashboard(overview.FILE)["templating"]["list"]]
    expressions += [query.removeprefix("label_values(").rpartition(",")[0] for query in variables]
    assert len(expressions) > 10
    for expression in expressions:
        promql_parser.parse(promql(expression))
        without_text = re.sub(r'"[^"]*"', '""', expression)
        named = set(re.findall(r"\bimpact_\w+|\bup\b", without_text))
        assert named <= METRIC_NAMES | SELDOM_NAMES, expression


def test_every_data_source_of_the_dashboard_is_provisioned() -> None:
    provisioned = yaml(GRAFANA / "provisioning/datasources/impact.yml")["datasources"]
    assert {source["uid"]: source["type"] for source in provisioned} == {
        source.uid: source.type_val for source in (panels.PROMETHEUS, panels.DATABASE)
    }
    hosts = {re.sub(r"^http://|:\d+$", "", source["url"]) for source in provisioned}
    assert hosts <= set(compose()["services"])


def test_grafana_finds_the_provisioned_files_where_compose_mounts_them() -> None:
    service = compose()["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    inside = yaml(GRAFANA / "provisioning/dashboards/impact.yml")["providers"][0]["options"]["path"]
    assert mounts["./deploy/grafana/dashboards"] == inside
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{inside}/{overview.FILE.name}"


def test_prometheus_scrapes_the_ports_that_our_processes_listen_on() -> None:
    services = compose()["services"]
    jobs = {
        job["job_name"]: job
        for job in yaml(REPOSITORY / "deploy/prometheus/prometheus.yml")["scrape_configs"]
    }
    found = {name: jobs[name]["dns_sd_configs"][0] for name in ("ingest", "aggregator")}
    assert found["ingest"]["names"] == ["ingest"]
    assert str(found["ingest"]["port"]) == services["ingest"]["environment"]["IMPACT_PORT"]
    assert found["aggregator"]["names"] == ["aggregator"]
    assert str(found["aggregator"]["port"]) == services["aggregator"]["environment"]["IMPACT_METRICS_PORT"]


@pytest.mark.skipif(not os.environ.get("CI") and shutil.which("promtool") is None, reason=PROMTOOL_MISSING)
def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, PROMTOOL_MISSING
    configuration = (REPOSITORY / "deploy/prometheus/prometheus.yml").read_text("utf-8")
    token = tmp_path / "metrics_token"
    token.write_text("x")
    checked = tmp_path / "prometheus.yml"
    checked.write_text(configuration.replace("/run/secrets/metrics_token", str(token)))
    subprocess.run([promtool, "check", "config", checked], check=True, capture_output=True, timeout=30)
