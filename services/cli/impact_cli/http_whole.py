"""A short way for requests that come whole: without the task, the scope and the messages of ASGI.

The server makes these for every request, and with one event a request they cost more than the event. So a
request to PATH that is small and has come in one or two packets is first offered to `take`. What `take` does
not want goes to the application, untouched, and so does everything else: other methods and paths, encodings
of the transfer, `Expect`, HTTP/1.0, `Connection: close`, requests sent before the answer to the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

PATH = b"/v1/events"
_BEGIN = b"POST " + PATH + b" HTTP/1.1\r\n"
_END = b"\r\n\r\n"
MAX_BODY_BYTES = HIGH_WATER_LIMIT  # what the server itself takes in before anybody asks for it
BODY_DEADLINE_S = 0.1  # a body that takes longer is the application's to wait for


class Reply(Protocol):
    """What is to be answered."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def media_type(self) -> str: ...


if TYPE_CHECKING:
    # headers in lower case, body, and where the answer goes, later; False: not taken, nothing has happened
    Take = Callable[[list[tuple[bytes, bytes]], bytes, Callable[[Reply], None]], bool]


class WholeRequests(HttpToolsProtocol):
    """The server's protocol with the short way in front, if there is a `take`."""

    take_whole: Take | None = None
    _packet = b""
    _held: list[bytes] | None = None  # the body so far of a request that is not the application's yet
    _missing = 0  # bytes of that body
    _deadline_of_body: asyncio.TimerHandle | None = None
    _answering = False  # a request was taken, and its answer is still to come
    _behind = b""  # what came in the meantime
    _closing = False

    def data_received(self, data: bytes) -> None:
        if self._answering:
            self._behind += data
            self.flow.pause_reading()
            return
        if self._held is not None and len(data) != self._missing:
            self._let_go()
        self._packet = data
        super().data_received(data)
        self._packet = b""

    def on_headers_complete(self) -> None:
        length = self._length_to_hold()
        if length is None:
            super().on_headers_complete()
            return
        self._held, self._missing = [], length
        if self._packet.endswith(_END):  # the body comes by itself
            self._deadline_of_body = self.loop.call_later(BODY_DEADLINE_S, self._let_go)

    def _length_to_hold(self) -> int | None:
        """The length of the body of a request that may be taken."""
        if (
            self.take_whole is None
            or self.url != PATH
            or not self._packet.startswith(_BEGIN)
            or self._is_busy()
        ):
            return None
        if self.expect_100_continue or self.parser.should_upgrade() or not self.parser.should_keep_alive():
            return None
        lengths = [value for name, value in self.headers if name == b"content-length"]
        length = (
            int(lengths[0]) if lengths else 0
        )  # the parser has refused what is no number, and a second one
        came = len(self._packet) - self._packet.index(_END) - len(_END)
        # more than the body: another request is behind this one
        return length if 0 < length <= MAX_BODY_BYTES and came in (0, length) else None

    def _is_busy(self) -> bool:
        return (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        if self._held is None:
            super().on_message_complete()
        elif self.take_whole is not None and self.take_whole(
            self.headers, b"".join(self._held), self._answer
        ):
            self._answering = True
            self._forget()
        else:
            self._let_go()
            super().on_message_complete()

    def _let_go(self) -> None:
        """To the application with it."""
        body = b"".join(self._held or [])
        self._forget()
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _forget(self) -> None:
        self._held = None
        if self._deadline_of_body is not None:
            self._deadline_of_body.cancel()
            self._deadline_of_body = None

    def _answer(self, reply: Reply) -> None:
        self._answering = False
        self.transport.write(self._written(reply))
        if self._closing:
            self.transport.close()
        self.on_response_complete()  # it counts, reads on, and waits for the next request for so long only
        if self._behind and not self._closing:
            behind, self._behind = self._behind, b""
            self.data_received(behind)

    def _written(self, reply: Reply) -> bytes:
        lines = [STATUS_LINE[reply.status]]
        lines += [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        lines += [f"{name.lower()}: {value}\r\n".encode() for name, value in reply.headers.items()]
        if self._closing:
            lines.append(b"connection: close\r\n")
        kind = b"content-type: %b\r\ncontent-length: %d\r\n\r\n"
        lines += [kind % (reply.media_type.encode(), len(reply.body)), reply.body]
        return b"".join(lines)

    def shutdown(self) -> None:
        """Called by the server at its end: what was begun is answered."""
        if self._held is not None:
            self._let_go()
        if self._answering:
            self._closing = True
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)
