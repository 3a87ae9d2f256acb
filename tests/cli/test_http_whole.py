"""Requests that come whole go the short way; every other, and each that is not taken, to the application."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import uvicorn

from impact_cli.http_heads import HeadLimits, bounded
from impact_cli.http_whole import BODY_DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from impact_cli.http_whole import Reply

HEAD = b"POST /v1/events HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n"


class Told(NamedTuple):
    """A Reply."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    media_type: str = "text/plain"


class Taker:
    """Takes every body but "no", and answers at once, or when it is told to."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.offered: list[bytes] = []
        self.answers: list[Callable[[Reply], None]] = []
        self.at_once = at_once

    def take(self, headers: list[tuple[bytes, bytes]], body: bytes, answer: Callable[[Reply], None]) -> bool:
        assert (b"host", b"x") in headers
        self.offered.append(body)
        if body == b"no":
            return False
        self.answers.append(answer)
        if self.at_once:
            asyncio.get_running_loop().call_soon(self.tell)
        return True

    def tell(self) -> None:
        self.answers.pop(0)(Told(202, b"short", {"Retry-After": "1"}))


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers "long " and the body; under /slow after a while."""
    if scope["path"] == "/slow":
        await asyncio.sleep(0.1)
    body, more = b"long ", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(
    taker: Taker,
) -> AsyncIterator[tuple[uvicorn.Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    http = bounded(HeadLimits(), taker.take)
    config = uvicorn.Config(application, http=http, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.startup(sockets=[listening])
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        yield server, reader, writer
    finally:
        writer.close()
        for one in server.servers:
            one.close()
        async with asyncio.timeout(5):
            while server.server_state.connections:  # noqa: ASYNC110 (there is no event to wait on)
                await asyncio.sleep(0.01)


def request(body: bytes, *lines: bytes) -> bytes:
    return HEAD % (b"".join(line + b"\r\n" for line in lines), len(body)) + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)


async def test_a_whole_request_is_taken_and_the_next_ones_too() -> None:
    taker = Taker()
    async with serving(taker) as (_, reader, writer):
        for body in (b"one", b"two"):
            writer.write(request(body))
            assert await answer(reader) == (202, b"short")
    assert taker.offered == [b"one", b"two"]


async def test_the_answer_is_good_http() -> None:
    async with serving(Taker()) as (server, reader, writer):
        server.server_state.default_headers = [(b"date", b"today")]
        writer.write(request(b"one"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 202 Accepted\r\n")
    for line in ("content-type: text/plain", "content-length: 5", "retry-after: 1", "date: today"):
        assert f"\r\n{line}" in head


async def test_a_body_in_a_second_packet_is_waited_for() -> None:
    taker = Taker()
    async with serving(taker) as (_, reader, writer):
        whole = request(b"one")
        writer.write(whole[:-3])
        await asyncio.sleep(0.03)
        writer.write(whole[-3:])
        assert await answer(reader) == (202, b"short")
    assert taker.offered == [b"one"]


async def test_a_body_in_pieces_or_late_is_the_applications() -> None:
    taker = Taker()
    async with serving(taker) as (_, reader, writer):
        cases = (((-3, -2, -1), 0.03), ((-3,), 0.3), ((-4,), 0.03), ((-4,), 0.3), ((20,), 0.03))
        for pieces, pause_s in cases:
            whole, begin = request(b"late"), 0
            for end in pieces:
                writer.write(whole[begin:end])
                await asyncio.sleep(pause_s)
                begin = end
            writer.write(whole[begin:])
            took = pieces == (-4,) and pause_s < BODY_DEADLINE_S  # the head, and soon the body
            assert await answer(reader) == ((202, b"short") if took else (200, b"long late"))
    assert taker.offered == [b"late"]


async def test_what_is_not_taken_reaches_the_application_whole() -> None:
    taker = Taker()
    async with serving(taker) as (_, reader, writer):
        for body, expected in ((b"no", (200, b"long no")), (b"one", (202, b"short"))):
            writer.write(request(body))
            assert await answer(reader) == expected
        whole = request(b"no")
        writer.write(whole[:-2])
        await asyncio.sleep(0.03)
        writer.write(whole[-2:])
        assert await answer(reader) == (200, b"long no")


async def test_other_requests_are_never_offered() -> None:
    taker = Taker()
    others = [
        request(b"x").replace(b"POST", b"PUT"),
        request(b"x").replace(b"events", b"other"),
        request(b"x").replace(b"events", b"events?dry_run=true"),
        HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") % b"" + b"1\r\nx\r\n0\r\n\r\n",
        request(b"x" * 70_000),
        request(b"x", b"Expect: 100-continue"),
        request(b"x", b"Connection: close"),
    ]
    for other in others:
        async with serving(taker) as (_, reader, writer):
            writer.write(other)
            if b"Expect" in other:
                await reader.readuntil(b"100 Continue\r\n\r\n")
            status, body = await answer(reader)
            assert (status, body.strip(b"x")) == (200, b"long ")
    assert taker.offered == []


async def test_requests_sent_ahead_are_answered_in_their_order() -> None:
    taker = Taker(at_once=False)
    async with serving(taker) as (_, reader, writer):
        writer.write(request(b"first"))
        await asyncio.sleep(0.03)
        writer.write(request(b"second") + request(b"third"))
        await asyncio.sleep(0.03)
        assert taker.offered == [b"first"]
        taker.tell()
        assert await answer(reader) == (202, b"short")
        assert await answer(reader) == (200, b"long second")
        assert await answer(reader) == (200, b"long third")
        writer.write(request(b"fourth"))
        await asyncio.sleep(0.03)
        taker.tell()
        assert await answer(reader) == (202, b"short")


async def test_an_answer_of_the_application_is_not_overtaken() -> None:
    async with serving(Taker()) as (_, reader, writer):
        writer.write(request(b"first").replace(b"/v1/events", b"/slow"))
        await asyncio.sleep(0.03)
        writer.write(request(b"second"))
        assert await answer(reader) == (200, b"long first")
        assert await answer(reader) == (200, b"long second")


async def test_who_sends_far_ahead_has_to_wait() -> None:
    taker = Taker(at_once=False)
    async with serving(taker) as (_, _reader, writer):
        writer.write(request(b"one"))
        await asyncio.sleep(0.03)
        writer.write(bytes(20 * 2**20))  # more than the buffers of both ends take
        await asyncio.sleep(1)
        assert writer.transport.get_write_buffer_size() > 0
        writer.transport.abort()
        taker.tell()


async def test_a_client_that_left_hurts_nobody() -> None:
    taker = Taker(at_once=False)
    async with serving(taker) as (server, _reader, writer):
        writer.write(request(b"one"))
        await asyncio.sleep(0.03)
        writer.transport.abort()
        while server.server_state.connections:  # noqa: ASYNC110 (there is no event to wait on)
            await asyncio.sleep(0.01)
        taker.tell()


async def test_at_the_end_of_the_server_what_was_taken_is_answered() -> None:
    taker = Taker(at_once=False)
    async with serving(taker) as (server, reader, writer):
        writer.write(request(b"one"))
        await asyncio.sleep(0.03)
        for connection in list(server.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0.03)
        taker.tell()
        rest = await reader.read()
    assert rest.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert b"connection: close\r\n" in rest


async def test_at_the_end_of_the_server_a_request_that_has_begun_is_answered() -> None:
    async with serving(Taker()) as (server, reader, writer):
        whole = request(b"one")
        writer.write(whole[:-3])
        await asyncio.sleep(0.03)
        for connection in list(server.server_state.connections):
            connection.shutdown()
        writer.write(whole[-3:])
        assert await answer(reader) == (200, b"long one")
