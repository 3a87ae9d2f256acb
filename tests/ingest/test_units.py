"""Units and scores at the door: what cannot be counted is refused there, where the sender can still help."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from impact_schemas.catalog import parse_catalogs
from tests.ingest.running import an_event

if TYPE_CHECKING:
    from tests.ingest.running import MemoryWriter, Service

WEIGHED = """
apiVersion: impact/v1
product: water
title: Water
sources: ["/water/*"]
events:
  water.weighed.v1:
    data:
      type: object
      properties: {amount: {type: number}, unit: {type: string}, kind: {type: string}, grade: {type: number},
        score: {type: number}, consent: {type: boolean}}
metrics:
  sludge: {title: Sludge, event: water.weighed.v1, aggregate: sum, of: data.amount, unit: kg, role: impact,
    unit_path: data.unit, where: {data.kind: sludge, data.grade: {ne: 0.1}}}
  score: {title: Score, event: water.weighed.v1, aggregate: mean, of: data.score, role: impact,
    consent: data.consent, scale: {min: 0, max: 25.5}}
"""


@pytest.fixture
def weighing(service: Service) -> Service:
    service.rules.use(parse_catalogs({"water.yaml": WEIGHED}))
    return service


async def send(service: Service, data: dict[str, Any]) -> tuple[int, str, str | None, str]:
    """Status, and code, pointer and detail of the verdict."""
    answer = await service.send_one(type="water.weighed.v1", subject=None, data=data)
    rejected = answer.json()["rejected"]
    first = rejected[0] if rejected else {}
    return answer.status_code, first.get("code", ""), first.get("pointer"), first.get("detail", "")


@pytest.mark.parametrize("unit", ["kg", "t", "g{wet}", "[lb_av]"])
async def test_a_unit_of_the_same_kind_is_kept_as_it_was_sent(
    weighing: Service, writer: MemoryWriter, unit: str
) -> None:
    data = {"amount": 1.5, "grade": 1, "kind": "sludge", "unit": unit}
    assert (await send(weighing, data))[0] == 202
    assert [event["data"] for event in writer.events()] == [data]


@pytest.mark.parametrize("unit", [{"unit": "L"}, {"unit": "secret-word"}, {"unit": ""}, {}])
async def test_a_unit_of_another_kind_is_a_mismatch_that_is_not_quoted(
    weighing: Service, writer: MemoryWriter, unit: dict[str, str]
) -> None:
    answer = await send(weighing, {"amount": 1.5, "grade": 1, "kind": "sludge", **unit})
    assert answer[:3] == (422, "unit_mismatch", "/data/unit")
    assert "kg" in answer[3]
    assert "secret" not in answer[3]
    assert [entry["code"] for entry in writer.quarantined()] == ["unit_mismatch"]


@pytest.mark.parametrize("data", [{"kind": "milk"}, {"grade": 0.1}, {"amount": None}])
async def test_an_event_that_does_not_belong_to_the_metric_may_have_any_unit(
    weighing: Service, data: dict[str, Any]
) -> None:
    event = {"kind": "sludge", "grade": 1, "amount": 1, "unit": "L"} | data
    assert (await send(weighing, {name: value for name, value in event.items() if value is not None}))[
        0
    ] == 202


@pytest.mark.parametrize(
    ("score", "status"), [(0, 202), (25.5, 202), (-0.1, 422), (26, 422), ("25.500000001", 422)]
)
async def test_a_score_beyond_its_scale_is_out_of_range(
    weighing: Service, score: float | str, status: int
) -> None:
    event = an_event(type="water.weighed.v1", subject=None, data={"score": 0, "consent": True})
    body = json.dumps(event).replace('"score": 0', f'"score": {score}').encode()
    answer = await weighing.send(body, "cloudevents+json")
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["code"] == "value_out_of_range"
        assert answer.json()["rejected"][0]["pointer"] == "/data/score"


async def test_a_score_without_consent_is_let_in_and_not_looked_at(weighing: Service) -> None:
    assert (await send(weighing, {"score": 99, "consent": False}))[0] == 202
