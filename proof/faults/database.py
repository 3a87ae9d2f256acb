"""The database restarts, dies, hangs, refuses, locks, or is away when partitions are given out."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, TypeVar

import asyncpg  # type: ignore[import-untyped]  # it has no types
from sqlalchemy import make_url

from proof.scene import Fault, Scene
from proof.topologies import start_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def restart(scene: Scene) -> None:
    for _ in range(2):
        scene.moment()
        scene.servers.postgres.restart()


def kill_server(scene: Scene) -> None:
    scene.moment()
    scene.servers.postgres.kill()
    scene.moment()
    scene.servers.postgres.start()


def kill_a_backend(scene: Scene) -> None:
    """kill -9 of one backend makes the server end all of them and recover."""
    for _ in range(3):
        scene.moment()
        (pid,) = scene.random.sample(_backends(scene), 1)
        os.kill(pid, signal.SIGKILL)
        scene.moment(1.0, 2.0)


def hang(scene: Scene) -> None:
    scene.moment()
    server = scene.servers.postgres.process
    pids = [server.pid, *_backends(scene)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        scene.last(90)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def end_backends(scene: Scene) -> None:
    ended = 0
    ends = time.monotonic() + max(4.0, 20 * scene.pace)
    sql = (
        "SELECT COUNT(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
        " WHERE application_name = 'impact' ORDER BY random() LIMIT 2) AS chosen"
    )
    while time.monotonic() < ends:
        scene.moment(0.1, 0.6)
        ended += _run(scene, lambda connection: connection.fetchval(sql))
    scene.tell(f"{ended} ended")


def use_up_connections(scene: Scene) -> None:
    """Whoever comes first has them: processes that lose theirs find none."""

    async def hold() -> None:
        held = []
        try:
            while True:
                held.append(await asyncpg.connect(_address(scene), timeout=10))
        except asyncpg.TooManyConnectionsError:
            pass
        await held[0].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'impact'"
        )
        try:
            while True:
                held.append(await asyncpg.connect(_address(scene), timeout=10))
        except asyncpg.TooManyConnectionsError:
            scene.tell(f"{len(held)} taken")
        await asyncio.sleep(max(2.0, 20 * scene.pace))
        for connection in held:
            await connection.close()

    asyncio.run(hold())


def deadlock(scene: Scene) -> None:
    """Another session locks rows of the ledger and of the claims in the opposite order of the fold's."""

    async def lock() -> None:
        for _ in range(10):
            connection = await asyncpg.connect(_address(scene))
            try:
                async with connection.transaction():
                    await connection.execute("SELECT 1 FROM impact.ledger_count FOR UPDATE")
                    await asyncio.sleep(0.5)
                    await connection.execute("SELECT 1 FROM impact.claim FOR UPDATE")
            except asyncpg.DeadlockDetectedError:
                pass  # this session was the victim; the fold will be another time
            finally:
                await connection.close()

    asyncio.run(lock())
    ((deadlocks,),) = scene.service.rows(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    if not deadlocks:
        raise RuntimeError("no deadlock came about: the fault did not happen")
    scene.tell(f"{deadlocks} deadlocks")


def long_lock(scene: Scene) -> None:
    async def hold(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await connection.execute("LOCK TABLE impact.bucket IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(max(2.0, 30 * scene.pace))

    _run(scene, hold)


def away_at_assignment(scene: Scene) -> None:
    """An aggregator dies while the database is down: the other is given its partitions and cannot claim."""
    scene.moment()
    scene.servers.postgres.kill()
    victim = scene.aggregator()
    victim.stop(signal.SIGKILL)
    time.sleep(10)  # longer than the session: the partitions are given out again meanwhile
    scene.servers.postgres.start()
    start_all([victim])


def _backends(scene: Scene) -> list[int]:
    sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'impact' AND pid <> pg_backend_pid()"
    return [row["pid"] for row in _run(scene, lambda connection: connection.fetch(sql))]


def _run(scene: Scene, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    async def connected() -> T:
        connection = await asyncpg.connect(_address(scene), timeout=10)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(connected())


def _address(scene: Scene) -> str:
    url = make_url(scene.production.database_url).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


FAULTS = (
    Fault("database-restart", "20", "restart of the database, twice", restart),
    Fault("kill-database", "21", "kill -9 of the database with all its backends", kill_server),
    Fault("kill-backend", "21", "kill -9 of one backend, three times", kill_a_backend),
    Fault("database-hangs", "22", "SIGSTOP of the database for 90 s", hang),
    Fault("backends-ended", "23", "backends ended at random", end_backends),
    Fault("connections-used-up", "24", "all connections taken by others", use_up_connections),
    Fault("deadlock", "25", "locks in the opposite order", deadlock),
    Fault("long-lock", "26", "a lock on the buckets for 30 s", long_lock),
    Fault(
        "database-away-at-assignment",
        "27",
        "the database is down while partitions are given out",
        away_at_assignment,
    ),
)
