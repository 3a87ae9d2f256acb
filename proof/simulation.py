"""A deterministic simulation: the real aggregators over a fake log, a fake clock and SQLite in memory.

Two aggregators share the partitions of a small log. At every await (each statement, each poll) the schedule
may kill one, put it to sleep beyond its session, fail a statement, lose the answer of a COMMIT, take the log
away or share the partitions out anew. Time is virtual: a schedule of minutes takes milliseconds. Everything
follows from the seed and the list of accidents, so that a failing schedule can be repeated and made shorter.

    python -m proof.simulation [--minutes 1] [--seed N] [--jobs N] [--without dedup,identity-key]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import selectors
import sqlite3
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import structlog
from prometheus_client import CollectorRegistry
from rich.console import Console
from sqlalchemy import create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from impact_aggregator.active import activate
from impact_aggregator.runner import Aggregator
from impact_database import migrate
from impact_database.engine import connect
from impact_eventlog import LogUnavailable, Partition, Record
from impact_schemas.catalog import parse_catalog
from impact_schemas.identity import Identities
from impact_schemas.wire import encode_record, partition_of
from proof import blindness
from proof.ledger import SOURCE, Sent, collected, conflicting, retracting
from proof.oracle import Red

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from impact_schemas.catalog import Catalog

Accident = Literal["kill", "sleep", "fail", "lose commit", "no log", "rebalance"]
ACCIDENTS: tuple[Accident, ...] = get_args(Accident)

_TOPIC = "events"
_PARTITIONS = 2
_BEGIN_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
_DEADLINE_S = 600.0  # of virtual time: eight accidents cost less than half of it
_SLEEP_S = 20.0
_SESSION_S = 6.0
_RESTART_S = 3.0
_IDENTITIES = Identities(b"s" * 32)
_EVENT = "event: proof.collected.v1, role: impact, windows: [all]"
_CATALOG = f"""
apiVersion: impact/v1
product: proof
title: Simulated
sources: ["{SOURCE}"]
events:
  proof.collected.v1: {{data: {{type: object, properties: {{kg: {{type: number}}}}}}}}
metrics:
  collections: {{title: Collections, {_EVENT}, aggregate: count}}
  waste: {{title: Waste, {_EVENT}, aggregate: sum, of: data.kg}}
  people: {{title: People, {_EVENT}, aggregate: unique, of: subject}}
"""


class Schedule(NamedTuple):
    """All that a run depends on: seed of log and delays; accidents, each so many awaits after the last."""

    seed: int
    accidents: tuple[tuple[int, Accident], ...]


class Killed(BaseException):
    """The process is gone: nothing that its code does from here on has an effect."""


def random_schedule(seed: int) -> Schedule:
    """One to eight accidents."""
    source = random.Random(seed)
    accidents = [(source.randint(0, 60), source.choice(ACCIDENTS)) for _ in range(source.randint(1, 8))]
    return Schedule(seed, tuple(accidents))


def simulate(schedule: Schedule) -> int:
    """Runs until everything is counted, and compares with plain arithmetic. Gives the awaits; raises Red."""
    _template()  # made before there is a virtual clock
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner, structlog.testing.capture_logs():
        return runner.run(_simulate(schedule))


# --- time ---------------------------------------------------------------------------------------------


class _VirtualLoop(asyncio.SelectorEventLoop):
    """Waiting takes no time: the clock jumps to the next thing to do."""

    def __init__(self) -> None:
        super().__init__(_NoSelector(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Says nothing: a process that is killed leaves transactions whose end nobody waits for."""


