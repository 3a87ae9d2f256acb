"""A product's rate and its share of what is in flight; a flood by one does not slow another."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_ingest.admission import Admission
from impact_ingest.limits import Limits
from impact_ingest.problems import Problem
from tests.ingest.running import MemoryWriter, an_event, batch_of, eventually, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import httpx

    from tests.ingest.running import Service

RATED = replace(Limits(), max_events_per_s=10.0, burst_s=2.0)


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spend(admission: Admission, product: str, events: int) -> str | None:
    """Sends a request; status and Retry-After of a refusal."""
    try:
        room = admission.enter(product)
    except Problem as problem:
        return f"{problem.status} {problem.headers['Retry-After']}"
    room.charge(events)
    room.leave()
    return None


def test_refused_events_take_a_bounded_part_of_the_disk_in_an_hour() -> None:
    clock = Clock()
    admission = Admission(replace(Limits(), max_quarantine_bytes_per_hour=3600), clock)
    admission.enter("water").charge_quarantine(3600)
    admission.enter("water").charge_quarantine(60)  # a little beyond, once
    with pytest.raises(Problem) as refused:
        admission.enter("water").charge_quarantine(1)
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "60"})
    admission.enter("wallet").charge_quarantine(1)
    clock.now += 60
    admission.enter("water").charge_quarantine(1)
    clock.now += 10 * 3600  # what was not used does not add up
    admission.enter("water").charge_quarantine(3601)
    with pytest.raises(Problem):
        admission.enter("water").charge_quarantine(1)


async def test_a_flood_of_bad_events_is_turned_away_and_counted_while_good_ones_come_in(
    writer: MemoryWriter,
) -> None:
    limits = replace(Limits(), max_quarantine_bytes_per_hour=1000)
    bad = an_event(id="bad", data={"litres": "many", "language": "x" * 1000})
    async with running(writer, limits=limits) as service:
        assert (await service.send([bad])).status_code == 422
        kept = len(writer.quarantined()[0]["event"]["data"]["language"])
        turned_away = await service.send([bad, an_event()])
        assert (turned_away.status_code, turned_away.json()["code"]) == (429, "quarantine_full")
        assert int(turned_away.headers["Retry-After"]) > 0
        assert not writer.events()
        assert len(writer.quarantined()) == 1
        assert (await service.send([bad], params={"dry_run": "true"})).status_code == 200
        assert (await service.send([an_event()])).status_code == 202
        written = service.metric("impact_ingest_quarantine_bytes_total", product="water")
        assert kept < written < 2 * kept
        outcome = {"product": "water", "outcome": "turned_away"}
        assert service.metric("impact_ingest_events_total", **outcome) == 2


def test_a_product_over_its_rate_is_told_when_to_come_again() -> None:
    clock = Clock()
    admission = Admission(RATED, clock)
    assert spend(admission, "water", 20) is None
    assert spend(admission, "water", 45) is None  # what is left is nothing, but not a debt
    assert spend(admission, "water", 1) == "429 5"
    assert spend(admission, "wallet", 1) is None
    clock.now += 4.5
    assert spend(admission, "water", 1) is None
    assert spend(admission, "water", 1) == "429 1"


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50)), max_size=60))
def test_over_time_a_product_sends_its_rate_a_burst_and_one_request_at_most(
    steps: list[tuple[float, int]],
) -> None:
    clock = Clock()
    admission = Admission(RATED, clock)
    sent = 0
    for wait_s, events in steps:
        clock.now += wait_s
        if spend(admission, "water", events) is None:
            sent += events
    assert sent <= 20 + 10 * (clock.now - 1000.0) + 50


async def test_too_many_events_are_429_before_the_body_is_read(writer: MemoryWriter) -> None:
    async with running(writer, limits=replace(Limits(), max_events_per_s=1.0, burst_s=1.0)) as service:
        assert (await service.send(batch_of(5))).status_code == 202
        answer = await service.raw(service.head("Content-Length: 100000"), timeout_s=5)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 4\r\n" in answer.lower()
        assert b"connection: close" in answer.lower()
        service.key = service.keys.make("wallet")
        assert (await service.send([])).status_code == 202
    assert len(writer.events()) == 5


def other_product(service: Service) -> str:
    return service.keys.make("wallet")


def opened(number: int) -> dict[str, object]:
    return an_event(id=f"w-{number}", source="/wallet/1", type="wallet.opened.v1", data={})


async def send_as(service: Service, key: str, events: Sequence[object]) -> httpx.Response:
    return await service.send(events, headers={"Authorization": f"Bearer {key}"})


async def test_a_product_that_fills_its_share_leaves_room_for_others(writer: MemoryWriter) -> None:
    writer.gate = asyncio.Event()
    limits = replace(Limits(), max_product_bytes_in_flight=20_000, max_bytes_in_flight=100_000)
    body = json.dumps(an_event()).encode() + b" " * 9_000
    async with running(writer, limits=limits) as service:
        waiting = [asyncio.create_task(service.send(body, "cloudevents+json")) for _ in range(2)]
        await eventually(lambda: service.metric("impact_ingest_in_flight_bytes") > 18_000)
        refused = await service.send(body, "cloudevents+json")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        other = asyncio.create_task(send_as(service, other_product(service), [opened(1)]))
        await eventually(lambda: service.metric("impact_ingest_in_flight_bytes") > 18_200)
        writer.gate.set()
        assert (await other).status_code == 202
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {202}


async def test_too_many_requests_of_one_product_leave_room_for_others(writer: MemoryWriter) -> None:
    writer.gate = asyncio.Event()
    async with running(writer, limits=replace(Limits(), max_product_requests_in_flight=2)) as service:
        waiting = [asyncio.create_task(service.send_one(id=f"e-{number}")) for number in range(2)]
        await eventually(lambda: service.metric("impact_ingest_in_flight_bytes") > 300)
        assert (await service.send_one(id="third")).status_code == 503
        other = asyncio.create_task(send_as(service, other_product(service), [opened(1)]))
        await asyncio.sleep(0.05)
        writer.gate.set()
        assert (await other).status_code == 202
        await asyncio.gather(*waiting)


@asynccontextmanager
async def flood(service: Service, body: bytes) -> AsyncIterator[None]:
    """24 connections of another process, which send all the time."""
    script = Path(__file__).parent / "flooding.py"
    command = [sys.executable, str(script), str(service.port), "24"]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    head = service.head(f"Content-Length: {len(body)}", kind="cloudevents-batch+json")
    process.stdin.write(head + body)
    process.stdin.close()
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.timeout(60)
async def test_a_flood_by_one_product_does_not_slow_another(writer: MemoryWriter) -> None:
    """Judged as they come, all 24 requests of 1,000 events would be before each of the other product's."""
    body = json.dumps(batch_of(1_000)).encode()
    async with running(writer) as service:
        key = other_product(service)
        turns = [(await service.send(body)).elapsed.total_seconds() for _ in range(3)]
        waits = []
        async with flood(service, body):
            await eventually(lambda: service.metric("impact_ingest_requests_total", status="202") > 24, 30)
            for number in range(11):
                writer.records.clear()
                answer = await send_as(service, key, [opened(number)])
                assert answer.status_code == 202
                waits.append(answer.elapsed.total_seconds())
    assert sorted(waits)[5] < 8 * min(turns)
