"""The event log's two ports: append and read.

An adapter keeps these promises:

- `append` returns only when every event is durable, in the order given for each partition.
- A record carries many events of one product: a JSON array. An event's position is (offset, index).
- Offsets start at 0 and grow by one a record within a partition; records are never changed.

Errors:

    LogError
    ├── LogUnavailable   try again later: some of the events may be in the log
    ├── RecordTooLarge   one event does not fit into a record: it will never be taken
    └── LogHole          the log itself has lost records that were asked for

A bare LogError is for a person: a damaged or foreign log, a topic that does not exist, a second writer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Mapping, Sequence


class LogError(Exception):
    """The root of the log's errors."""


class LogUnavailable(LogError):
    """The log does not take writes or give reads now; what was being appended may or may not be in it."""


class RecordTooLarge(LogError):
    """One event alone is larger than a record may be."""


class LogHole(LogError):
    """Records from `first_offset` up to and including `last_offset` are gone from `partition`."""

    def __init__(self, partition: Partition, first_offset: int, last_offset: int, reason: str) -> None:
        super().__init__(f"{partition} has lost records {first_offset} to {last_offset}: {reason}")
        self.partition = partition
        self.first_offset = first_offset
        self.last_offset = last_offset
        self.reason = reason


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """What a reader gets: the events of one product that were appended together."""

    partition: Partition
    offset: int
    product: str
    received_at: int  # microseconds since 1970, UTC: when the record was closed at the door, or as given
    payload: bytes  # a JSON array of events


class KeyedEvent(msgspec.Struct, frozen=True, gc=False):
    """One event on its way into the log: `key` (at least 8 bytes, uniform) decides the partition."""

    key: bytes
    event: bytes  # one JSON object


class EventLogWriter(Protocol):
    """Appends. Safe for concurrent callers, whose events are coalesced into common records."""

    async def start(self) -> None:
        """Opens the log. Raises LogUnavailable if it cannot be reached, LogError if it cannot be used."""

    def append(
        self, topic: str, product: str, events: Sequence[KeyedEvent], received_at: int | None = None
    ) -> Awaitable[None]:
        """Takes the events at once; what it returns is done when all of them are durable.

        `received_at` (microseconds since 1970) is for replays, which keep the first receipt time;
        without it a record gets the time at which it is closed.
        Raises LogUnavailable or RecordTooLarge; after the first, some events may be in the log.
        """

    async def ready(self) -> bool:
        """Whether an append would be taken now."""
        ...

    async def stop(self) -> None:
        """Finishes what was accepted, within a deadline, and closes."""


class EventLogReader(Protocol):
    """Reads the partitions that are assigned to it. For one caller."""

    async def start(self) -> None:
        """Joins. Raises LogUnavailable if the log cannot be reached, LogError if it cannot be used."""

    def assignment(self) -> Mapping[Partition, int]:
        """The partitions that are this reader's now, each with a number that is new at every assignment."""
        ...

    def seek(self, partition: Partition, offset: int) -> None:
        """The next poll reads `partition` from `offset`. A partition never sought since its assignment
        is not read. Without effect if `partition` is no longer assigned."""

    def leave(self, partition: Partition) -> None:
        """`partition` is not read any more until it is sought again."""

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """The next records, in order within each partition; empty after `timeout_s` without any.

        Bounded in bytes by the adapter's setting, but at least one record. A cancelled poll loses nothing.
        Raises LogUnavailable, or LogHole after the last record before the hole was delivered: the partition
        is then not read until it is sought again, usually to `last_offset + 1`. Raises LogError if the log
        ends before the offset that was sought: it is another log, or an older copy.
        """
        ...

    async def end_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """For each partition the offset that the next record will get. Raises LogUnavailable."""
        ...

    async def log_id(self, topic: str) -> str:
        """An identity that changes when the topic is deleted and made again. Raises LogUnavailable."""
        ...

    async def stop(self) -> None:
        """Leaves."""