class _NoSelector(selectors.SelectSelector):
    def __init__(self, loop: _VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits for something that never comes")
        self._loop.now += max(0.0, timeout)
        return []


# --- one process, and what can happen to it -------------------------------------------------------------


@dataclass(eq=False)
class _Life:
    """One process from its start to its end."""

    holder: str
    dead: bool = False
    silent: bool = False
    assigned: dict[Partition, int] = field(default_factory=dict)  # as it last heard
    next: dict[Partition, int] = field(default_factory=dict)


class _World:
    """What all processes share: chance, the log with its group, and the database."""

    def __init__(self, schedule: Schedule, log: Mapping[Partition, Sequence[Record]]) -> None:
        self.random = random.Random(schedule.seed)
        self.log = log
        self.awaits = 0
        self._accidents = deque(schedule.accidents)
        self._next_at = self._accidents[0][0] if self._accidents else -1
        self._pending: list[Accident] = []  # until a place comes where they can happen
        self._members: list[_Life] = []
        self._shares: dict[_Life, dict[Partition, int]] = {}
        self._generation = 0
        database = _database()
        database.empty()
        self.raw, self.engine = database.raw, database.engine
        self.lock = asyncio.Lock()
        self.trace: list[str] = []  # what happened to whom

    async def step(self, life: _Life) -> None:
        """An await: others go on, and an accident may happen."""
        self._alive(life)
        self.awaits += 1
        while self._accidents and self.awaits >= self._next_at:
            self._pending.append(self._accidents.popleft()[1])
            self._next_at = self.awaits + (self._accidents[0][0] if self._accidents else 0)
        if self.happens("kill", life):
            life.dead = True
        elif self.happens("sleep", life):
            life.silent = True
            asyncio.get_running_loop().call_later(_SESSION_S, self.leave, life)
            await asyncio.sleep(_SLEEP_S)
            life.silent = False
        elif self.happens("rebalance", life):
            self.share_out()
        else:
            await asyncio.sleep(self.random.uniform(0.0, 0.01))
        self._alive(life)

    def happens(self, accident: Accident, life: _Life) -> bool:
        """Whether this accident is due; it happens once."""
        if accident in self._pending:
            self._pending.remove(accident)
            self.trace.append(f"{accident}, {life.holder}, at await {self.awaits}")
            return True
        return False

    @staticmethod
    def _alive(life: _Life) -> None:
        if life.dead:
            raise Killed

    def join(self, life: _Life) -> None:
        """A member more, also one that was thought gone."""
        if life not in self._members:
            self._members.append(life)
            self.share_out()

    def leave(self, life: _Life) -> None:
        """A member that has said nothing for too long."""
        if life in self._members and (life.dead or life.silent):
            self._members.remove(life)
            self.share_out()

    def share_out(self) -> None:
        """Every partition to one member, under a new number; members hear of it at their next poll."""
        self._generation += 1
        self._shares = {life: {} for life in self._members}
        for place, partition in enumerate(self.log):
            if self._members:
                owner = self._members[(place + self._generation) % len(self._members)]
                self._shares[owner][partition] = self._generation

    def hear(self, life: _Life) -> None:
        """The member learns what is its own now."""
        self.join(life)
        if life.assigned != self._shares[life]:
            life.assigned = dict(self._shares[life])
            life.next = {}


class _Reader:
    """The log as a member of the group reads it; without a group it has everything. See EventLogReader."""

    def __init__(self, world: _World, life: _Life, *, grouped: bool) -> None:
        self._world = world
        self._life = life
        self._grouped = grouped
        self._next = life.next if grouped else {}

    async def start(self) -> None:
        """Joins."""
        await self._world.step(self._life)
        if self._grouped:
            self._world.hear(self._life)

    def assignment(self) -> Mapping[Partition, int]:
        return self._life.assigned

    def seek(self, partition: Partition, offset: int) -> None:
        if not self._grouped or partition in self._life.assigned:
            self._positions()[partition] = offset

    def leave(self, partition: Partition) -> None:
        self._positions().pop(partition, None)

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        await self._world.step(self._life)
        if self._world.happens("no log", self._life):
            raise LogUnavailable("no log")
        if self._grouped:
            self._world.hear(self._life)
        positions = self._positions()
        found: list[Record] = []
        for partition, position in positions.items():
            found += self._world.log[partition][position : position + self._world.random.randint(1, 3)]
        for record in found:
            positions[record.partition] = record.offset + 1
        if not found:
            await asyncio.sleep(timeout_s)
        return found

    async def end_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        await self._world.step(self._life)
        return {partition: len(self._world.log[partition]) for partition in partitions}

    async def log_id(self, topic: str) -> str:
        await self._world.step(self._life)
        return topic

    async def stop(self) -> None:
        """Nothing to close."""

    def _positions(self) -> dict[Partition, int]:
        return self._life.next if self._grouped else self._next


class _SimulatedEngine:
    """An AsyncEngine over SQLite in memory, one transaction at a time: a row that two want has one holder."""

    def __init__(self, world: _World, life: _Life) -> None:
        self._world = world
        self._life = life
        self.dialect = world.engine.dialect

    def execution_options(self, **_: object) -> _SimulatedEngine:
        return self

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_SimulatedConnection]:
        await self._world.step(self._life)  # asleep here, another may take over before the transaction begins
        async with self._world.lock:
            with self._world.engine.connect() as connection:
                yield _SimulatedConnection(self._world, self._life, connection)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[_SimulatedConnection]:
        await self._world.step(self._life)  # asleep here, another may take over before the transaction begins
        async with self._world.lock:
            with self._world.engine.connect() as connection:
                yield _SimulatedConnection(self._world, self._life, connection)
                await self._world.step(self._life)  # killed here: nothing is committed
                connection.commit()
                if self._world.happens("lose commit", self._life):
                    raise _broken("the answer of COMMIT is lost")
            await self._world.step(self._life)  # killed here: all is committed


