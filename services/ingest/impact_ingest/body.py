"""Reads a request's body within limits: bytes on the wire, time, bytes in flight, inflated bytes, ratio."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import zstandard

from impact_ingest.limits import MIB, Limits
from impact_ingest.problems import Problem, too_large, unreadable

if TYPE_CHECKING:
    from starlette.types import Receive

    from impact_ingest.admission import Room

MAX_ZSTD_WINDOW = 8 * MIB  # what RFC 9659 lets a `Content-Encoding: zstd` use
ENCODINGS = ("identity", "gzip", "zstd")


class ClientGone(Exception):
    """The client left before its body was complete: nobody is there to be answered."""


class Body:
    """The body of one request, while it arrives."""

    def __init__(self, receive: Receive, headers: dict[bytes, bytes]) -> None:
        self._receive = receive
        self._length = headers.get(b"content-length")
        self._expired = False
        self.arrived = self._length in (None, b"0") and b"transfer-encoding" not in headers

    def check_length(self, limits: Limits) -> None:
        """Refuses by its announced length a body that will be too large. Raises Problem 413."""
        # the server has refused what is no number
        if self._length is not None and int(self._length) > limits.max_wire_bytes:
            raise _wire_too_large(limits)

    async def read(self, limits: Limits, room: Room) -> bytes:
        """The whole body as received. Raises Problem 413, 408 or 503, and ClientGone."""
        self.arrived = False
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        # what asyncio.timeout does, at a third of its cost, which every small request would feel
        deadline = asyncio.get_running_loop().call_later(limits.body_deadline_s, self._expire, task)
        try:
            return await self._collect(limits, room)
        except asyncio.CancelledError:
            if not self._expired or task.uncancel() > 0:
                raise
            detail = f"The body did not arrive within {limits.body_deadline_s:g} s."
            raise Problem(408, "body_timeout", detail) from None
        finally:
            deadline.cancel()

    def _expire(self, task: asyncio.Task[Any]) -> None:
        self._expired = True
        task.cancel()

    async def _collect(self, limits: Limits, room: Room) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while not self.arrived:
            chunk = await self._next()
            size += len(chunk)
            if size > limits.max_wire_bytes:
                raise _wire_too_large(limits)
            room.grow(len(chunk))
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.arrived = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    async def drain(self, limits: Limits) -> None:
        """Reads on after a refusal, within limits: a client that is cut off while it sends sees no answer."""
        left = limits.drain_bytes
        with suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(limits.drain_s):
                while not self.arrived and left > 0:
                    left -= len(await self._next())


def _wire_too_large(limits: Limits) -> Problem:
    return too_large(f"The body is larger than {limits.max_wire_bytes} bytes: send fewer events a request.")


def inflate(wire: bytes, encoding: str, limits: Limits) -> bytes:
    """The body without its Content-Encoding. Raises Problem 400 (damaged) or 413 (too large)."""
    if encoding == "identity":
        body = wire
    elif encoding == "gzip":
        body = _gunzip(wire, limits.max_body_bytes + 1)
    else:
        body = _unzstd(wire, limits.max_body_bytes + 1)
    if len(body) > limits.max_body_bytes:
        raise too_large(f"The body is larger than {limits.max_body_bytes} bytes inflated: send fewer events.")
    if len(body) > MIB and len(body) > limits.max_inflate_ratio * len(wire):
        raise too_large(f"The body inflates to more than {limits.max_inflate_ratio} times its size.")
    return body


def _gunzip(wire: bytes, at_most: int) -> bytes:
    parts: list[bytes] = []
    rest, size = wire, 0
    while rest or not parts:
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(rest, at_most - size)
        except zlib.error:
            raise _damaged("gzip") from None
        parts.append(part)
        size += len(part)
        if size >= at_most:
            break
        if not member.eof:
            raise _damaged("gzip")
        rest = member.unused_data
    return b"".join(parts)


def _unzstd(wire: bytes, at_most: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    try:
        # the reader is bounded, but takes a cut-off frame for a whole one
        with decompressor.stream_reader(wire, read_across_frames=True) as reader:
            body = _read_up_to(reader, at_most)
        if len(body) < at_most and not _is_whole(wire, decompressor):
            raise _damaged("zstd")
    except zstandard.ZstdError:
        raise _damaged("zstd") from None
    return body


def _read_up_to(reader: zstandard.ZstdDecompressionReader, at_most: int) -> bytes:
    parts: list[bytes] = []
    left = at_most
    while left and (part := reader.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _is_whole(wire: bytes, decompressor: zstandard.ZstdDecompressor) -> bool:
    """Whether `wire` is complete frames only. For input whose inflated size is known to be bounded."""
    rest = wire
    while rest:
        frame = decompressor.decompressobj()
        frame.decompress(rest)
        if not frame.eof:
            return False
        rest = frame.unused_data
    return bool(wire)


def _damaged(encoding: str) -> Problem:
    return unreadable(f"The body is not whole {encoding} data: it is damaged or was cut off.")
