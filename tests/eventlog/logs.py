"""The two kinds of log, behind the same few calls, for suites that must pass on both."""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from impact_eventlog import KeyedEvent, Partition
from impact_eventlog.embedded import EmbeddedReader, EmbeddedWriter
from impact_eventlog.kafka import KafkaReader, KafkaSettings, KafkaWriter
from impact_schemas.wire import decode_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from impact_eventlog import EventLogReader, EventLogWriter, Record
    from impact_eventlog.pending import WriterLimits

PRODUCT = "clinic"


@dataclass(frozen=True)
class Log:
    """One topic of a log of either kind; everything that is opened here is closed by `stop`."""

    partitions: int
    settings: KafkaSettings | None = None
    path: Path | None = None
    topic: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex}")

    @property
    def all(self) -> list[Partition]:
        return [Partition(self.topic, number) for number in range(self.partitions)]

    @asynccontextmanager
    async def writer(self, limits: WriterLimits | None = None) -> AsyncIterator[EventLogWriter]:
        writer = self.new_writer(limits)
        await writer.start()
        try:
            yield writer
        finally:
            await writer.stop()

    def new_writer(self, limits: WriterLimits | None = None) -> EventLogWriter:
        if self.settings is not None:
            return KafkaWriter(self.settings, [self.topic], limits=limits)
        assert self.path is not None
        return EmbeddedWriter(self.path, partitions=self.partitions, limits=limits)

    @asynccontextmanager
    async def reader(self, **options: Any) -> AsyncIterator[EventLogReader]:
        """Started, and stopped in the end."""
        reader = self.new_reader(**options)
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()

    def new_reader(self, **options: Any) -> EventLogReader:
        """`options` are the adapters' own; on Kafka it reads without a group unless one is given."""
        if self.settings is not None:
            return KafkaReader(self.settings, [self.topic], **{"group": None, **options})
        assert self.path is not None
        return EmbeddedReader(self.path, [self.topic], **options)

    async def everything(self) -> list[Record]:
        """All records from the beginning, read anew."""
        async with self.reader() as reader:
            for partition in reader.assignment():
                reader.seek(partition, 0)
            ends = await reader.end_offsets(self.all)
            return await read(reader, sum(ends.values()))


async def read(reader: EventLogReader, records: int, timeout_s: float = 30) -> list[Record]:
    """The next `records` of a reader that has sought; fails after `timeout_s`."""
    got: list[Record] = []
    async with asyncio.timeout(timeout_s):
        while len(got) < records:
            got += await reader.poll(0.5)
    assert len(got) == records
    return got


async def wait_for_assignment(reader: EventLogReader, partitions: int, timeout_s: float = 30) -> None:
    """Polls, as a caller does, until the reader has so many partitions."""
    async with asyncio.timeout(timeout_s):
        while len(reader.assignment()) != partitions:
            await reader.poll(0.1)


def event(name: str, *, key: bytes | None = None, size: int = 0) -> KeyedEvent:
    body = b'{"id":"%s","pad":"%s"}' % (name.encode(), b"x" * size)
    return KeyedEvent(key or os.urandom(16), body)


def events(names: Sequence[str] | range, **options: Any) -> list[KeyedEvent]:
    return [event(str(name), **options) for name in names]


def bodies(records: Sequence[Record]) -> list[bytes]:
    """The events of the records, in their order."""
    return [body for record in records for body in decode_record(record.payload)]
