"""Runs an HTTP app beside other work until a signal comes or one of them ends."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from impact_cli.http_heads import HeadLimits, bounded
from impact_cli.settings import load_limits
from impact_cli.terminal import Refused

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from starlette.types import ASGIApp

    from impact_cli.http_whole import Take

GRACE_S = 10  # what a request under way may take after the signal; below the 30 s of most supervisors
KEEP_ALIVE_S = 75  # longer than a load balancer's 60: it must be the one that closes
BACKLOG = 2048
STOPPING = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int) -> socket.socket:
    """The listening socket. Raises Refused if the port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Refused(
                f"port {port} on {host} is taken by another process: choose one with --port (0: any free one)"
            ) from error
        detail = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise Refused(f"{detail}: give an address of this machine as IMPACT_HOST") from error


def url_of(listening: socket.socket) -> str:
    """As a client on this machine reaches it."""
    host, port = listening.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 (read, not bound here)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    *beside: Coroutine[None, None, None],
    take: Take | None = None,
) -> None:
    """Serves `app` with the work `beside` it until SIGTERM, SIGINT, or the end of any of them.

    Requests that come whole are offered to `take` first.

    Requests under way get GRACE_S to end; then the work beside is cancelled. Raises what any of it raised,
    and SettingsError.
    """
    server = _Server(_config(app, load_limits(HeadLimits), take))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    others = [asyncio.create_task(work) for work in beside]
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([serving, waiting, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for number in STOPPING:
            loop.remove_signal_handler(number)  # a second signal ends the process at once
        server.should_exit = True
        ended = [task for task in others if task.done()]
        await asyncio.gather(serving, return_exceptions=True)
        for task in (waiting, *others):
            task.cancel()
        await asyncio.gather(waiting, *others, return_exceptions=True)
    for task in (serving, *ended):
        task.result()


def _config(app: ASGIApp, heads: HeadLimits, take: Take | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded(heads, take),  # with httptools, which refuses the request smuggling that h11 lets pass
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks for the client's address
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


class _Server(uvicorn.Server):
    """Leaves signals to `serve`: uvicorn's own handlers end the process before the log is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