class _SimulatedConnection:
    def __init__(self, world: _World, life: _Life, connection: Connection) -> None:
        self._world = world
        self._life = life
        self._connection = connection
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        await self._passes()
        return self._connection.execute(statement, parameters)

    async def scalar(self, statement: Any) -> Any:
        return (await self.execute(statement)).scalar()

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> Any:
        await self._passes()
        return self._connection.exec_driver_sql(statement, parameters)

    async def _passes(self) -> None:
        await self._world.step(self._life)
        if self._world.happens("fail", self._life):
            raise _broken("the connection is gone")


def _broken(why: str) -> OperationalError:
    return OperationalError("simulated", None, Exception(why))


# --- the run ------------------------------------------------------------------------------------------


async def _simulate(schedule: Schedule) -> int:
    world, sent = _world_of(schedule)
    try:
        await _until_counted(world)
        _compare(world.engine, sent)
    except Red as red:
        raise Red("; ".join([str(red), *world.trace])) from None
    return world.awaits


def _world_of(schedule: Schedule) -> tuple[_World, list[Sent]]:
    sent = _events(random.Random(schedule.seed))
    log = _log_of(sent, random.Random(schedule.seed + 1))
    return _World(schedule, log), sent


async def _until_counted(world: _World) -> None:
    """Raises Red (L7)."""
    processes = [asyncio.create_task(_supervise(world, place)) for place in range(2)]
    try:
        async with asyncio.timeout(_DEADLINE_S):
            while not _is_counted(world):
                await asyncio.sleep(0.5)
                for process in processes:
                    if process.done():
                        process.result()
    except TimeoutError:
        raise Red(f"L7 not counted within {_DEADLINE_S:.0f} s of virtual time") from None
    finally:
        for process in processes:
            process.cancel()
        await asyncio.gather(*processes, return_exceptions=True)


