"""A client that sends one request again and again over many connections until it is ended.

python flooding.py PORT CONNECTIONS < REQUEST
"""

from __future__ import annotations

import asyncio
import sys


async def flood(port: int, request: bytes) -> None:
    """Over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))


async def main() -> None:
    """All connections together."""
    port, connections = map(int, sys.argv[1:])
    request = sys.stdin.buffer.read()
    await asyncio.gather(*(flood(port, request) for _ in range(connections)))


if __name__ == "__main__":
    asyncio.run(main())
