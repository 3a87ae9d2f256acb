"""The door on the embedded log: what was answered with 202 is on the disk, as the aggregator reads it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from impact_eventlog.embedded import EmbeddedReader, EmbeddedWriter
from impact_eventlog.ports import Partition
from impact_schemas.wire import EVENTS_TOPIC, QUARANTINE_TOPIC
from tests.ingest.running import an_event, batch_of, running

if TYPE_CHECKING:
    from pathlib import Path

    from impact_eventlog.ports import Record


async def read_all(path: Path, topic: str) -> list[Record]:
    reader = EmbeddedReader(path, [topic])
    await reader.start()
    try:
        for partition in reader.assignment():
            reader.seek(partition, 0)
        return list(await reader.poll(1.0))
    finally:
        await reader.stop()


async def test_accepted_and_refused_events_are_in_their_logs_when_the_answer_comes(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    writer = EmbeddedWriter(path)
    await writer.start()
    try:
        async with running(writer) as service:
            answers = await asyncio.gather(
                service.send([*batch_of(3), an_event(id="bad", data={})]),
                *(service.send_one(id=f"single-{number}") for number in range(20)),
            )
            assert [answer.status_code for answer in answers] == [207] + [202] * 20
            accepted = await read_all(path, EVENTS_TOPIC)
            refused = await read_all(path, QUARANTINE_TOPIC)
    finally:
        await writer.stop()
    ids = [event["id"] for record in accepted for event in msgspec.json.decode(record.payload)]
    assert sorted(ids) == sorted([f"e-{n}" for n in range(3)] + [f"single-{n}" for n in range(20)])
    assert {record.product for record in accepted} == {"water"}
    assert {record.partition for record in accepted} == {Partition(EVENTS_TOPIC, 0)}
    (rejection,) = msgspec.json.decode(refused[0].payload)
    assert (rejection["code"], rejection["event"]["id"]) == ("schema_violation", "bad")


async def test_a_log_that_was_closed_is_503(tmp_path: Path) -> None:
    writer = EmbeddedWriter(tmp_path / "events.db")
    await writer.start()
    async with running(writer) as service:
        assert (await service.send_one()).status_code == 202
        await writer.stop()
        assert (await service.send_one()).status_code == 503
        assert (await service.client.get("/readyz")).status_code == 503


pytestmark = pytest.mark.timeout(60)
