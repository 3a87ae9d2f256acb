"""`impact ingest` on real Kafka: a graceful end, and a broker that hangs."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest
import zstandard

from impact_eventlog.kafka import KafkaReader, KafkaSettings
from impact_schemas.wire import decode_record
from tests.cli.service import visit, write_catalog
from tests.end_to_end.services import Process, Production
from tests.rig.kafka import KafkaServer

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 16
MAX_RSS_MIB = 256  # the door's bound under overload


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    """A broker that a test may stop for a while."""
    with KafkaServer.temporary() as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, kafka: KafkaServer) -> Iterator[Production]:
    """The door on Kafka, with its keys in SQLite; a test that stops it starts it again."""
    folder = tmp_path_factory.mktemp("door")
    write_catalog(folder / "catalog")
    database = f"sqlite:///{folder / 'metrics.db'}"
    with Production(folder, kafka, database, folder / "catalog", partitions=4) as service:
        yield service


def headers(service: Production) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {service.key_of['clinic']}",
        "Content-Type": "application/cloudevents-batch+json",
    }


def client_of(service: Production) -> httpx.AsyncClient:
    # no TLS here: a context for it takes a third of a second of the processor
    return httpx.AsyncClient(base_url=service.door.url, headers=headers(service), timeout=30, verify=False)


async def accepted_until_the_end(service: Production, client: int, stopping: asyncio.Event) -> list[str]:
    """Sends one event after the other on one connection until nobody answers; the ids with a 202."""
    accepted = []
    async with client_of(service) as http:
        for number in range(100_000):
            event = visit(number) | {"id": f"{client}-{number}"}
            try:
                answer = await http.post("/v1/events", json=[event])
            except httpx.TransportError:
                assert stopping.is_set(), "a connection was cut before the end"
                break
            if answer.status_code == 202:
                accepted.append(event["id"])
    return accepted


async def ids_in(service: Production, kafka: KafkaServer) -> set[str]:
    topic = service._settings["IMPACT_KAFKA_TOPIC"]
    reader = KafkaReader(KafkaSettings(bootstrap=kafka.bootstrap), [topic], group=None)
    await reader.start()
    try:
        partitions = list(reader.assignment())
        for partition in partitions:
            reader.seek(partition, 0)
        expected, records = sum((await reader.end_offsets(partitions)).values()), 0
        found: set[str] = set()
        while records < expected:
            got = await reader.poll(1.0)
            records += len(got)
            found |= {
                msgspec.json.decode(one)["id"] for record in got for one in decode_record(record.payload)
            }
        return found
    finally:
        await reader.stop()


@pytest.mark.timeout(120)
async def test_sigterm_with_keep_alive_clients_loses_nothing_that_was_accepted(
    service: Production, kafka: KafkaServer
) -> None:
    stopping = asyncio.Event()
    clients = [asyncio.create_task(accepted_until_the_end(service, n, stopping)) for n in range(CLIENTS)]
    await asyncio.sleep(2)
    stopping.set()
    started = time.monotonic()
    assert await asyncio.to_thread(service.door.stop, signal.SIGTERM) == 0
    assert time.monotonic() - started < 15
    accepted = [name for names in await asyncio.gather(*clients) for name in names]
    assert len(accepted) > CLIENTS
    assert set(accepted) <= await ids_in(service, kafka)
    await asyncio.to_thread(service.door.start)


def peak_mib(process: Process) -> float:
    """The most memory that the process ever held."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@pytest.mark.timeout(60)
async def test_200_bombs_at_once_stay_in_bounded_memory_and_others_are_answered(service: Production) -> None:
    zeros = b"0" * (64 * 1024**2)
    bombs = {"gzip": gzip.compress(zeros), "zstd": zstandard.compress(zeros)}
    async with client_of(service) as http:
        posts = [
            asyncio.create_task(http.post("/v1/events", content=bomb, headers={"Content-Encoding": encoding}))
            for _ in range(100)
            for encoding, bomb in bombs.items()
        ]
        for number in range(10):
            assert (await http.post("/v1/events", json=[visit(number)])).status_code == 202
        answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {413}
    assert peak_mib(service.door) < MAX_RSS_MIB


@pytest.mark.timeout(150)
async def test_a_broker_that_hangs_is_503_in_bounded_memory_and_the_end_comes_in_time(
    service: Production, kafka: KafkaServer
) -> None:
    batch = [visit(number) | {"filler": os.urandom(1_000).hex()} for number in range(1_500)]
    body = msgspec.json.encode(batch)  # 3 MB: 60 of them are three times what may be in flight
    async with client_of(service) as http:
        assert (await http.post("/v1/events", json=[visit(1)])).status_code == 202
        kafka.process.pause()
        try:
            started = time.monotonic()
            posts = [asyncio.create_task(http.post("/v1/events", content=body)) for _ in range(60)]
            await asyncio.sleep(1)
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["event log"]) == (503, False)
            assert (await http.get("/healthz")).status_code == 200
            answers = await asyncio.gather(*posts)
            assert time.monotonic() - started < 25
            assert {answer.status_code for answer in answers} == {503}
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
            assert {answer.json()["code"] for answer in answers} <= {"log_unavailable", "overloaded"}
            assert peak_mib(service.door) < MAX_RSS_MIB
            started = time.monotonic()
            assert await asyncio.to_thread(service.door.stop, signal.SIGTERM) == 0
            assert time.monotonic() - started < 25
        finally:
            kafka.process.resume()
    await asyncio.to_thread(service.door.start)  # ready means that it takes events
    async with client_of(service) as http:
        assert (await http.post("/v1/events", json=[visit(2)])).status_code == 202
