"""`impact subjects erase`: takes a person's events back, and removes what is kept of them.

The events are retracted first, and the retractions counted; only then is anything overwritten, since
recounting reads the events once more. An embedded log is rewritten in place, with the service stopped. A
Kafka topic cannot be: `impact replay` into a new topic leaves erased events behind.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from sqlalchemy import delete, select, update

from impact_aggregator.events import RETRACTION
from impact_aggregator.protection.forgetting import forget_subject
from impact_cli import assemble, databases, event_logs, logs
from impact_eventlog import KeyedEvent
from impact_eventlog.embedded import EmbeddedWriter
from impact_schemas.erasure import REASON, erased, speaks_of
from impact_schemas.identity import Identities, Pseudonyms
from impact_schemas.tables import amendment, import_row, import_run, import_step, quarantine

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_cli.settings import Settings
    from impact_eventlog import EventLogWriter
    from impact_schemas.catalog import Catalog

_POLL_S = 5.0
_APPENDED_AT_ONCE = 1_000


class Erasure(NamedTuple):
    """What was done, or would be."""

    pseudonym: str
    events: int  # retracted
    quarantined: int  # payloads removed
    records: int | None  # of the log rewritten; None where the log cannot be


class _Found(NamedTuple):
    source: str
    event_id: str


async def erase(
    settings: Settings, catalogs: Mapping[str, Catalog], product: str, subject: str, *, dry_run: bool
) -> Erasure:
    """Raises LogError (an embedded log in use by a running service, for one), SchemaOutOfDate."""
    logs.configure("warning")
    pseudonym = Pseudonyms(settings.master_key()).of(product, subject)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(databases.migrated(settings))
        found = await _find(settings, product, pseudonym)
        if dry_run:
            return Erasure(pseudonym, len(found), await _quarantined(engine, product, pseudonym), 0)
        writer = await stack.enter_async_context(event_logs.writing(settings))
        await _retract(settings, writer, product, found)
        if isinstance(writer, EmbeddedWriter):
            await _count(settings, catalogs, engine, writer)
        async with engine.begin() as connection:
            await forget_subject(connection, product, pseudonym)
            await _forget_rows(connection, product, {one.event_id for one in found})
        removed = await _clear_database(engine, product, pseudonym)
        rewritten = await _rewrite(writer, product, pseudonym) if isinstance(writer, EmbeddedWriter) else None
        return Erasure(pseudonym, len(found), removed, rewritten)


async def _find(settings: Settings, product: str, pseudonym: str) -> set[_Found]:
    """The product's events, in the log of events, that speak of the person."""
    topic = event_logs.topics_of(settings)[0]
    reader = event_logs.open_reader(settings, group=None)
    found: set[_Found] = set()
    await reader.start()
    try:
        partitions = [partition for partition in reader.assignment() if partition.topic == topic]
        left = {place: end for place, end in (await reader.end_offsets(partitions)).items() if end}
        for partition in left:
            reader.seek(partition, 0)
        while left:
            for record in await reader.poll(_POLL_S):
                if record.product == product and speaks_of(record.payload, pseudonym):
                    found |= _events_of(record.payload, pseudonym)
                if record.offset + 1 >= left.get(record.partition, 0):
                    left.pop(record.partition, None)
    finally:
        await reader.stop()
    return found


def _events_of(payload: bytes, pseudonym: str) -> set[_Found]:
    """Data events alone: a correction goes with the event that it corrects."""
    events = [msgspec.json.decode(raw) for raw in _raws(payload) if speaks_of(raw, pseudonym)]
    found = set()
    for event in events:
        amends = event["type"].startswith("impact.")
        named = event["data"] if amends else event
        found.add(_Found(named["source"], named["id"]))
    return found


def _raws(payload: bytes) -> list[bytes]:
    return [bytes(raw) for raw in msgspec.json.decode(payload, type=list[msgspec.Raw])]


async def _retract(settings: Settings, writer: EventLogWriter, product: str, found: set[_Found]) -> None:
    identities = Identities(settings.master_key())
    keyed = []
    for one in sorted(found):
        key = identities.of(product, *one)
        name = hashlib.blake2b(key, digest_size=8).hexdigest()
        event = {
            "specversion": "1.0",
            "id": f"{REASON}-{name}",  # the same when it is repeated: a duplicate then
            "source": one.source,
            "type": RETRACTION,
            "data": {"id": one.event_id, "reason": REASON, "source": one.source},
        }
        keyed.append(KeyedEvent(key, msgspec.json.encode(event, order="sorted")))
    topic = event_logs.topics_of(settings)[0]
    for start in range(0, len(keyed), _APPENDED_AT_ONCE):
        await writer.append(topic, product, keyed[start : start + _APPENDED_AT_ONCE])