async def _supervise(world: _World, place: int) -> None:
    """Starts the process again whenever it is killed."""
    number = 0
    while True:
        number += 1
        life = _Life(f"aggregator-{place}-{number}")
        engine: Any = _SimulatedEngine(world, life)
        aggregator = Aggregator(
            reader=_Reader(world, life, grouped=True),
            history=_Reader(world, life, grouped=False),
            engine=engine,
            catalogs={"proof": _catalog()},
            identities=_IDENTITIES,
            registry=CollectorRegistry(),
            quarantine_topic="quarantine",
            holder=life.holder,
            clock=lambda: round(asyncio.get_running_loop().time() * 1_000_000) + _BEGIN_MS * 1000,
        )
        try:
            await aggregator._start_reader()
            await aggregator._consume()
        except Killed:
            asyncio.get_running_loop().call_later(_SESSION_S, world.leave, life)
            await asyncio.sleep(_RESTART_S)


def _is_counted(world: _World) -> bool:
    if world.lock.locked():
        return False  # one connection: within a transaction one would see what is not committed
    rows = world.raw.execute("SELECT partition, next_offset FROM claim").fetchall()
    done = {Partition(_TOPIC, number): offset for number, offset in rows}
    return all(done.get(partition) == len(records) for partition, records in world.log.items())


# --- the log, and what must come out of it ----------------------------------------------------------------


def _events(source: random.Random) -> list[Sent]:
    """In the order of the log: new ones, copies, conflicts, retractions before and after their target."""
    sent: list[Sent] = []
    for number in range(1, source.randint(12, 40)):
        sent.append(collected(number, _BEGIN_MS))
        if source.random() < 0.3:
            sent.append(source.choice(sent))
        if source.random() < 0.1:
            known = source.choice([one for one in sent if one.kind == "collected"])
            sent.append(conflicting(1000 + number, known.number, _BEGIN_MS))
        if source.random() < 0.1:
            sent.append(retracting(2000 + number, source.randint(1, number + 3), _BEGIN_MS))
    return sent


def _log_of(sent: Sequence[Sent], source: random.Random) -> dict[Partition, list[Record]]:
    groups: dict[Partition, list[bytes]] = {Partition(_TOPIC, number): [] for number in range(_PARTITIONS)}
    for one in sent:
        about = f"e{one.target}" if one.kind == "retraction" else one.id
        number = partition_of(_IDENTITIES.of("proof", SOURCE, about), _PARTITIONS)
        groups[Partition(_TOPIC, number)].append(json.dumps(one.body()).encode())
    log: dict[Partition, list[Record]] = {}
    for partition, bodies in groups.items():
        log[partition] = []
        while bodies:
            size = source.randint(1, 4)
            payload = encode_record(bodies[:size])
            log[partition].append(Record(partition, len(log[partition]), "proof", _BEGIN_MS * 1000, payload))
            del bodies[:size]
    return log


def _compare(engine: Engine, sent: Sequence[Sent]) -> None:
    """The tables against plain arithmetic. Raises Red."""
    first: dict[str, Sent] = {}
    for one in sent:
        first.setdefault(one.id, one)
    conflicts = sum(first[one.id] != one for one in sent)
    duplicates = len(sent) - len(first) - conflicts
    taken_back = {f"e{one.target}" for one in sent if one.kind == "retraction"}
    kept = [one for one in first.values() if one.kind != "retraction" and one.id not in taken_back]
    with engine.connect() as connection:
        ledger = connection.exec_driver_sql(
            "SELECT SUM(counted), SUM(duplicates), SUM(quarantined) FROM ledger_count"
        ).one()
        values = {
            metric: float(value)
            for metric, value in connection.exec_driver_sql(
                "SELECT metric, SUM(CASE metric WHEN 'waste' THEN sum ELSE count END) FROM metric_buckets"
                " WHERE resolution = '1d' AND segment = '{}' GROUP BY metric"
            )
        }
    _equal("L6 ledger", tuple(ledger), (len(first), duplicates, conflicts))
    expected = {"collections": float(len(kept)), "people": float(len(kept))}
    expected["waste"] = round(sum(one.milligrams for one in kept) / 1000, 6)
    values = {metric: round(value, 6) for metric, value in values.items()}
    _equal("L5 values", values, {metric: value for metric, value in expected.items() if kept})


