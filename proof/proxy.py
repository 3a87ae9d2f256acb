"""A TCP proxy that misbehaves when told: cut, hold, delay, trickle, reset in mid-frame, lose an answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Literal

_CHUNK = 65_536
Way = Literal["there", "back"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the proxy does to new and to open connections."""

    refuse: bool = False  # new connections are reset
    held: frozenset[Way] = frozenset()  # bytes of these ways are kept back until the trouble is over
    delay_s: float = 0.0
    bytes_per_s: float = 0.0  # 0: no limit
    reset_after: int = 0  # each connection, after so many bytes of an answer; 0: never
    lose_answer: bytes = b""  # a connection is reset when an answer with these bytes would pass


NONE = Trouble()


class Proxy:
    """Listens on `port` of the loopback address for `target`, in a thread of its own."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.lost = 0  # answers that `lose_answer` swallowed
        self._target = target
        self._trouble = NONE
        self._over = asyncio.Event()  # set while nothing is held back
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def stop(self) -> None:
        """Resets every connection and ends."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def make(self, trouble: Trouble) -> None:
        """From now on, until another trouble or NONE is made."""
        self._loop.call_soon_threadsafe(self._make, trouble)

    def reset(self) -> None:
        """Cuts every open connection with RST."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def _make(self, trouble: Trouble) -> None:
        self._trouble = trouble
        if trouble.held:
            self._over.clear()
        else:
            self._over.set()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _listen(self) -> None:
        self._over.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._trouble.refuse:
            _reset(writer)
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        pair = {writer, there_writer}
        self._writers |= pair
        try:
            await asyncio.gather(
                self._pump(reader, there_writer, "there", pair),
                self._pump(there_reader, writer, "back", pair),
            )
        finally:
            self._writers -= pair
            for one in pair:
                one.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Way,
        pair: set[asyncio.StreamWriter],
    ) -> None:
        try:
            await self._pass_on(reader, writer, way, pair)
        except OSError:  # one end was reset: so is the other
            for one in pair:
                _reset(one)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Way,
        pair: set[asyncio.StreamWriter],
    ) -> None:
        passed = 0
        while data := await reader.read(_CHUNK):
            while way in self._trouble.held:
                await self._over.wait()
            trouble = self._trouble
            if trouble.delay_s:
                await asyncio.sleep(trouble.delay_s)
            passed += len(data)
            if way == "back" and self._cuts(trouble, data, passed):
                writer.write(data[: len(data) // 2] if trouble.reset_after else b"")
                for one in pair:
                    _reset(one)
                return
            await self._write(writer, data, trouble.bytes_per_s)
        writer.write_eof()

    def _cuts(self, trouble: Trouble, data: bytes, passed: int) -> bool:
        if trouble.lose_answer and trouble.lose_answer in data:
            self.lost += 1
            return True
        return 0 < trouble.reset_after <= passed

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, data: bytes, bytes_per_s: float) -> None:
        if not bytes_per_s:
            writer.write(data)
            await writer.drain()
            return
        step = max(1, round(bytes_per_s / 20))
        for begin in range(0, len(data), step):
            writer.write(data[begin : begin + step])
            await writer.drain()
            await asyncio.sleep(step / bytes_per_s)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
