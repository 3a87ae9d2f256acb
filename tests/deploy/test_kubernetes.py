"""The manifests for Kubernetes: valid under its own schemas, in agreement with each other and the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]  # the library has no types
import pytest
from ruamel.yaml import YAML

from impact_cli.catalogs import load
from impact_cli.settings import PREFIX, Settings
from tests.docs.documents import read
from tests.rig.servers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = REPOSITORY / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.33", "1.37")  # autoscaling/v2 and policy/v1 are in all of them
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text("utf-8")
SECRETS = {
    "impact-shared": {"IMPACT_PSEUDONYM_KEY", "IMPACT_METRICS_TOKEN"},
    "impact-owner": {"IMPACT_DATABASE_URL"},
    "impact-ingest": {"IMPACT_DATABASE_URL"},
    "impact-reports": {"IMPACT_DATABASE_URL", "IMPACT_SESSION_KEY"},
}


def documents(file: Path) -> list[dict[str, Any]]:
    return [one for one in YAML(typ="safe").load_all(file.read_text("utf-8")) if one is not None]


BASE = [
    one
    for file in sorted(FOLDER.glob("base/*.yaml"))
    if file.name != "kustomization.yaml"
    for one in documents(file)
]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in BASE if one["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """The pods of every deployment and job, by name."""
    return {
        name: one["spec"]["template"]["spec"]
        for kind in ("Deployment", "Job")
        for name, one in of_kind(kind).items()
    }


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_under_the_schema_of_kubernetes(version: str) -> None:
    for manifest in BASE:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_are_strict() -> None:
    broken = {**of_kind("Deployment")["impact-reports"]}
    broken["spec"] = {**broken["spec"], "replica": 2}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(broken, VERSIONS[1], strict=True)


def test_every_file_is_part_of_the_kustomization() -> None:
    for folder in ("base", "example"):
        (listed,) = documents(FOLDER / folder / "kustomization.yaml")
        files = {file.name for file in (FOLDER / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert {name for name in listed["resources"] if name.endswith(".yaml")} == files
        assert all((FOLDER / folder / name).exists() for name in listed["resources"])


@pytest.mark.skipif(
    not os.environ.get("CI") and shutil.which("kubectl") is None,
    reason="kubectl is needed: kubernetes-client",
)
def test_the_example_builds_and_is_valid() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on this machine; the files are checked one by one above")
    command = [kubectl, "kustomize", str(FOLDER / "example")]
    built = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    manifests = list(YAML(typ="safe").load_all(built))
    assert len(manifests) == len(BASE) + 1  # the catalog
    for manifest in manifests:
        kubernetes_validate.validate(manifest, VERSIONS[1], strict=True)
        assert manifest["metadata"]["namespace"] == "impact"
    assert "registry.example.org/impact-reports:" in built


def test_the_catalog_of_the_example_has_no_fault() -> None:
    assert set(load(FOLDER / "example" / "catalog")) == {"clinic"}


@pytest.mark.parametrize("name", sorted(pods()))
def test_a_pod_has_little_power_and_bounds_for_its_memory(name: str) -> None:
    pod, one = pods()[name], container(pods()[name])
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}:" in DOCKERFILE
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in one["resources"]["limits"]
    assert set(one["resources"]["requests"]) == {"cpu", "memory"}
    assert re.search(rf"^FROM \S+ AS {one['image'].removeprefix('impact-')}$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(pods()))
def test_a_pod_is_given_settings_that_exist_and_secrets_that_the_page_for_operators_makes(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    given = set(of_kind("ConfigMap")["impact-settings"]["data"])
    told = read("docs/ops.md")
    for source in container(pods()[name])["envFrom"]:
        if "secretRef" in source:
            secret = source["secretRef"]["name"]
            given |= SECRETS[secret]
            assert f"create secret generic {secret}" in told
            assert all(f"--from-literal={key}=" in told for key in SECRETS[secret])
    assert given <= known
    assert "IMPACT_DATABASE_URL" in given


@pytest.mark.parametrize("name", sorted(of_kind("Deployment")))
def test_a_deployment_is_probed_where_it_listens_and_survives_a_drain(name: str) -> None:
    one = container(of_kind("Deployment")[name]["spec"]["template"]["spec"])
    (port,) = one["ports"]
    settings = of_kind("ConfigMap")["impact-settings"]["data"]
    assert str(port["containerPort"]) in (settings["IMPACT_PORT"], settings["IMPACT_METRICS_PORT"])
    paths = {kind: one[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    labels = of_kind("Deployment")[name]["spec"]["template"]["metadata"]["labels"]
    for kind, selector in (("PodDisruptionBudget", "matchLabels"), ("Service", None)):
        spec = of_kind(kind)[name]["spec"]
        assert (spec["selector"][selector] if selector else spec["selector"]).items() <= labels.items()
    policy = of_kind("NetworkPolicy")[name]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert [one["port"] for rule in policy["ingress"] for one in rule["ports"]] == [port["containerPort"]]


def test_the_door_is_scaled_by_its_load_and_nothing_else_decides_how_many_there_are() -> None:
    scaler = of_kind("HorizontalPodAutoscaler")["impact-ingest"]["spec"]
    assert scaler["scaleTargetRef"]["name"] in of_kind("Deployment")
    assert "replicas" not in of_kind("Deployment")["impact-ingest"]["spec"]
    assert scaler["minReplicas"] >= 2


def test_what_is_not_allowed_is_closed() -> None:
    closed = of_kind("NetworkPolicy")["impact-closed"]["spec"]
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(closed)
    assert closed["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "impact"}
