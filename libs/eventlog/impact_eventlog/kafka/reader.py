"""Reads Kafka: a group for the assignment only, offsets are the caller's."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from impact_eventlog.kafka.connection import unavailable
from impact_eventlog.kafka.topics import describe_topics
from impact_eventlog.ports import LogError, LogHole, LogUnavailable, Partition, Record
from impact_schemas.wire import EVENTS_TOPIC, QUARANTINE_TOPIC, product_of, received_at_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from impact_eventlog.kafka.connection import KafkaSettings

_log = structlog.get_logger(__name__)

_NOTHING = TopicPartition("", 0)  # polling it keeps the membership alive while no partition is sought
POLL_BYTES = 8 * 1024 * 1024
_INFLATION = 4  # what the brokers send is compressed: measured on JSON events, lz4


class _Assignments(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """What is assigned now, by a number that grows with each assignment. Only remembers: aiokafka swallows
    errors of its listeners."""

    def __init__(self) -> None:
        self.number = 0
        self.partitions: dict[Partition, int] = {}
        self.next: dict[Partition, int] = {}  # of the partitions sought: the offset to deliver next

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002 - all go
        self.partitions = {}
        self.next = {}

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self.number += 1
        self.partitions = {Partition(*partition): self.number for partition in sorted(assigned)}
        self.next = {}


class KafkaReader:
    """Reads `topics` as a member of `group`, or all their partitions without one. See EventLogReader.

    `instance_id` makes a static member: a restart within the session timeout moves no partition.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Collection[str] = (EVENTS_TOPIC, QUARANTINE_TOPIC),
        *,
        group: str | None,
        instance_id: str | None = None,
        session_timeout_s: float = 6.0,  # the brokers' least: another takes over soon after a kill -9
        start_timeout_s: float = 30.0,
        poll_bytes: int = POLL_BYTES,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._group = group
        self._instance_id = instance_id
        self._session_timeout_s = session_timeout_s
        self._start_timeout_s = start_timeout_s
        self._poll_bytes = poll_bytes
        self._assigned = _Assignments()
        self._consumer: AIOKafkaConsumer | None = None
        self._fetch: asyncio.Task[dict[TopicPartition, list[Any]]] | None = None
        self._sought_since_fetch: set[Partition] = set()
        self._fetched: deque[Record] = deque()
        self._suspects: deque[Partition] = deque()

    async def start(self) -> None:
        """Joins the group. Raises LogUnavailable if that takes too long, LogError if a topic is missing."""
        topics = await describe_topics(self._settings, self._topics)
        self._consumer = consumer = self._new_consumer()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                if self._group is None:
                    everything = [
                        TopicPartition(name, index)
                        for name, topic in topics.items()
                        for index in range(topic.partitions)
                    ]
                    consumer.assign(everything)
                    self._assigned.on_partitions_assigned(everything)
                else:
                    consumer.subscribe(self._topics, listener=self._assigned)
                await consumer.start()
        except (KafkaError, TimeoutError, OSError) as error:
            await self.stop()
            raise unavailable(self._settings, error) from error

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._settings.client_options(),
            group_id=self._group,
            group_instance_id=self._instance_id,
            auto_offset_reset="none",
            enable_auto_commit=False,
            session_timeout_ms=round(self._session_timeout_s * 1000),
            heartbeat_interval_ms=round(self._session_timeout_s * 1000 / 3),
            fetch_max_bytes=self._poll_bytes // _INFLATION,
            max_partition_fetch_bytes=min(self._poll_bytes // _INFLATION, 1024 * 1024),
        )

    def assignment(self) -> Mapping[Partition, int]:
        """See EventLogReader. Empty while the group rebalances."""
        return self._assigned.partitions

    def seek(self, partition: Partition, offset: int) -> None:
        """See EventLogReader."""
        if partition not in self._assigned.partitions:
            return
        self._seek(partition, offset)
        self._fetched = deque(record for record in self._fetched if record.partition != partition)

    def leave(self, partition: Partition) -> None:
        """See EventLogReader."""
        self._assigned.next.pop(partition, None)
        self._fetched = deque(record for record in self._fetched if record.partition != partition)

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """See EventLogReader. During a rebalance it returns nothing."""
        if self._fetched:
            return self._take()
        if self._suspects:
            try:
                self._fetched.extend(await self._walk(self._suspects[0]))
            except LogUnavailable:
                self._suspects.clear()
                self._rewind()
                raise
            return self._take()
        try:
            fetched = await self._fetch_for(timeout_s)
        except CorruptRecordException:
            await self._suspect_all()
            return []
        except OffsetOutOfRangeError as error:
            self._rewind()
            await self._explain_out_of_range(error)
        except NoOffsetForPartitionError:
            # a fetch from before a rebalance, of a partition that came back and is not sought again yet
            self._rewind()
            return []
        except KafkaError as error:
            self._rewind()
            raise unavailable(self._settings, error) from error
        for partition, messages in fetched.items():
            self._accept(Partition(*partition), messages)
        return self._take()

    async def end_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See EventLogReader."""
        kafka_partitions = [TopicPartition(*partition) for partition in partitions]
        ends = await self._ask(self._opened().end_offsets, kafka_partitions)
        return {Partition(*partition): offset for partition, offset in ends.items()}

    async def log_id(self, topic: str) -> str:
        """Kafka's id of the topic."""
        return (await describe_topics(self._settings, [topic]))[topic].topic_id

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Leaves the group, within `timeout_s`. Can be repeated."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.gather(self._fetch, return_exceptions=True)
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.wait([stopping], timeout=timeout_s)
        if not stopping.done():
            stopping.cancel()
            await asyncio.wait([stopping], timeout=1)
            _log.warning("event_log_left_without_goodbye", group=self._group)

    def _opened(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise LogUnavailable("the event log is not open: call start() first")
        return self._consumer

    async def _fetch_for(self, timeout_s: float) -> dict[TopicPartition, list[Any]]:
        """aiokafka's `getmany`, but it ends in time and a cancelled poll loses nothing.

        During a rebalance getmany waits without a limit, and cancelling it would break its idle clock: so
        it goes on, and the next poll takes its result.
        """
        if self._fetch is None:
            sought = [TopicPartition(*partition) for partition in self._assigned.next] or [_NOTHING]
            timeout_ms = round(timeout_s * 1000)
            self._sought_since_fetch = set()
            self._fetch = asyncio.create_task(self._opened().getmany(*sought, timeout_ms=timeout_ms))
        await asyncio.wait([self._fetch], timeout=timeout_s + 0.1)
        if not self._fetch.done():
            return {}
        fetch, self._fetch = self._fetch, None
        return fetch.result()

    def _accept(self, partition: Partition, messages: Sequence[Any]) -> None:
        expected = self._assigned.next.get(partition)
        if expected is None:
            return
        if partition in self._sought_since_fetch:  # these are from before the seek, or from behind it
            self._seek(partition, expected)
            return
        self._fetched.extend(_record(partition, message) for message in messages)
        self._assigned.next[partition] = messages[-1].offset + 1

    def _take(self) -> list[Record]:
        """The next records within the byte bound, of partitions that are still assigned and sought."""
        records: list[Record] = []
        size = 0
        while self._fetched:
            record = self._fetched[0]
            if records and size + len(record.payload) > self._poll_bytes:
                break
            self._fetched.popleft()
            if record.partition in self._assigned.next:
                records.append(record)
                size += len(record.payload)
        return records

    def _seek(self, partition: Partition, offset: int) -> None:
        self._assigned.next[partition] = offset
        self._sought_since_fetch.add(partition)
        self._opened().seek(TopicPartition(*partition), offset)

    def _rewind(self) -> None:
        """After getmany raised: it may have dropped records of other partitions that it had moved past."""
        for partition, offset in self._assigned.next.items():
            self._seek(partition, offset)

    async def _suspect_all(self) -> None:
        """A batch is corrupt, aiokafka does not say where: look at each partition that has more to read."""
        self._rewind()
        ends = await self.end_offsets(list(self._assigned.next))
        self._suspects.extend(
            partition for partition, offset in self._assigned.next.items() if offset < ends[partition]
        )

    async def _walk(self, suspect: Partition) -> list[Record]:
        """The good records of `suspect` up to a corrupt batch, one by one; if there are none, LogHole."""
        consumer = self._opened()
        kafka_partition = TopicPartition(*suspect)
        records: list[Record] = []
        timeout_ms = round(self._settings.request_timeout_s * 1000)
        while suspect in self._assigned.next:
            try:
                found = await self._ask(
                    consumer.getmany, kafka_partition, timeout_ms=timeout_ms, max_records=1
                )
            except CorruptRecordException:
                self._seek(suspect, self._assigned.next[suspect])
                if records:
                    return records
                self._suspects.popleft()
                raise await self._measured_hole(suspect) from None
            if not found:
                break
            records.extend(_record(suspect, message) for message in found[kafka_partition])
            self._assigned.next[suspect] = records[-1].offset + 1
            timeout_ms = 0
        self._suspects.popleft()
        return records

    async def _measured_hole(self, partition: Partition) -> LogHole:
        """From the first unreadable offset to the last before one that can be read, or the end."""
        first = self._assigned.next.pop(partition)
        end = (await self.end_offsets([partition]))[partition]
        offset = first + 1
        while offset < end and not await self._readable(partition, offset):
            offset += 1
        return LogHole(partition, first, offset - 1, "the broker's batch is corrupt")

    async def _readable(self, partition: Partition, offset: int) -> bool:
        consumer = self._opened()
        kafka_partition = TopicPartition(*partition)
        consumer.seek(kafka_partition, offset)
        timeout_ms = round(self._settings.request_timeout_s * 1000)
        try:
            return bool(
                await self._ask(consumer.getmany, kafka_partition, timeout_ms=timeout_ms, max_records=1)
            )
        except CorruptRecordException:
            return False

    async def _explain_out_of_range(self, error: OffsetOutOfRangeError) -> None:
        """Raises LogHole for what was deleted at the beginning, LogError for what never was at the end."""
        consumer = self._opened()
        for kafka_partition, offset in error.args[0].items():
            partition = Partition(*kafka_partition)
            beginnings = await self._ask(consumer.beginning_offsets, [kafka_partition])
            beginning = beginnings[kafka_partition]
            if offset < beginning:
                self._assigned.next.pop(partition, None)
                raise LogHole(partition, offset, beginning - 1, "the broker has deleted them")
            raise LogError(
                f"{partition} ends before the offset {offset}: "
                "this is another log than the one read so far, or an older copy of it"
            )

    async def _ask(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A request to the brokers with a deadline. Lets CorruptRecordException through."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_s + 1):
                return await call(*args, **kwargs)
        except CorruptRecordException:
            raise
        except (KafkaError, TimeoutError, OSError) as error:
            raise unavailable(self._settings, error) from error


def _record(partition: Partition, message: Any) -> Record:
    """Of a record that is not ours: product "" and the broker's time."""
    received_at = received_at_of(message.headers)
    return Record(
        partition,
        message.offset,
        product_of(message.headers) or "",
        message.timestamp * 1000 if received_at is None else received_at,
        message.value or b"",
    )
