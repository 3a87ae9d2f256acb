"""Group commit: appends that wait for the log, coalesced into records, bounded in bytes and in time.

Both adapters take from here what they write next; while one write is under way, more appends gather.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from impact_eventlog.ports import LogUnavailable, Partition, RecordTooLarge
from impact_schemas.wire import MAX_RECORD_BYTES, encode_record, partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from impact_eventlog.ports import KeyedEvent

_BRACKETS = 2
# what a record costs beside its payload (headers, framing), rounded up
_RECORD_OVERHEAD = 256


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """What a writer takes and how long it tries."""

    append_timeout_s: float = 10.0
    max_bytes_in_flight: int = 64 * 1024 * 1024
    max_record_bytes: int = MAX_RECORD_BYTES


class _Append(msgspec.Struct):
    """One call of `append`: done when all its parts are durable."""

    future: asyncio.Future[None]
    deadline: float
    origin: tuple[str, int | None]  # product and time of receipt: what the events of a record have in common
    parts: int


class _Part(msgspec.Struct, gc=False):
    """Events of one append that go into one record. Made for every few events: cheaper than a named tuple."""

    append: _Append
    body: bytes  # the events, joined by commas
    events: int


class NewRecord(NamedTuple):
    """A record on its way into the log; `received_at` None means: when it is closed, which is now."""

    product: str
    received_at: int | None
    payload: bytes


@dataclass(slots=True)
class Batch:
    """Records of one partition that are written together. Give it back with `settle`, whatever happened."""

    partition: Partition
    records: list[NewRecord] = field(default_factory=list)
    parts: list[_Part] = field(default_factory=list)

    @property
    def events(self) -> int:
        """In all parts."""
        return sum([part.events for part in self.parts])


class _OpenRecord:
    """A record while parts are added to it."""

    __slots__ = ("bodies", "size")

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.size = _BRACKETS - 1  # a comma less than bodies

    def add(self, body: bytes) -> None:
        self.bodies.append(body)
        self.size += len(body) + 1

    def close(self, origin: tuple[str, int | None]) -> NewRecord:
        return NewRecord(*origin, encode_record(self.bodies))


def _queues_of_a_topic() -> defaultdict[int, deque[_Part]]:
    return defaultdict(deque)


class PendingAppends:
    """For one event loop. `wake` is called when there is something to take."""

    def __init__(self, limits: WriterLimits, wake: Callable[[], None]) -> None:
        self._limits = limits
        self._wake = wake
        self._queues: defaultdict[str, defaultdict[int, deque[_Part]]] = defaultdict(_queues_of_a_topic)
        self._by_deadline: deque[_Append] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = 0
        self._events = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def events(self) -> int:
        """Events that are neither durable nor given up, also those in batches taken."""
        return self._events

    @property
    def full(self) -> bool:
        return self._bytes >= self._limits.max_bytes_in_flight

    async def drained(self) -> None:
        """Returns when nothing waits and every batch taken was settled."""
        await self._idle.wait()

    def waiting(self) -> list[Partition]:
        """The partitions with something to take."""
        return [
            Partition(topic, number)
            for topic, queues in self._queues.items()
            for number, queue in queues.items()
            if queue
        ]

    def add(
        self,
        topic: str,
        product: str,
        events: Sequence[KeyedEvent],
        received_at: int | None,
        partitions: int,
    ) -> asyncio.Future[None]:
        """The future ends with the append: None, or LogUnavailable after the deadline or a failed write.

        Cancelling it withdraws what is not written yet. Raises RecordTooLarge, and LogUnavailable at once if
        too many bytes are in flight.
        """
        parts = _split(events, partitions, self._limits.max_record_bytes)
        size = sum([len(body) for _, body, _ in parts])
        if self._bytes + size > self._limits.max_bytes_in_flight:
            raise LogUnavailable(f"{self._bytes} bytes wait for the event log already: try again later")
        append = self._new_append((product, received_at), len(parts))
        if not parts:
            append.future.set_result(None)
            return append.future
        queues = self._queues[topic]
        for number, body, count in parts:
            queues[number].append(_Part(append, body, count))
        self._bytes += size
        self._events += len(events)
        self._idle.clear()
        self._wake()
        return append.future

    def take(self, partition: Partition, max_bytes: int) -> Batch | None:
        """The next records of `partition`, at most `max_bytes` of them but at least one; None without any."""
        queue = self._queues[partition.topic][partition.number]
        batch = Batch(partition)
        opened: dict[tuple[str, int | None], _OpenRecord] = {}
        left = max_bytes
        while queue:
            part = queue[0]
            append = part.append
            if append.future.done():  # given up: nobody waits for it any more
                self._release(queue.popleft())
                continue
            size = len(part.body)
            left -= size + _RECORD_OVERHEAD
            if left < 0 and batch.parts:
                break
            batch.parts.append(queue.popleft())
            record = opened.get(append.origin)
            if record is None or record.size + size + 1 > self._limits.max_record_bytes:
                if record is not None:
                    batch.records.append(record.close(append.origin))
                record = opened[append.origin] = _OpenRecord()
            record.add(part.body)
        batch.records.extend([record.close(origin) for origin, record in opened.items()])
        return batch if batch.parts else None

    def settle(self, batch: Batch, error: BaseException | None = None) -> None:
        """Its records are durable or, with an error, unknown: then their appends get LogUnavailable."""
        for part in batch.parts:
            self._release(part)
            append = part.append
            append.parts -= 1
            if append.future.done():
                continue
            if error is not None:
                append.future.set_exception(LogUnavailable(f"the event log did not take the events: {error}"))
            elif append.parts == 0:
                append.future.set_result(None)

    def give_up(self, reason: str) -> None:
        """For the end: everything that was not taken fails with LogUnavailable."""
        if self._timer is not None:
            self._timer.cancel()
        for partition in self.waiting():
            batch = Batch(partition, parts=list(self._queues[partition.topic].pop(partition.number)))
            self.settle(batch, LogUnavailable(reason))

    def _release(self, part: _Part) -> None:
        self._bytes -= len(part.body)
        self._events -= part.events
        if self._events == 0:
            self._idle.set()

    def _new_append(self, origin: tuple[str, int | None], parts: int) -> _Append:
        loop = asyncio.get_running_loop()
        timeout_s = self._limits.append_timeout_s
        append = _Append(loop.create_future(), loop.time() + timeout_s, origin, parts)
        while self._by_deadline and self._by_deadline[0].future.done():
            self._by_deadline.popleft()
        self._by_deadline.append(append)
        if self._timer is None:  # one timer for all: a timer each took a tenth of a small append's time
            self._timer = loop.call_later(timeout_s, self._expire)
        return append

    def _expire(self) -> None:
        """Fails what is over its deadline, and comes again for the next."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._by_deadline:
            append = self._by_deadline[0]
            if not append.future.done():
                if append.deadline > loop.time():
                    self._timer = loop.call_at(append.deadline, self._expire)
                    return
                append.future.set_exception(self._timed_out())
            self._by_deadline.popleft()

    def _timed_out(self) -> LogUnavailable:
        timeout_s = self._limits.append_timeout_s
        return LogUnavailable(f"the event log did not answer within {timeout_s:g} s: events may be in it")


