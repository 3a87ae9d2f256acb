"""Alive, ready, measured."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from impact_ingest import operations as module
from impact_ingest.app import create_app
from impact_schemas.wire import EVENTS_TOPIC
from tests.ingest.running import (
    IDENTITIES,
    PSEUDONYMS,
    Keys,
    MemoryWriter,
    an_event,
    batch_of,
    parsed_catalogs,
)

if TYPE_CHECKING:
    import pytest
    from fastapi import FastAPI

    from impact_ingest.operations import Check
    from tests.ingest.running import Service


def app_with(**checks: Check) -> FastAPI:
    return create_app(
        catalogs=parsed_catalogs(),
        writer=MemoryWriter(),
        keys=Keys(),
        identities=IDENTITIES,
        pseudonyms=PSEUDONYMS,
        registry=CollectorRegistry(),
        readiness=checks,
    )


async def ready(app: FastAPI) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        return await client.get("/readyz")


async def test_alive_does_not_depend_on_the_log(service: Service, writer: MemoryWriter) -> None:
    writer.failing.add(EVENTS_TOPIC)
    assert (await service.client.get("/healthz")).status_code == 200


async def test_ready_follows_the_log(service: Service, writer: MemoryWriter) -> None:
    assert (await service.client.get("/readyz")).json() == {"ready": True, "checks": {"event log": True}}
    writer.failing.add(EVENTS_TOPIC)
    answer = await service.client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.json()["checks"] == {"event log": False}


async def test_a_check_that_breaks_or_hangs_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks() -> bool:
        raise OSError("no route")

    async def hangs() -> bool:
        await asyncio.sleep(60)
        return True

    async def works() -> bool:
        return True

    monkeypatch.setattr(module, "CHECK_DEADLINE_S", 0.05)
    answer = await ready(app_with(breaks=breaks, hangs=hangs, works=works))
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"breaks": False, "hangs": False, "works": True}
    assert "no route" not in answer.text


async def test_metrics_count_events_by_bounded_outcomes(service: Service) -> None:
    await service.send([*batch_of(3), an_event(data={}), 7, an_event(type="never-heard-of")])
    text = (await service.client.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families["impact_ingest_events"].samples
    outcomes = {
        sample.labels["outcome"]: sample.value for sample in samples if sample.name.endswith("_total")
    }
    assert outcomes == {"accepted": 3, "schema_violation": 1, "invalid_envelope": 1, "unknown_type": 1}
    assert families["impact_ingest_request_seconds"].type == "histogram"
    assert "never-heard-of" not in text
    assert service.metric("impact_ingest_requests_total", status="207") == 1


async def test_metrics_speak_openmetrics_when_asked(service: Service) -> None:
    answer = await service.client.get(
        "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
