"""What is written in one step of the event loop leaves together, in order, and before the end."""

from __future__ import annotations

import asyncio

from impact_cli.http_writes import JoinedWrites


class Wire(asyncio.Transport):
    """A transport that remembers."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.sent.append(b"the end")


async def test_head_and_body_leave_in_one_write_and_the_next_step_in_another() -> None:
    wire = Wire()
    joined = JoinedWrites(wire, asyncio.get_running_loop())
    joined.write(b"head ")
    joined.write(b"body")
    assert wire.sent == []
    await asyncio.sleep(0)
    assert wire.sent == [b"head body"]
    joined.write(b"next")
    await asyncio.sleep(0)
    assert wire.sent == [b"head body", b"next"]


async def test_what_was_written_is_sent_before_the_connection_closes() -> None:
    wire = Wire()
    joined = JoinedWrites(wire, asyncio.get_running_loop())
    joined.write(b"last words")
    joined.close()
    await asyncio.sleep(0)
    assert wire.sent == [b"last words", b"the end"]


async def test_everything_else_is_the_transports_own() -> None:
    assert JoinedWrites(Wire(), asyncio.get_running_loop()).get_extra_info("peername") == ("127.0.0.1", 1)
