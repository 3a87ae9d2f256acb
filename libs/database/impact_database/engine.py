"""Opens the metrics database: PostgreSQL (schema `impact`) or an SQLite file."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

SCHEMA = "impact"
STATEMENT_TIMEOUT_MS = 60_000  # far below max_poll_interval: a stuck database must not cost the group


# seconds without a word, between questions, questions; milliseconds for what was sent and not confirmed
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}


class UnsupportedDatabase(ValueError):
    """The URL names a database other than PostgreSQL and SQLite."""


class SchemaOutOfDate(Exception):
    """The database's schema is not the one that this version needs. `impact_database.migrate` raises it."""


def connect(url: str) -> AsyncEngine:
    """An engine for `url` (`sqlite:///metrics.db` or `postgresql://user@host/name`). Opens nothing yet.

    On PostgreSQL every connection finds the tables and views in the schema `impact`.
    Raises UnsupportedDatabase.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _connect_sqlite(parsed)
    if backend == "postgresql":
        return _connect_postgresql(parsed)
    raise UnsupportedDatabase(
        f"{backend!r} is not supported: IMPACT_DATABASE_URL takes a postgresql:// or a sqlite:/// URL"
    )


def read_only(engine: AsyncEngine) -> AsyncEngine:
    """The same engine for readers: on SQLite its transactions do not take the write lock."""
    return engine.execution_options(impact_read_only=True)


def durable(engine: AsyncEngine) -> AsyncEngine:
    """The same engine for what no event log brings back, such as keys: on SQLite, too, COMMIT syncs."""
    return engine.execution_options(impact_durable=True)


def _connect_postgresql(url: URL) -> AsyncEngine:
    settings = {
        "search_path": SCHEMA,
        "application_name": "impact",
        "timezone": "UTC",
        "statement_timeout": str(STATEMENT_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
    }
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        pool_pre_ping=True,
        pool_size=5,
        connect_args={"server_settings": settings, "timeout": 10},
    )
    event.listen(engine.sync_engine, "connect", _notice_a_dead_peer)
    return engine


def _notice_a_dead_peer(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """A server whose machine is gone closes nothing: the kernel asks after it, and gives up in 30 s."""
    raw: Any = connection
    transport = raw.driver_connection._transport  # noqa: SLF001 - the driver gives no other way to its socket
    peer = transport.get_extra_info("socket")
    if peer.family == socket.AF_UNIX:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has all of them
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _connect_sqlite(url: URL) -> AsyncEngine:
    engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"), connect_args={"timeout": 30})
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    raw: Any = connection
    raw.isolation_level = None  # transactions are begun below, not by the driver's guesses
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "temp_store=MEMORY", "cache_size=-65536"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("impact_read_only", False):
        connection.exec_driver_sql("BEGIN")
        return
    # numbers need no sync of their own: after a power cut their offset is as old as they are
    level = "FULL" if options.get("impact_durable", False) else "NORMAL"
    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    # a transaction that reads first and writes later fails under a second writer: writers lock at once
    connection.exec_driver_sql("BEGIN IMMEDIATE")
