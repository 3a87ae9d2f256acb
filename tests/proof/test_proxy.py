"""The proxy's troubles, on a server that echoes."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING

import pytest

from proof.proxy import NONE, Proxy, Trouble
from tests.rig.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy = Proxy(free_port(), server.server_address[1])
        proxy.start()
        yield proxy
        proxy.stop()
        server.shutdown()


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def test_without_trouble_everything_passes(proxy: Proxy) -> None:
    with connected(proxy) as one:
        one.sendall(b"hello")
        assert one.recv(100) == b"hello"


def test_what_is_held_back_arrives_when_the_trouble_is_over(proxy: Proxy) -> None:
    with connected(proxy) as one:
        one.sendall(b"before")
        assert one.recv(100) == b"before"
        proxy.make(Trouble(held=frozenset({"back"})))
        time.sleep(0.1)
        one.sendall(b"held")
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.recv(100)
        proxy.make(NONE)
        one.settimeout(5)
        assert one.recv(100) == b"held"


def test_a_lost_answer_is_a_reset_and_is_counted(proxy: Proxy) -> None:
    with connected(proxy) as one:
        one.sendall(b"COMMIT")
        assert one.recv(100) == b"COMMIT"
        proxy.make(Trouble(lose_answer=b"COMMIT"))
        time.sleep(0.1)
        one.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            one.recv(100)
    assert proxy.lost == 1


def test_a_cut_resets_open_connections_and_refuses_new_ones(proxy: Proxy) -> None:
    with connected(proxy) as one:
        one.sendall(b"before")
        assert one.recv(100) == b"before"
        proxy.make(Trouble(refuse=True))
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            one.recv(100)
    with connected(proxy) as another, pytest.raises(ConnectionResetError):
        another.recv(100)


def test_a_slow_line_takes_its_time(proxy: Proxy) -> None:
    proxy.make(Trouble(delay_s=0.2))
    with connected(proxy) as one:
        started = time.monotonic()
        one.sendall(b"hello")
        assert one.recv(100) == b"hello"
        assert time.monotonic() - started >= 0.4
