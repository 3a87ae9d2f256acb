"""Annotations at the door: taken in every product, as any other event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from impact_schemas.wire import EVENTS_TOPIC
from tests.ingest.running import IDENTITIES, an_event

if TYPE_CHECKING:
    from tests.ingest.running import MemoryWriter, Service

SAID = {"kind": "decision", "title": "Reminders in Spanish from May", "metrics": ["litres"], "bet": "spanish"}


def an_annotation(**changes: Any) -> dict[str, Any]:
    return an_event(id="a-1", type="impact.annotation.v1", subject=None, data=SAID | changes)


async def test_an_annotation_is_an_event_like_any_other(service: Service, writer: MemoryWriter) -> None:
    event = an_annotation()
    assert (await service.send([event | {"subject": "alice"}])).status_code == 202
    ((product, kept),) = writer.records[EVENTS_TOPIC]
    assert kept.key == IDENTITIES.of(product, event["source"], "a-1")
    assert writer.events() == [event]


async def test_what_it_does_not_name_is_dropped(service: Service, writer: MemoryWriter) -> None:
    assert (await service.send([an_annotation(author="Alice")])).status_code == 202
    assert writer.events()[0]["data"] == SAID


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"kind": "party"}, "/data/kind"),
        ({"metrics": "litres"}, "/data/metrics"),
        ({"title": ""}, "/data/title"),
    ],
)
async def test_an_annotation_of_another_form_is_refused(
    service: Service, changes: dict[str, Any], pointer: str
) -> None:
    answer = await service.send([an_annotation(**changes)])
    assert answer.status_code == 422
    (refused,) = answer.json()["rejected"]
    assert (refused["code"], refused["pointer"]) == ("schema_violation", pointer)


async def test_a_correction_may_change_what_an_annotation_says(
    service: Service, writer: MemoryWriter
) -> None:
    target = {"source": "/water/pump-1", "id": "a-1", "reason": "mistyped"}
    data = target | {"data": SAID | {"title": "From June"}}
    event = an_event(id="c-1", type="impact.correction.v1", subject=None, data=data)
    assert (await service.send([event])).status_code == 202
    assert writer.events()[0]["data"]["data"] == SAID | {"title": "From June"}