def _equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Red(f"{what}: found {found}, expected {expected}")


# --- the database ---------------------------------------------------------------------------------------


@cache
def _catalog() -> Catalog:
    return parse_catalog(_CATALOG, "proof.yaml")


@cache
def _template() -> bytes:
    """A migrated database with the catalog in force, as a file's bytes."""

    async def make(file: Path) -> None:
        engine = connect(f"sqlite:///{file}")
        await migrate.upgrade(engine)
        await activate(engine, {"proof": _catalog()}, _BEGIN_MS * 1000)
        await engine.dispose()

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "metrics.db"
        asyncio.run(make(file))
        database = sqlite3.connect(file)
        database.execute("PRAGMA journal_mode = DELETE")
        made = database.serialize()
        database.close()
    return made


class _Database:
    """SQLite in memory, the same for all schedules: SQLAlchemy compiles its statements once for an engine."""

    def __init__(self) -> None:
        self.raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.engine = create_engine("sqlite://", creator=lambda: self.raw, poolclass=StaticPool)
        event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    def empty(self) -> None:
        """As after the migration."""
        self.raw.rollback()
        self.raw.deserialize(_template())


@cache
def _database() -> _Database:
    return _Database()


# --- many schedules -----------------------------------------------------------------------------------


def shrunk(schedule: Schedule) -> Schedule:
    """A red schedule without the accidents that it does not need, and with shorter ways to the others."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(schedule):
            if _fault_of(candidate):
                schedule, smaller = candidate, True
                break
    return schedule


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    accidents = schedule.accidents
    for place, (gap, accident) in enumerate(accidents):
        before, after = accidents[:place], accidents[place + 1 :]
        if after:  # those that are left happen where they did
            yield schedule._replace(accidents=(*before, (gap + after[0][0], after[0][1]), *after[1:]))
        else:
            yield schedule._replace(accidents=before)
        for shorter in {0, gap // 2} - {gap}:
            yield schedule._replace(accidents=(*before, (shorter, accident), *after))


def _fault_of(schedule: Schedule) -> str:
    """What is wrong, and what had happened; empty: nothing is."""
    try:
        simulate(schedule)
    except Red as red:
        return str(red)
    return ""


def _many(first: int, step: int, seconds: float, guards: Sequence[str]) -> tuple[int, int, Schedule | None]:
    """Every `step`th seed until the time is over: schedules, awaits, and the first that is red, shrunk."""
    ends = time.monotonic() + seconds
    schedules = awaits = 0
    with blindness.without(*guards):
        while time.monotonic() < ends:
            schedule = random_schedule(first + step * schedules)
            try:
                awaits += simulate(schedule)
            except Red:
                return schedules, awaits, shrunk(schedule)
            schedules += 1
    return schedules, awaits, None


def main() -> int:
    """Schedules until the time is over; 1 and the shortest schedule that was found if one is red."""
    parser = argparse.ArgumentParser(prog="python -m proof.simulation")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    parser.add_argument("--without", default="", help="guards to take out: " + ", ".join(blindness.GUARDS))
    arguments = parser.parse_args()
    guards = [guard for guard in arguments.without.split(",") if guard]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        begun = [
            pool.submit(_many, arguments.seed + job, arguments.jobs, arguments.minutes * 60, guards)
            for job in range(arguments.jobs)
        ]
        ended = [one.result() for one in begun]
    schedules, awaits = sum(one[0] for one in ended), sum(one[1] for one in ended)
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"{schedules:,} schedules with {awaits:,} awaits were green")
    reds = [red for _, _, red in ended if red is not None]
    for red in reds:
        with blindness.without(*guards):
            console.print(f"{red} is red: {_fault_of(red)}", style="red", markup=False)
    return bool(reds)


if __name__ == "__main__":
    sys.exit(main())