async def _count(
    settings: Settings, catalogs: Mapping[str, Catalog], engine: AsyncEngine, writer: EventLogWriter
) -> None:
    """Counts to the end of the log, as the service that is stopped would."""
    counting = assemble.counting_of(settings, catalogs, engine, CollectorRegistry(), writer)
    running = asyncio.create_task(counting.run())
    while not running.done() and not await counting.caught_up():
        await asyncio.wait([running], timeout=0.1)
    await counting.stop()
    await running


async def _quarantined(engine: AsyncEngine, product: str, pseudonym: str) -> int:
    table = quarantine.c
    mine = (table.product == product) & table.payload.contains(pseudonym, autoescape=True)
    async with engine.connect() as connection:
        return len((await connection.execute(select(table.offset).where(mine))).all())


async def _forget_rows(connection: AsyncConnection, product: str, event_ids: Collection[str]) -> None:
    """What the journal of partners' files has of rows that were about the person at any time."""
    of_product = select(import_run.c.importid).where(import_run.c.product == product)
    steps = import_step.c
    names = sorted(event_ids)
    for some in (names[start : start + 500] for start in range(0, len(names), 500)):
        mine = steps.importid.in_(of_product) & steps.event_id.in_(some)
        rows = set((await connection.execute(select(steps.row_id).where(mine))).scalars())
        about = steps.importid.in_(of_product) & steps.row_id.in_(rows)
        blank = {"before": None, "after": None, "before_known": False, "row_key": "[]"}
        await connection.execute(update(import_step).where(about).values(blank))
        gone = (import_row.c.product == product) & import_row.c.event_id.in_(some)
        await connection.execute(delete(import_row).where(gone))


async def _clear_database(engine: AsyncEngine, product: str, pseudonym: str) -> int:
    """Removes payloads of quarantined events, and the data of corrections; gives how many payloads."""
    payloads, corrections = quarantine.c, amendment.c
    mine = (payloads.product == product) & payloads.payload.contains(pseudonym, autoescape=True)
    about = (corrections.product == product) & corrections.event.contains(pseudonym, autoescape=True)
    async with engine.begin() as connection:
        removed = await connection.execute(update(quarantine).where(mine).values(payload=None))
        for row in (
            await connection.execute(select(corrections.identity, corrections.event).where(about))
        ).all():
            left = erased(row.event.encode()).decode()
            await connection.execute(
                update(amendment).where(corrections.identity == row.identity).values(event=left)
            )
    async with engine.connect() as connection:
        if connection.dialect.name == "sqlite":  # no copy on a free page, or in the write-ahead log
            raw = await connection.get_raw_connection()
            await raw.driver_connection.execute("VACUUM")  # type: ignore[union-attr]  # it is open
            await raw.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
    return removed.rowcount


async def _rewrite(writer: EmbeddedWriter, product: str, pseudonym: str) -> int:
    def change(_topic: str, of_product: str, payload: bytes) -> bytes | None:
        if of_product != product or not speaks_of(payload, pseudonym):
            return None
        return b"[" + b",".join(_without(raw, pseudonym) for raw in _raws(payload)) + b"]"

    return await writer.rewrite(change)


def _without(raw: bytes, pseudonym: str) -> bytes:
    if not speaks_of(raw, pseudonym):
        return raw
    entry = msgspec.json.decode(raw)
    if "event" not in entry:
        return erased(raw)
    # an entry of the quarantine log: the verdict stays
    entry["event"] = msgspec.Raw(erased(msgspec.json.encode(entry["event"])))
    return msgspec.json.encode(entry, order="sorted")


def still_there(done: Erasure) -> list[str]:
    """What the command cannot reach, for the person who runs it."""
    places = ["backups of the database and of the log", "whatever was sent on to other systems"]
    if done.records is None:
        places.insert(
            0, "the Kafka topics, until 'impact replay' into new ones, which leaves erased events out"
        )
    return places
