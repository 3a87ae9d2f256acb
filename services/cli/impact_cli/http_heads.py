"""Bounds for the heads of requests, which the HTTP server has none for: size, number of headers, and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from impact_cli.http_writes import JoinedWrites

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """What a request's head may be. All are settings."""

    max_head_bytes: int = 32 * 1024  # proxies pass 8 to 16 KiB
    max_headers: int = 100
    head_deadline_s: float = 10.0  # from the connection, or from the first byte of a later request


class _HeadTooLarge(Exception):
    """Ends the parsing of a request."""


def bounded(limits: HeadLimits) -> type[HttpToolsProtocol]:
    """The server's protocol with `limits`."""

    class BoundedHeads(HttpToolsProtocol):
        """Answers 431 to a head that is too large, and closes a connection whose head takes too long."""

        _in_head = True
        _head_bytes = 0
        _deadline: asyncio.TimerHandle | None = None
        _refused = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            joined = JoinedWrites(transport, self.loop)  # type: ignore[arg-type]  # as uvicorn declares it
            super().connection_made(joined)  # type: ignore[arg-type]  # it has all that a transport has
            self._start_deadline()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_deadline()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            # before the parser sees it: a head that arrives whole is counted as part of what came with it
            self._head_bytes = self._head_bytes + len(data) if self._in_head else len(data)
            super().data_received(data)
            if self._refused or not self._in_head:
                self._stop_deadline()
            elif self._head_bytes > limits.max_head_bytes:
                self.send_400_response("")
            elif self._deadline is None and self._head_bytes:
                self._start_deadline()

        def on_message_begin(self) -> None:
            self._in_head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            if len(self.headers) > limits.max_headers or self._head_is_too_large():
                self._refused = True
                raise _HeadTooLarge
            super().on_headers_complete()

        def _head_is_too_large(self) -> bool:
            if self._head_bytes <= limits.max_head_bytes:  # the common case
                return False
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            return size > limits.max_head_bytes

        def send_400_response(self, msg: str) -> None:
            """Answers 431 where the head was refused, and as the server does to what is no HTTP."""
            if not self._refused and not (self._in_head and self._head_bytes > limits.max_head_bytes):
                super().send_400_response(msg)
                return
            self._refused = True
            self.transport.write(_answer(limits))
            self.transport.close()

        def _start_deadline(self) -> None:
            self._deadline = self.loop.call_later(limits.head_deadline_s, self.transport.close)

        def _stop_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return BoundedHeads


def _answer(limits: HeadLimits) -> bytes:
    detail = f"A request's head has at most {limits.max_headers} headers and {limits.max_head_bytes} bytes."
    body = (
        '{"type":"about:blank","title":"Request Header Fields Too Large","status":431,'
        f'"code":"head_too_large","detail":"{detail}"}}'
    ).encode()
    head = (
        "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
