"""Heads of requests have bounds in size, number and time; everything else passes as it came."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn

from impact_cli.http_heads import HeadLimits, bounded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

LIMITS = HeadLimits(max_head_bytes=2_000, max_headers=10, head_deadline_s=0.3)
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


async def count_body(_scope: Scope, receive: Receive, send: Send) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = b"%d" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connected(
    limits: HeadLimits = LIMITS,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(count_body, http=bounded(limits), ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.startup(sockets=[listening])
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        for one in server.servers:
            one.close()
        while server.server_state.connections:  # noqa: ASYNC110 (there is no event to wait on)
            await asyncio.sleep(0.01)


async def answer_of(*pieces: bytes, pause_s: float = 0.0, limits: HeadLimits = LIMITS) -> bytes:
    async with connected(limits) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(3):
            return await reader.read()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    return await reader.read(100)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 3_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 3_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 11 + b"\r\n",
        b"GET / HTTP/1.1\r\nX-Never-Ends: " + b"x" * 3_000,
    ],
    ids=["a large header", "a long path", "many headers", "a head without an end"],
)
async def test_a_head_that_is_too_large_is_431(head: bytes) -> None:
    for answer in (await answer_of(head), await answer_of(head[:1_500], head[1_500:], pause_s=0.05)):
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"head_too_large" in answer


async def test_a_small_head_with_a_large_body_passes_and_so_do_the_next_requests() -> None:
    async with connected() as (reader, writer):
        for size in (50_000, 0, 7):
            assert await exchange(reader, writer, REQUEST % size + b"x" * size) == b"%d" % size


async def test_a_head_that_takes_too_long_is_cut_off() -> None:
    for pieces in ((), (b"GET / HTTP/1.1\r\n", b"Host: x\r\n")):
        started = time.perf_counter()
        assert await answer_of(*pieces, pause_s=0.1) == b""
        assert time.perf_counter() - started < 2


async def test_a_slow_head_after_a_good_request_is_cut_off_too() -> None:
    async with connected() as (reader, writer):
        assert await exchange(reader, writer, REQUEST % 3 + b"abc") == b"3"
        writer.write(b"GET / HTTP/1.1\r\nHost")
        async with asyncio.timeout(2):
            assert await reader.read() == b""


async def test_a_slow_body_and_a_pause_between_requests_are_no_slow_head() -> None:
    async with connected() as (reader, writer):
        writer.write(REQUEST % 2 + b"a")
        await asyncio.sleep(0.5)
        assert await exchange(reader, writer, b"b") == b"2"
        await asyncio.sleep(0.5)
        assert await exchange(reader, writer, REQUEST % 1 + b"x") == b"1"


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
    ],
    ids=["no HTTP", "no host", "two hosts", "a length and chunks", "two lengths"],
)
async def test_what_is_no_http_is_400_as_a_problem(head: bytes) -> None:
    answer, _, body = (await answer_of(head)).partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert b"connection: close" in answer
    assert json.loads(body)["code"] == "malformed_request"


async def test_http_1_0_needs_no_host() -> None:
    assert (await answer_of(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
