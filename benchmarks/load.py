"""Sends batches of events over keep-alive connections; costs little itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CONNECTIONS = 8


class Client:
    """One connection that sends one request after the other."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._head = (
            f"POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/cloudevents-batch+json\r\nContent-Length: "
        ).encode()

    async def open(self) -> None:
        """Connects. Raises OSError."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def post(self, body: bytes) -> None:
        """Returns with the 202. Raises RuntimeError for any other answer."""
        self._writer.write(self._head + b"%d\r\n\r\n" % len(body) + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        answer = await self._reader.readexactly(length)
        if b" 202 " not in head[:20]:
            raise RuntimeError((head + answer)[:500].decode())

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()


async def post_all(
    port: int, key: str, bodies: Iterable[bytes], interval_s: float = 0.0, connections: int = CONNECTIONS
) -> None:
    """Sends every body; at most one each `interval_s`, as fast as the answers come without it."""
    queue = iter(bodies)
    started = time.perf_counter()
    sent = 0

    async def work() -> None:
        nonlocal sent
        client = Client(port, key)
        await client.open()
        for body in queue:
            due = started + sent * interval_s
            sent += 1
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await client.post(body)
        client.close()

    await asyncio.gather(*(work() for _ in range(connections)))
