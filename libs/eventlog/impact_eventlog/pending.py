"""Group commit: appends that wait for the log, coalesced into records, bounded in bytes and in time.

Both adapters take from here what they write next; while one write is under way, more appends gather.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

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


@dataclass(slots=True, eq=False)
class _Append:
    """One call of `append`: done when all its parts are durable."""

    future: asyncio.Future[None]
    deadline: float
    parts: int = 0


class _Part(NamedTuple):
    """Events of one append that go into one record."""

    append: _Append
    product: str
    received_at: int | None
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


class PendingAppends:
    """For one event loop. `wake` is called when there is something to take."""

    def __init__(self, limits: WriterLimits, wake: Callable[[], None]) -> None:
        self._limits = limits
        self._wake = wake
        self._queues: defaultdict[Partition, deque[_Part]] = defaultdict(deque)
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
        return [partition for partition, queue in self._queues.items() if queue]

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
        limit = self._limits.max_record_bytes
        size = sum(len(event.event) for event in events)
        if self._bytes + size > self._limits.max_bytes_in_flight:
            raise LogUnavailable(f"{self._bytes} bytes wait for the event log already: try again later")
        parts = list(_split(events, partitions, limit))
        append = self._new_append(len(parts))
        for number, body, count in parts:
            self._queues[Partition(topic, number)].append(_Part(append, product, received_at, body, count))
            self._bytes += len(body)
            self._events += count
        if not parts:
            append.future.set_result(None)
            return append.future
        self._idle.clear()
        self._wake()
        return append.future

    def take(self, partition: Partition, max_bytes: int) -> Batch | None:
        """The next records of `partition`, at most `max_bytes` of them but at least one; None without any."""
        queue = self._queues[partition]
        batch = Batch(partition)
        open_records: dict[tuple[str, int | None], list[bytes]] = {}
        sizes: dict[tuple[str, int | None], int] = {}
        taken = 0
        while queue:
            part = queue[0]
            if part.append.future.done():  # given up: nobody waits for it any more
                self._release(queue.popleft())
                continue
            cost = len(part.body) + _RECORD_OVERHEAD
            if batch.parts and taken + cost > max_bytes:
                break
            batch.parts.append(queue.popleft())
            taken += cost
            key = (part.product, part.received_at)
            size = sizes.get(key, _BRACKETS) + len(part.body) + 1
            if size > self._limits.max_record_bytes + 1 and key in open_records:
                batch.records.append(_close(key, open_records.pop(key)))
                size = _BRACKETS + len(part.body) + 1
            open_records.setdefault(key, []).append(part.body)
            sizes[key] = size
        batch.records.extend(_close(key, bodies) for key, bodies in open_records.items())
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
            batch = Batch(partition, parts=list(self._queues.pop(partition)))
            self.settle(batch, LogUnavailable(reason))

    def _release(self, part: _Part) -> None:
        self._bytes -= len(part.body)
        self._events -= part.events
        if self._events == 0:
            self._idle.set()

    def _new_append(self, parts: int) -> _Append:
        loop = asyncio.get_running_loop()
        timeout_s = self._limits.append_timeout_s
        append = _Append(loop.create_future(), loop.time() + timeout_s, parts)
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


def _close(key: tuple[str, int | None], bodies: Iterable[bytes]) -> NewRecord:
    product, received_at = key
    return NewRecord(product, received_at, encode_record(bodies))


def _split(events: Sequence[KeyedEvent], partitions: int, max_bytes: int) -> Iterator[tuple[int, bytes, int]]:
    """(partition, events joined by commas, their number), each small enough for a record."""
    largest = max_bytes - _BRACKETS
    if len(events) == 1:  # the common case of a door without batches
        event = events[0].event
        if len(event) > largest:
            raise _too_large(event, max_bytes)
        yield partition_of(events[0].key, partitions), event, 1
        return
    by_partition: defaultdict[int, list[bytes]] = defaultdict(list)
    for keyed in events:
        event = keyed.event
        if len(event) > largest:
            raise _too_large(event, max_bytes)
        by_partition[partition_of(keyed.key, partitions)].append(event)
    for index, mine in by_partition.items():
        body = b",".join(mine)
        if len(body) + _BRACKETS <= max_bytes:
            yield index, body, len(mine)
        else:
            yield from ((index, b",".join(chunk), len(chunk)) for chunk in _chunks(mine, max_bytes))


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