def _split(events: Sequence[KeyedEvent], partitions: int, max_bytes: int) -> list[tuple[int, bytes, int]]:
    """(partition, events joined by commas, their number), each small enough for a record."""
    largest = max_bytes - _BRACKETS
    by_partition: dict[int, list[bytes]] = {}
    for keyed in events:
        if len(keyed.event) > largest:
            raise _too_large(keyed.event, max_bytes)
        number = partition_of(keyed.key, partitions)
        if number in by_partition:
            by_partition[number].append(keyed.event)
        else:
            by_partition[number] = [keyed.event]
    parts = []
    for number, mine in by_partition.items():
        body = b",".join(mine)
        if len(body) <= largest:
            parts.append((number, body, len(mine)))
        else:
            parts += [(number, b",".join(chunk), len(chunk)) for chunk in _chunks(mine, max_bytes)]
    return parts


def _chunks(events: Iterable[bytes], max_bytes: int) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = _BRACKETS - 1
    for event in events:
        if chunk and size + len(event) + 1 > max_bytes:
            yield chunk
            chunk, size = [], _BRACKETS - 1
        chunk.append(event)
        size += len(event) + 1
    yield chunk


def _too_large(event: bytes, max_bytes: int) -> RecordTooLarge:
    return RecordTooLarge(f"an event of {len(event)} bytes does not fit into a record of {max_bytes}")
