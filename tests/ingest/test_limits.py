"""What one request may cost, and all together. Raw sockets, where clients would behave."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from impact_ingest.body import inflate
from impact_ingest.limits import MIB, Limits
from impact_ingest.problems import Problem
from tests.ingest.running import MemoryWriter, an_event, batch_of, eventually, running

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.ingest.running import Service

SMALL = Limits(
    max_wire_bytes=20_000,
    max_body_bytes=20_000,
    max_events=10,
    max_event_bytes=1_000,
    max_requests_in_flight=3,
    max_bytes_in_flight=30_000,
    body_deadline_s=0.3,
    drain_bytes=50_000,
    drain_s=0.3,
)


def in_flight(service: Service) -> float:
    return service.metric("impact_ingest_in_flight_bytes")


async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(writer: MemoryWriter) -> None:
    async with running(writer, limits=SMALL) as service:
        answer = await service.raw(service.head("Content-Length: 20001"))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer.lower()


async def test_a_body_that_announces_nothing_is_counted(writer: MemoryWriter) -> None:
    async with running(writer, limits=SMALL) as service:
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        answer = await service.raw(service.head("Transfer-Encoding: chunked"), *[chunk] * 6, b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")
    assert not writer.records


async def test_a_body_of_exactly_the_limit_is_read(writer: MemoryWriter) -> None:
    async with running(writer, limits=SMALL) as service:
        event = json.dumps(an_event()).encode()
        assert (
            await service.send(event + b" " * (20_000 - len(event)), "cloudevents+json")
        ).status_code == 202
        assert (
            await service.send(event + b" " * (20_001 - len(event)), "cloudevents+json")
        ).status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_bomb_is_refused(service: Service, writer: MemoryWriter, encoding: str) -> None:
    zeros = b"0" * (64 * MIB)
    wire = gzip.compress(zeros) if encoding == "gzip" else zstandard.compress(zeros)
    answer = await service.send(wire, headers={"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert not writer.records


def test_a_ratio_that_no_honest_body_has_is_refused() -> None:
    limits = replace(Limits(), max_inflate_ratio=100)
    with pytest.raises(Problem, match="100 times"):
        inflate(gzip.compress(b" " * (2 * MIB)), "gzip", limits)


def test_a_zstd_window_beyond_the_limit_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    wire = compressor.compress(b"[]") + compressor.flush()
    with pytest.raises(Problem):
        inflate(wire, "zstd", Limits())


async def test_too_many_events_are_413(writer: MemoryWriter) -> None:
    async with running(writer, limits=SMALL) as service:
        assert (await service.send(batch_of(10))).status_code == 202
        assert (await service.send(batch_of(11))).status_code == 413
    assert len(writer.events()) == 10


async def test_an_event_that_is_too_large_is_a_verdict_and_quarantined_by_its_head(
    writer: MemoryWriter,
) -> None:
    large = an_event(id="large", data={"litres": 1, "language": "x" * 1_000})
    async with running(writer, limits=SMALL) as service:
        answer = await service.send([an_event(), large])
        assert (answer.status_code, answer.json()["rejected"][0]["code"]) == (207, "too_large")
        (kept,) = writer.quarantined()
        assert (kept["event"]["id"], "data" in kept["event"]) == ("large", False)
        writer.records.clear()
        for content in ([large], [large, large]):
            assert (await service.send(content)).status_code == 413
        assert (await service.send(large, "cloudevents+json")).status_code == 413
    assert not writer.records


async def test_blanks_do_not_make_an_event_large(writer: MemoryWriter) -> None:
    async with running(writer, limits=SMALL) as service:
        body = json.dumps(an_event(), indent=300).encode()
        assert len(body) > 1_000
        assert (await service.send(body, "cloudevents+json")).status_code == 202


async def test_a_slow_body_is_cut_off(writer: MemoryWriter) -> None:
    async with running(writer, limits=SMALL) as service:
        head = service.head("Content-Length: 1000")
        async with asyncio.timeout(2):
            answer = await service.raw(head, *[b" "] * 4, pause_s=0.05)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"body_timeout"' in answer
    assert not writer.records


async def test_a_client_that_leaves_in_mid_body_leaves_nothing_behind(writer: MemoryWriter) -> None:
    async with running(writer, limits=SMALL) as service:
        _, connection = await asyncio.open_connection("127.0.0.1", service.port)
        connection.write(service.head("Content-Length: 10000") + b" " * 5_000)
        await connection.drain()
        await eventually(lambda: in_flight(service) > 0)
        connection.close()
        await eventually(lambda: in_flight(service) == 0)
        assert (await service.send_one()).status_code == 202


async def send_for_ever(connection: asyncio.StreamWriter) -> None:
    while True:
        connection.write(b"x" * 4096)
        await connection.drain()
        await asyncio.sleep(0.01)


async def test_the_drain_ends_for_a_client_that_never_stops(writer: MemoryWriter) -> None:
    async with running(writer, limits=SMALL) as service:
        reader, connection = await asyncio.open_connection("127.0.0.1", service.port)
        connection.write(service.head("Content-Length: 100000000"))
        async with asyncio.timeout(3):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            with pytest.raises(ConnectionError):
                await send_for_ever(connection)
        connection.close()


async def test_too_much_in_flight_is_503_until_it_is_less(writer: MemoryWriter) -> None:
    writer.gate = asyncio.Event()
    body = json.dumps(an_event()).encode() + b" " * 14_000
    async with running(writer, limits=SMALL) as service:
        waiting = [asyncio.create_task(service.send(body, "cloudevents+json")) for _ in range(2)]
        await eventually(lambda: in_flight(service) > 28_000)
        refused = await service.send(body, "cloudevents+json")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        writer.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [202, 202]
        assert (await service.send(body, "cloudevents+json")).status_code == 202
        assert in_flight(service) == 0


class Joining(MemoryWriter):
    """Takes events at once, as the writers do that join them into records, and then waits."""

    def append(self, *_arguments: Any) -> Awaitable[None]:  # type: ignore[override]  # it keeps no events
        async def arrived() -> None:
            assert self.gate is not None
            await self.gate.wait()

        return arrived()


async def test_while_the_log_waits_the_door_holds_neither_body_nor_events() -> None:
    writer = Joining(gate=asyncio.Event())
    assert writer.gate is not None
    body = json.dumps([an_event(id=f"e-{number}", note="x" * 1_000) for number in range(500)]).encode()
    async with running(writer) as service:
        tracemalloc.start()
        try:
            sent = asyncio.create_task(service.send(body, "cloudevents-batch+json"))
            await eventually(lambda: in_flight(service) >= len(body))
            await asyncio.sleep(0.2)
            traces = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.Filter(True, "*/impact_ingest/*")]
            )
        finally:
            tracemalloc.stop()
        held = sum(trace.size for trace in traces.traces)
        writer.gate.set()
        assert (await sent).status_code == 202
    assert held < len(body) / 4, (held, len(body))


async def test_too_many_requests_in_flight_are_503(writer: MemoryWriter) -> None:
    writer.gate = asyncio.Event()
    async with running(writer, limits=SMALL) as service:
        sent = [asyncio.create_task(service.send_one(id=f"e-{number}")) for number in range(5)]
        await eventually(lambda: sum(task.done() for task in sent) == 2)
        writer.gate.set()
        answers = await asyncio.gather(*sent)
    assert sorted(answer.status_code for answer in answers) == [202, 202, 202, 503, 503]


SMUGGLED = {
    "a length and chunks": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "a length that is none": ["Content-Length: +5"],
    "a folded header": ["X: a", " b", "Content-Length: 5"],
    "a blank before the colon": ["Content-Length : 5"],
    "an unknown transfer encoding": ["Transfer-Encoding: xchunked"],
}


@pytest.mark.parametrize("lines", list(SMUGGLED.values()), ids=list(SMUGGLED))
async def test_ambiguous_framing_is_refused(service: Service, writer: MemoryWriter, lines: list[str]) -> None:
    answer = await service.raw(service.head(*lines), b"0\r\n\r\n", timeout_s=5)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert not writer.records
