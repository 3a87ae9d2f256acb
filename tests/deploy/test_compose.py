"""docker-compose.yml and the Dockerfile against the rules that Docker and our own parts set.

compose-spec.json is the Compose Specification's own schema (as in compose-go 2.16, Apache-2.0).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from impact_cli.settings import PREFIX, Settings
from tests.deploy.composition import compose, required_variables
from tests.rig.kafka import KAFKA_VERSION
from tests.rig.servers import REPOSITORY

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
OURS = ("migrate", "ingest", "aggregator", "reports")
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text("utf-8")


def test_the_file_keeps_to_the_compose_specification() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text("utf-8"))
    faults = [str(fault) for fault in jsonschema_rs.validator_for(schema).iter_errors(compose())]
    assert faults == []


def test_new_env_makes_every_variable_that_is_required(secrets: dict[str, str]) -> None:
    assert set(secrets) == required_variables()
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets.values())
    assert len(set(secrets.values())) == len(secrets)


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in OURS])
def test_an_image_from_outside_is_pinned_to_a_full_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", SERVICES[name]["image"])


def test_the_kafka_of_the_tests_is_the_one_deployed() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.parametrize("name", OURS)
def test_our_processes_are_built_from_a_target_that_exists_and_run_with_little_power(name: str) -> None:
    service = SERVICES[name]
    assert re.search(rf"^FROM \S+ AS {service['build']['target']}$", DOCKERFILE, re.MULTILINE)
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OURS)
def test_our_processes_are_given_only_settings_that_they_know(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert set(SERVICES[name]["environment"]) <= known


def test_the_start_waits_for_what_each_process_needs() -> None:
    def waits(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in SERVICES[name]["depends_on"].items()}

    assert waits("migrate") == {"kafka": "service_healthy", "postgres": "service_healthy"}
    for name in ("ingest", "aggregator", "reports"):
        assert waits(name) == {"migrate": "service_completed_successfully"}
    assert waits("prometheus") == {"ingest": "service_healthy", "aggregator": "service_healthy"}
    for name, service in SERVICES.items():
        # ours have theirs in the Dockerfile
        assert name in OURS or service["healthcheck"]["test"], name
    assert DOCKERFILE.count("\nHEALTHCHECK ") == 3


def test_several_aggregators_can_run_side_by_side() -> None:
    aggregator = SERVICES["aggregator"]
    assert "ports" not in aggregator
    assert "container_name" not in aggregator


def test_everything_mounted_from_the_repository_is_there() -> None:
    mounts = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    sources = [mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert sources
    assert [source for source in sources if not (REPOSITORY / source).exists()] == []


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
