"""`impact replay`: copies another event log into the one of the settings, event by event.

That is how one leaves the embedded log for Kafka, or a topic for one with another number of partitions:
events find their partition anew, and keep their content, identity and time of receipt. An aggregator with
an empty database then counts the same numbers from it. Of events of erased persons only that they were is
copied.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from impact_aggregator.decode import decode_record
from impact_aggregator.events import RETRACTION, Event
from impact_cli import event_logs, terminal
from impact_cli.terminal import Refused
from impact_eventlog import KeyedEvent
from impact_schemas.erasure import REASON, erased
from impact_schemas.identity import Identities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from impact_aggregator.events import Quarantined
    from impact_cli.settings import Settings
    from impact_eventlog import EventLogReader, EventLogWriter, Partition, Record

_POLL_S = 10.0


class Replayed(NamedTuple):
    """What was copied."""

    events: int
    records: int


async def replay(source: Settings, target: Settings) -> Replayed:
    """Copies all of `source`'s log into `target`'s, which has to be empty. Raises Refused, LogError."""
    topics = dict(zip(event_logs.topics_of(source), event_logs.topics_of(target), strict=True))
    filled = {place: end for place, end in (await event_logs.end_offsets(target)).items() if end}
    if filled:
        raise Refused(f"the log to be filled is not empty ({_first(filled)}): a replay goes into a new one")
    reader = event_logs.open_reader(source, group=None)
    writer = event_logs.open_writer(target)
    await writer.start()
    try:
        await reader.start()
        identities = Identities(target.master_key())
        gone = await _erased(reader, next(iter(topics)), identities)
        return await _copy(reader, writer, topics, identities, gone)
    finally:
        await reader.stop()
        await writer.stop()


def _first(filled: Mapping[tuple[str, int], int]) -> str:
    (topic, number), end = next(iter(filled.items()))
    return f"{topic}-{number} has {end} records"


async def _erased(reader: EventLogReader, topic: str, identities: Identities) -> set[bytes]:
    """Identities of the events that were taken back because a person was erased."""
    gone: set[bytes] = set()
    partitions = [partition for partition in reader.assignment() if partition.topic == topic]
    left = {place: end for place, end in (await reader.end_offsets(partitions)).items() if end}
    for partition in left:
        reader.seek(partition, 0)
    while left:
        for record in await _next(reader, left):
            if REASON.encode() in record.payload:
                events = decode_record(record, identities)
                gone |= {target for event in events if (target := _erased_by(event)) is not None}
            if record.offset + 1 >= left[record.partition]:
                del left[record.partition]
    return gone


def _erased_by(event: Event | Quarantined) -> bytes | None:
    if not isinstance(event, Event) or event.type != RETRACTION or event.data.get("reason") != REASON:
        return None
    return event.target


async def _copy(
    reader: EventLogReader,
    writer: EventLogWriter,
    topics: Mapping[str, str],
    identities: Identities,
    gone: set[bytes],
) -> Replayed:
    ends = await reader.end_offsets(list(reader.assignment()))
    left = {partition: end for partition, end in ends.items() if end}
    events = records = 0
    for partition in left:
        reader.seek(partition, 0)
    with terminal.progress_bar("{task.completed:,} of {task.total:,} records") as bar:
        task = bar.add_task("copying", total=sum(left.values()), trouble="")
        while left:
            for record in await _next(reader, left):
                keyed = _keyed(record, topics, identities, gone)
                # one record after the other: copies of an event keep their order
                await writer.append(topics[record.partition.topic], record.product, keyed, record.received_at)
                events += len(keyed)
                records += 1
                bar.advance(task)
                if record.offset + 1 >= left[record.partition]:
                    del left[record.partition]
    return Replayed(events, records)


async def _next(reader: EventLogReader, left: Mapping[Partition, int]) -> list[Record]:
    """Raises Refused if the log gives none, though it has some."""
    records = [
        record for record in await reader.poll(_POLL_S) if record.offset < left.get(record.partition, 0)
    ]
    if not records:
        raise Refused(f"the log gave nothing for {_POLL_S:.0f} s, though {len(left)} partitions have more")
    return records


def _keyed(
    record: Record, topics: Mapping[str, str], identities: Identities, gone: set[bytes]
) -> list[KeyedEvent]:
    """The record's events, each with what decides its partition."""
    if record.partition.topic != next(iter(topics)):  # of the quarantine log: any partition will do
        raws = msgspec.json.decode(record.payload, type=list[msgspec.Raw])
        return [KeyedEvent(hashlib.blake2b(raw, digest_size=16).digest(), bytes(raw)) for raw in raws]
    keyed = []
    for event in decode_record(record, identities):
        if isinstance(event, Event):
            key = event.target or event.identity
            keyed.append(KeyedEvent(key, erased(event.raw) if key in gone else event.raw))
        else:  # it will be quarantined there as it was here
            raw = event.payload.encode()
            keyed.append(KeyedEvent(hashlib.blake2b(raw, digest_size=16).digest(), raw))
    return keyed
