"""Heads of requests: bounds that the HTTP server has none for, and refusals in the form of all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from impact_cli.http_whole import WholeRequests
from impact_cli.http_writes import JoinedWrites

if TYPE_CHECKING:
    import asyncio

    from impact_cli.http_whole import Take


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """What a request's head may be. All are settings."""

    max_head_bytes: int = 32 * 1024  # proxies pass 8 to 16 KiB
    max_headers: int = 100
    head_deadline_s: float = 10.0  # from the connection, or from the first byte of a later request


class _RefusedHead(Exception):
    """Ends the parsing of a request."""


def bounded(limits: HeadLimits, take: Take | None = None) -> type[WholeRequests]:
    """The server's protocol with `limits`, and `take` for requests that come whole."""

    class BoundedHeads(WholeRequests):
        """Answers 431 to a head that is too large, 400 to no HTTP, and cuts off one that takes too long."""

        take_whole = staticmethod(take) if take else None
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
                self._refuse(_too_large(limits))
            elif self._deadline is None and self._head_bytes:
                self._start_deadline()

        def on_message_begin(self) -> None:
            self._in_head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            if len(self.headers) > limits.max_headers or self._head_is_too_large():
                self._refuse(_too_large(limits))
                raise _RefusedHead
            if not self._names_one_host():
                raise _RefusedHead
            super().on_headers_complete()

        def _names_one_host(self) -> bool:
            """As HTTP/1.1 asks for: with none or two, a proxy may have seen another request than we do."""
            hosts = sum(name == b"host" for name, _ in self.headers)
            return hosts == 1 or (hosts == 0 and self.parser.get_http_version() != "1.1")

        def _head_is_too_large(self) -> bool:
            if self._head_bytes <= limits.max_head_bytes:  # the common case
                return False
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            return size > limits.max_head_bytes

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (the server's words say less)
            """What the parser cannot read; a head that is cut off by its size is one of those, too."""
            too_large = self._in_head and self._head_bytes > limits.max_head_bytes
            self._refuse(_too_large(limits) if too_large else _MALFORMED)

        def _refuse(self, answer: bytes) -> None:
            if not self._refused:
                self._refused = True
                self.transport.write(answer)
                self.transport.close()

        def _start_deadline(self) -> None:
            self._deadline = self.loop.call_later(limits.head_deadline_s, self.transport.close)

        def _stop_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return BoundedHeads


def _answer(status: int, title: str, code: str, detail: str) -> bytes:
    body = (
        f'{{"type":"about:blank","title":"{title}","status":{status},"code":"{code}","detail":"{detail}"}}'
    ).encode()
    head = (
        f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


_MALFORMED = _answer(
    400, "Bad Request", "malformed_request", "This is no HTTP/1.1 that can be read in one way only."
)


def _too_large(limits: HeadLimits) -> bytes:
    detail = f"A request's head has at most {limits.max_headers} headers and {limits.max_head_bytes} bytes."
    return _answer(431, "Request Header Fields Too Large", "head_too_large", detail)
