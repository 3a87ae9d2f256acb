"""The OpenAPI description is true: what the running door answers fits what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from impact_eventlog.ports import RecordTooLarge
from impact_schemas.wire import EVENTS_TOPIC
from tests.ingest.running import an_event, batch_of

if TYPE_CHECKING:
    import httpx

    from tests.ingest.running import MemoryWriter, Service


async def described(service: Service) -> dict[str, Any]:
    document: dict[str, Any] = (await service.client.get("/openapi.json")).json()
    return document


def check(document: dict[str, Any], answer: httpx.Response) -> None:
    """The answer has a documented status, media type, headers and body."""
    response = document["paths"]["/v1/events"]["post"]["responses"][str(answer.status_code)]
    content = response["content"][answer.headers["content-type"]]
    schema = content["schema"] | {"components": document["components"]}
    jsonschema_rs.Draft202012Validator(schema).validate(answer.json())
    assert {name.lower() for name in response.get("headers", {})} <= set(answer.headers)


async def test_every_answer_fits_its_description(service: Service, writer: MemoryWriter) -> None:
    document = await described(service)
    bad = an_event(data={})
    answers = [
        await service.send(batch_of(2)),
        await service.send([an_event(), bad]),
        await service.send([bad]),
        await service.send([bad], params={"dry_run": "true"}),
        await service.send(b"{"),
        await service.send(an_event(id=""), "cloudevents+json"),
        await service.send([], headers={"Authorization": "Bearer x"}),
        await service.send([an_event(source="/other")]),
        await service.client.get("/v1/events"),
        await service.send([], "xml"),
    ]
    writer.errors[EVENTS_TOPIC] = RecordTooLarge("no")
    answers.append(await service.send(batch_of(1)))
    writer.failing.add(EVENTS_TOPIC)
    answers.append(await service.send(batch_of(1)))
    for answer in answers:
        check(document, answer)
    statuses = {str(answer.status_code) for answer in answers}
    documented = set(document["paths"]["/v1/events"]["post"]["responses"])
    # a slow body: test_limits; a rate: test_admission; a head: tests/cli/test_http_heads
    assert statuses == documented - {"408", "429", "431"}


@pytest.mark.parametrize("kind", ["cloudevents+json", "cloudevents-batch+json", "json", "x-ndjson"])
async def test_the_examples_are_readable_requests(service: Service, kind: str) -> None:
    content = (await described(service))["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    example = content[f"application/{kind}"]["example"]
    headers = (
        {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "x"} if kind == "json" else {}
    )
    body = example.encode() if isinstance(example, str) else example
    answer = await service.send(body, kind, headers=headers)
    assert answer.json()["code"] == "unknown_type"  # it is read, and its type is another product's


async def test_events_that_are_accepted_fit_the_schema(service: Service) -> None:
    document = await described(service)
    schema = document["components"]["schemas"]["CloudEvent"]
    validator = jsonschema_rs.Draft202012Validator(schema)
    for event in (an_event(), an_event(data=None), an_event(feature="x", sampled=True, weight=3)):
        validator.validate(event)
        assert (await service.send([event], params={"dry_run": "true"})).status_code == 200
    assert not validator.is_valid(an_event(id=""))
    assert not validator.is_valid(an_event(specversion="0.3"))


async def test_codes_of_the_description_are_the_codes_of_verdicts(service: Service) -> None:
    rejection = (await described(service))["components"]["schemas"]["Rejection"]
    assert "schema_violation" in rejection["properties"]["code"]["enum"]


async def test_the_door_and_the_operations_are_described_and_secured(service: Service) -> None:
    document = await described(service)
    assert list(document["paths"]) == ["/v1/events", "/v1/events/status", "/healthz", "/readyz", "/metrics"]
    assert document["paths"]["/v1/events"]["post"]["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


async def test_the_page_for_people_asks_no_other_host_for_anything(service: Service) -> None:
    page = await service.client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    assert 'fetch("openapi.json")' in page.text
