"""Guards taken out one by one: a proof that stays green without its guard would be blind.

usage: python -m proof.blindness GUARD,... COMMAND...     `impact` without these guards
"""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import update

from impact_aggregator import runner, store
from impact_aggregator.store import Store
from impact_database import bulk
from impact_eventlog import embedded, pending
from impact_schemas.tables import claim, event_identity

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

Patch = tuple[Any, str, Any]  # owner, name, what stands there without the guard


def _no_compare_and_set() -> Iterable[Patch]:
    """Whoever commits last is right: neither the epoch nor the expected offset is looked at."""

    async def move(self: Store, connection: Any, claimed: Any, next_offset: int, generation: int) -> None:  # noqa: ARG001
        mine = (claim.c.topic == claimed.partition.topic) & (claim.c.partition == claimed.partition.number)
        await connection.execute(update(claim).where(mine).values(next_offset=next_offset))

    yield Store, "_move", move


def _no_epoch() -> Iterable[Patch]:
    """The expected offset alone decides."""

    async def move(self: Store, connection: Any, claimed: Any, next_offset: int, generation: int) -> None:  # noqa: ARG001
        mine = (claim.c.topic == claimed.partition.topic) & (claim.c.partition == claimed.partition.number)
        expected = mine & (claim.c.next_offset == claimed.next_offset)
        result = await connection.execute(update(claim).where(expected).values(next_offset=next_offset))
        if result.rowcount != 1:
            raise store.ClaimLost(str(claimed.partition))

    yield Store, "_move", move


def _no_offset() -> Iterable[Patch]:
    """The epoch alone decides."""

    async def move(self: Store, connection: Any, claimed: Any, next_offset: int, generation: int) -> None:  # noqa: ARG001
        mine = (claim.c.topic == claimed.partition.topic) & (claim.c.partition == claimed.partition.number)
        expected = mine & (claim.c.epoch == claimed.epoch)
        result = await connection.execute(update(claim).where(expected).values(next_offset=next_offset))
        if result.rowcount != 1:
            raise store.ClaimLost(str(claimed.partition))

    yield Store, "_move", move


def _no_identity_key() -> Iterable[Patch]:
    """An identity that is there already is passed over, where the table's key would refuse the batch."""
    plain = bulk.insert

    async def insert(connection: Any, columns: Any, rows: Any) -> None:
        if columns and columns[0].table is event_identity:
            await bulk.insert_missing(connection, columns, rows)
        else:
            await plain(connection, columns, rows)

    yield bulk, "insert", insert


def _no_dedup() -> Iterable[Patch]:
    """No identity is ever known."""

    async def known_identities(self: Store, identities: Iterable[bytes]) -> dict[bytes, Any]:  # noqa: ARG001
        return {}

    yield Store, "known_identities", known_identities


def _no_reading_again() -> Iterable[Patch]:
    """After an error the same batch is tried again blindly: what COMMIT did is not looked up."""
    plain = runner.Aggregator._count

    async def count(self: Any, records: Any) -> None:
        for _ in range(3):
            try:
                return await plain(self, records)
            except Exception:  # noqa: BLE001 - blindly
                self._store.forget()
        return await plain(self, records)

    yield runner.Aggregator, "_count", count


def _no_sync() -> Iterable[Patch]:
    """The embedded log commits without telling the disk."""
    plain = embedded._open_to_write

    def open_to_write(path: Any, partitions: int) -> sqlite3.Connection:
        database = plain(path, partitions)
        database.execute("PRAGMA synchronous = OFF")
        return database

    yield embedded, "_open_to_write", open_to_write


def _no_memory_bound() -> Iterable[Patch]:
    """Nothing is refused for being too much, neither at the door nor before the log."""
    from impact_ingest import limits

    for limited in (limits.Limits, pending.WriterLimits):
        fields = dataclasses.fields(limited)
        bounds = [field for field in fields if "in_flight" in field.name]
        # the class takes them from its constructor, who reads settings takes them from the fields
        defaults = [10**12 if field in bounds else field.default for field in fields]
        yield limited.__init__, "__defaults__", tuple(defaults)
        for field in bounds:
            yield field, "default", 10**12


def _no_suppression() -> Iterable[Patch]:
    """Small cells are hidden, but not what they could be worked out from."""
    from impact_aggregator.protection import suppression

    yield suppression._Suppression, "run", lambda self: self._hidden


def _early_answer() -> Iterable[Patch]:
    """The door answers before the log has the events."""
    from impact_eventlog.kafka import KafkaWriter

    for writer in (embedded.EmbeddedWriter, KafkaWriter):
        plain = writer.append

        async def append(self: Any, *arguments: Any, plain: Any = plain) -> None:
            import asyncio

            asyncio.ensure_future(plain(self, *arguments)).add_done_callback(lambda done: done.exception())

        yield writer, "append", append


GUARDS: dict[str, Callable[[], Iterable[Patch]]] = {
    "compare-and-set": _no_compare_and_set,
    "epoch": _no_epoch,
    "offset": _no_offset,
    "identity-key": _no_identity_key,
    "dedup": _no_dedup,
    "reading-again": _no_reading_again,
    "sync": _no_sync,
    "memory-bound": _no_memory_bound,
    "suppression": _no_suppression,
    "waiting-for-the-log": _early_answer,
}


@contextmanager
def without(*guards: str) -> Iterator[None]:
    """This process without these guards, until the end of the block."""
    with ExitStack() as stack:
        for guard in guards:
            for owner, name, replacement in GUARDS[guard]():
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, replacement)
        yield


class Blind(NamedTuple):
    """A fault and guards without which it must turn red; more than one where each makes up for the others."""

    guards: tuple[str, ...]
    fault: str
    laws: str  # one of which has to be broken: red for another reason has shown nothing
    most_seeds: int = 5  # within which it must

    def seen_in(self, broken: str) -> str:
        """The first of the lines that says that one of these laws was broken; empty: none does."""
        return next((line for line in broken.splitlines() if line.startswith(tuple(self.laws.split()))), "")


BLIND = (
    Blind(("sync",), "power-cut", "L1"),
    Blind(("waiting-for-the-log",), "kill-embedded", "L1"),
    Blind(("waiting-for-the-log",), "kill-door", "L1"),
    Blind(("compare-and-set", "identity-key", "dedup"), "zombie", "L2 L5 L6"),
    Blind(("reading-again", "offset"), "lost-commit", "L2 L5 L6"),
    Blind(("dedup", "identity-key"), "copies-embedded", "L2 L5 L6"),
    Blind(("memory-bound",), "overload", "L8"),
    Blind(("suppression",), "small-cells", "privacy", most_seeds=1),
)


def program_without(guards: Iterable[str]) -> tuple[str, ...]:
    """The command `impact` without these guards."""
    return (sys.executable, "-m", "proof.blindness", ",".join(guards))


if __name__ == "__main__":
    from impact_cli.main import app

    with without(*sys.argv[1].split(",")):
        app(sys.argv[2:], prog_name="impact")
