"""The short way and the long way through the door answer alike, and leave the same in the logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from impact_ingest.express import Express
from impact_ingest.limits import Limits
from impact_schemas.wire import EVENTS_TOPIC
from tests.ingest.running import MemoryWriter, an_event, batch_of, running
from tests.ingest.test_bad_input import body_of, cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.running import Service

LONG_WAY = {"params": {"atomic": "false"}}  # only requests without a query go the short way


def bodies() -> Iterator[tuple[bytes, str]]:
    """Good ones and bad ones, with their media types."""
    for case in cases("bodies.toml"):
        for mode, kind in (("structured", "cloudevents+json"), ("batched", "cloudevents-batch+json")):
            if mode in case["modes"]:
                yield body_of(case, mode), kind
    good = [an_event(), an_event(time=None, subject=None, type="water.tested.v1"), an_event(trace="1:2")]
    good += [an_event(data={"litres": 1, "household": "a:b", "other": {"x": [1]}})]
    bad = [an_event(type="unknown"), an_event(source="/other/1"), an_event(subject=None), an_event(id="")]
    bad += [an_event(time="2030-01-01T00:00:00Z"), an_event(data={"litres": -1}), an_event(data={})]
    for event in good + bad:
        yield json.dumps(event).encode(), "cloudevents+json"
        yield json.dumps([an_event(id="e-0"), event]).encode(), "cloudevents-batch+json"
    yield b"[]", "cloudevents-batch+json"


async def outcome(
    service: Service, writer: MemoryWriter, body: bytes, kind: str, **options: Any
) -> tuple[int, Any, Any, float]:
    counted = service.metric("impact_ingest_events_total", product="water", outcome="accepted")
    answer = await service.send(body, kind, **options)
    kept = {
        topic: [(product, event.event) for product, event in records]
        for topic, records in writer.records.items()
    }
    writer.records.clear()
    now = service.metric("impact_ingest_events_total", product="water", outcome="accepted")
    return answer.status_code, answer.json(), kept, now - counted


async def test_both_ways_have_one_outcome(service: Service, writer: MemoryWriter) -> None:
    for body, kind in bodies():
        assert await outcome(service, writer, body, kind) == await outcome(
            service, writer, body, kind, **LONG_WAY
        )


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What `Express.take` says, call by call."""
    said: list[bool] = []
    take = Express.take

    def told(*arguments: Any) -> bool:
        said.append(take(*arguments))
        return said[-1]

    monkeypatch.setattr(Express, "take", told)
    return said


async def test_good_events_are_taken_and_refused_ones_are_not(taken: list[bool]) -> None:
    async with running(MemoryWriter()) as service:
        assert (await service.send(batch_of(10))).status_code == 202
        assert (await service.send([an_event(), an_event(type="unknown")])).status_code == 207
        assert (await service.send([an_event()], headers={"Authorization": "Bearer x"})).status_code == 401
    assert taken == [True, False, False]


async def test_a_request_that_is_not_taken_holds_nothing() -> None:
    async with running(MemoryWriter(), limits=Limits(max_product_requests_in_flight=1)) as service:
        for _ in range(3):
            assert (await service.send([an_event(), an_event(type="unknown")])).status_code == 207
        assert (await service.send(batch_of(1))).status_code == 202
        assert service.metric("impact_ingest_in_flight_bytes") == 0


async def test_events_are_taken_off_the_rate_once() -> None:
    async with running(MemoryWriter(), limits=Limits(max_events_per_s=1, burst_s=6)) as service:
        for events in ([an_event(), an_event(type="unknown")], batch_of(2), batch_of(3)):
            assert (await service.send(events)).status_code < 300
        assert (await service.send(batch_of(1))).status_code == 429


async def test_a_log_that_takes_nothing_is_503(writer: MemoryWriter, service: Service) -> None:
    writer.failing.add(EVENTS_TOPIC)
    answer = await service.send(batch_of(2))
    assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert service.metric("impact_ingest_events_total", product="water", outcome="unavailable") == 2
    assert service.metric("impact_ingest_in_flight_bytes") == 0
