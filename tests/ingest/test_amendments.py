"""Retractions and corrections at the door: taken in every product, and kept with the event they speak of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from impact_schemas.wire import EVENTS_TOPIC
from tests.ingest.running import IDENTITIES, PSEUDONYMS, an_event, parsed_catalogs

if TYPE_CHECKING:
    from tests.ingest.running import MemoryWriter, Service

TARGET = {"source": "/water/pump-1", "id": "e-1", "reason": "the meter was broken"}


def a_retraction(**changes: Any) -> dict[str, Any]:
    return an_event(id="r-1", type="impact.retraction.v1", subject=None, data=TARGET | changes)


def a_correction(data: Any, **changes: Any) -> dict[str, Any]:
    return an_event(
        id="c-1", type="impact.correction.v1", subject=None, data=TARGET | {"data": data} | changes
    )


@pytest.mark.parametrize("event", [a_retraction(), a_correction({"litres": 3})])
async def test_an_amendment_is_kept_in_the_partition_of_its_target(
    service: Service, writer: MemoryWriter, event: dict[str, Any]
) -> None:
    event["source"] = "/water/office"
    assert (await service.send(event, "cloudevents+json")).status_code == 202
    ((product, kept),) = writer.records[EVENTS_TOPIC]
    assert kept.key == IDENTITIES.of(product, "/water/pump-1", "e-1")
    assert writer.events() == [event]


async def test_an_amendment_keeps_no_subject(service: Service, writer: MemoryWriter) -> None:
    assert (await service.send([a_retraction() | {"subject": "alice"}])).status_code == 202
    assert "subject" not in writer.events()[0]


async def test_of_a_corrections_data_only_what_a_type_names_is_kept_and_hashed_as_any_type_says(
    service: Service, writer: MemoryWriter
) -> None:
    service.rules.use({"water": without_free_types()})
    data = {
        "litres": 12.50,
        "household": "Otieno",
        "contact": {"phone": "+254700", "street": "Main"},
        "clean": True,
        "name": "Alice",
        "people": [{"age": 3, "name": "Bob"}],
    }
    assert (await service.send([a_correction(data, other="x")])).status_code == 202
    (event,) = writer.events()
    assert event["data"] == TARGET | {
        "data": {
            "litres": 12.5,
            "household": PSEUDONYMS.of("water", "Otieno"),
            "contact": {"phone": PSEUDONYMS.of("water", "+254700")},
            "clean": True,
            "people": [{"age": 3}],
        }
    }


async def test_a_type_that_keeps_what_is_unknown_lets_a_correction_keep_it(
    service: Service, writer: MemoryWriter
) -> None:
    assert (await service.send([a_correction({"anything": {"x": 1}, "household": 4711})])).status_code == 202
    assert writer.events()[0]["data"]["data"] == {
        "anything": {"x": 1},
        "household": PSEUDONYMS.of("water", "4711"),
    }


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        (a_retraction(id=""), "/data/id"),
        (a_retraction(source=7), "/data/source"),
        (a_retraction(reason=None), "/data/reason"),
        (an_event(type="impact.retraction.v1", data={"source": "/water/1", "reason": "x"}), "/data/id"),
        (an_event(type="impact.correction.v1", data=TARGET), "/data/data"),
        (an_event(type="impact.correction.v1", data=None), "/data"),
    ],
)
async def test_a_form_fault_is_a_schema_violation_with_its_pointer(
    service: Service, writer: MemoryWriter, event: dict[str, Any], pointer: str
) -> None:
    answer = await service.send([event])
    assert answer.status_code == 422
    (rejected,) = answer.json()["rejected"]
    assert rejected["code"] == "schema_violation"
    assert rejected["pointer"].startswith(pointer)
    assert not writer.events()


async def test_an_event_of_a_foreign_source_cannot_be_amended(service: Service, writer: MemoryWriter) -> None:
    answer = await service.send([a_retraction(source="/wallet/1")])
    assert (answer.status_code, answer.json()["code"]) == (403, "source_not_allowed")
    answer = await service.send([a_retraction(source="/wallet/1"), an_event()])
    assert answer.json()["rejected"][0]["pointer"] == "/data/source"
    assert [event["id"] for event in writer.events()] == ["e-1"]


async def test_references_within_schemas_still_name_their_properties(
    service: Service, writer: MemoryWriter
) -> None:
    catalog = without_free_types()
    schema = {
        "type": "object",
        "properties": {"place": {"$ref": "#/$defs/place"}},
        "$defs": {"place": {"type": "object", "properties": {"region": {"type": "string"}}}},
    }
    tested = catalog.events["water.tested.v1"].model_copy(update={"data": schema})
    service.rules.use({"water": catalog.model_copy(update={"events": catalog.events | {"t.v1": tested}})})
    data = {"place": {"region": "west", "street": "Main"}}
    assert (await service.send([a_correction(data)])).status_code == 202
    assert writer.events()[0]["data"]["data"] == {"place": {"region": "west"}}


def without_free_types() -> Any:
    """The catalog of water without the type that keeps what is unknown."""
    catalog = parsed_catalogs()["water"]
    types = {name: one for name, one in catalog.events.items() if not one.keep_unknown}
    return catalog.model_copy(update={"events": types})
