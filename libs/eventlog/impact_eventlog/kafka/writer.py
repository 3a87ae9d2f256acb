"""Appends to Kafka: one batch a partition at a time, `acks=all`, idempotent; what arrives meanwhile goes
into the next."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from impact_eventlog.kafka.connection import unavailable
from impact_eventlog.kafka.topics import describe_topics
from impact_eventlog.pending import PendingAppends, WriterLimits
from impact_eventlog.ports import LogUnavailable
from impact_schemas.wire import BATCH_TYPE, EVENTS_TOPIC, QUARANTINE_TOPIC, REJECTIONS_TYPE, record_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from impact_eventlog.kafka.connection import KafkaSettings
    from impact_eventlog.pending import Batch
    from impact_eventlog.ports import KeyedEvent, Partition

_log = structlog.get_logger(__name__)

# below Kafka's default message.max.bytes (1 MiB) with room for the batch's own framing
_BATCH_BYTES = 900_000
_BATCH_LIMIT = 1_000_000
_RETIRED_PRODUCER_S = 2.0  # how long a producer that failed may still deliver its other partitions
_CLOSE_S = 3.0
_MAX_BACKOFF_S = 2.0
# Few events wait until what is under way has arrived and as many as last time have come, so that more of them
# share a record: 5.0 instead of 3.9 events with 64 callers of one event. Nobody waits longer than this, and a
# lone caller not at all. While others are under way it may be longer: the broker would not get them earlier.
_LINGER_S = 0.005
_LINGER_BEHIND_S = 0.02
_FEW_EVENTS = 500


class KafkaWriter:
    """Appends to `topics`, which must exist. See EventLogWriter.

    `clock_us` gives the time at which a record is closed, in microseconds since 1970.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Collection[str] = (EVENTS_TOPIC, QUARANTINE_TOPIC),
        *,
        limits: WriterLimits | None = None,
        compression: str | None = None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._compression = compression
        self._clock_us = clock_us
        self._work = asyncio.Event()
        limits = limits or WriterLimits()
        self._pending = PendingAppends(limits, self._work.set)
        self._stuck_s = limits.append_timeout_s + settings.request_timeout_s
        self._partitions: dict[str, int] = {}
        self._in_flight: dict[Partition, float] = {}  # since when, the oldest first
        self._events_in_flight = 0
        self._came_together = 0  # events that waited when the last batches were taken
        self._hold: asyncio.TimerHandle | None = None
        self._hold_behind = False  # begun while others were under way
        self._held_enough = False
        self._producer: AIOKafkaProducer | None = None
        self._loop: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises LogUnavailable if no broker answers in time, LogError if a topic is missing."""
        topics = await describe_topics(self._settings, self._topics)
        self._partitions = {name: topic.partitions for name, topic in topics.items()}
        self._producer = await self._new_producer()
        self._loop = asyncio.create_task(self._send_batches())

    def append(
        self, topic: str, product: str, events: Sequence[KeyedEvent], received_at: int | None = None
    ) -> asyncio.Future[None]:
        """See EventLogWriter."""
        if self._loop is None:
            raise LogUnavailable("the event log is not open")
        return self._pending.add(topic, product, events, received_at, self._partitions[topic])

    async def ready(self) -> bool:
        """Whether every partition has a leader now: asks a broker, within 2 s."""
        producer = self._producer
        if producer is None or self._pending.full:
            return False
        try:
            async with asyncio.timeout(2):
                cluster = await producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError, OSError):
            return False
        return all(
            cluster.leader_for_partition(TopicPartition(topic, index)) not in (None, -1)
            for topic, partitions in self._partitions.items()
            for index in range(partitions)
        )

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Delivers what was accepted within `timeout_s`, closes within 5 s more. Can be repeated."""
        if self._loop is None:
            return
        loop, self._loop = self._loop, None  # from here on no append is taken
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._pending.drained()
        if self._pending.events:
            _log.warning("event_log_stopped_before_delivery", events_unknown=self._pending.events)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        self._pending.give_up("the event log was closed")
        if self._producer is not None:
            self._retire(self._producer, 0 if self._in_flight else _CLOSE_S)
        await asyncio.gather(*self._retiring)

    async def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._settings.client_options(),
            acks="all",
            enable_idempotence=True,
            compression_type=self._compression,
            max_batch_size=_BATCH_LIMIT,
        )
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                await producer.start()
                for topic in self._topics:  # so that no send waits for what is known about a topic
                    await producer.partitions_for(topic)
        except BaseException as error:
            await _close_producer(producer, 1)
            if isinstance(error, KafkaError | TimeoutError | OSError):
                raise unavailable(self._settings, error) from error
            raise
        return producer

    async def _send_batches(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._is_early():
                continue
            self._give_up_a_stuck_producer()
            producer = self._producer or await self._replaced_producer()
            for partition in self._pending.waiting():
                if partition not in self._in_flight and producer is self._producer:
                    await self._send(producer, partition)

    def _is_early(self) -> bool:
        """Whether few events wait while others are under way, or fewer than came together last time."""
        waiting = self._pending.events - self._events_in_flight
        enough = _FEW_EVENTS if self._in_flight else min(self._came_together, _FEW_EVENTS)
        if 0 < waiting < enough and not self._held_enough:
            if self._hold is None or (self._hold_behind and not self._in_flight):
                self._begin_hold()
            return True
        self._cancel_hold()
        self._held_enough = False
        self._came_together = waiting or self._came_together
        return False

    def _begin_hold(self) -> None:
        self._cancel_hold()
        self._hold_behind = bool(self._in_flight)
        linger_s = _LINGER_BEHIND_S if self._hold_behind else _LINGER_S
        self._hold = asyncio.get_running_loop().call_later(linger_s, self._end_hold)

    def _cancel_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None

    def _end_hold(self) -> None:
        self._held_enough = True
        self._work.set()

    def _give_up_a_stuck_producer(self) -> None:
        """An idempotent producer tries for ever: with a batch that nobody waits for it holds up the rest."""
        oldest = next(iter(self._in_flight.values()), None)
        if self._producer is not None and oldest is not None and time.monotonic() - oldest > self._stuck_s:
            _log.warning("event_log_producer_stuck", batches=len(self._in_flight))
            self._replace(self._producer)

    async def _replaced_producer(self) -> AIOKafkaProducer:
        backoff_s = 0.1
        while self._producer is None:
            try:
                self._producer = await self._new_producer()
            except LogUnavailable as error:
                _log.warning("event_log_unavailable", error=str(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
        return self._producer

    async def _send(self, producer: AIOKafkaProducer, partition: Partition) -> None:
        batch = self._pending.take(partition, _BATCH_BYTES)
        if batch is None:
            return
        self._in_flight[partition] = time.monotonic()
        self._events_in_flight += batch.events
        now = self._clock_us()
        content_type = REJECTIONS_TYPE if partition.topic == self._settings.quarantine_topic else BATCH_TYPE
        builder = producer.create_batch()
        for product, received_at, payload in batch.records:
            received = now if received_at is None else received_at
            headers = record_headers(content_type, product, received)
            builder.append(timestamp=received // 1000, key=None, value=payload, headers=headers)
        try:
            delivery = await producer.send_batch(builder, partition.topic, partition=partition.number)
        except Exception as error:  # noqa: BLE001 - it raises what ended the sender, of any kind
            self._finish(producer, batch, error)
        else:
            delivery.add_done_callback(
                lambda done: self._finish(
                    producer, batch, asyncio.CancelledError() if done.cancelled() else done.exception()
                )
            )

    def _finish(self, producer: AIOKafkaProducer, batch: Batch, error: BaseException | None) -> None:
        self._in_flight.pop(batch.partition, None)
        self._events_in_flight -= batch.events
        self._pending.settle(batch, error)
        if error is not None and producer is self._producer:
            # a batch that failed may have left a hole in the sequence numbers, after which the broker
            # refuses every later batch of this producer
            _log.warning("event_log_write_failed", partition=batch.partition, error=repr(error))
            self._replace(producer)
        self._work.set()

    def _replace(self, producer: AIOKafkaProducer) -> None:
        self._producer = None
        self._retire(producer, _RETIRED_PRODUCER_S)

    def _retire(self, producer: AIOKafkaProducer, timeout_s: float) -> None:
        closing = asyncio.create_task(_close_producer(producer, timeout_s))
        self._retiring.add(closing)
        closing.add_done_callback(self._retiring.discard)


async def _close_producer(producer: AIOKafkaProducer, timeout_s: float) -> None:
    """Never hangs: after `timeout_s` what is undelivered fails, and the producer's tasks are cancelled."""
    stopping = asyncio.create_task(producer.stop())
    await asyncio.wait([stopping], timeout=timeout_s)
    if not stopping.done():
        # aiokafka has no public way out of a stop that waits for an unreachable broker
        producer._message_accumulator.fail_all(KafkaError("the producer was closed"))  # noqa: SLF001
        sender = producer._sender.sender_task  # noqa: SLF001
        # twice: the first makes it wait for requests under way, the second ends these
        for task in (sender, sender, stopping):
            if task is not None:
                task.cancel()
                await asyncio.wait([task], timeout=0.2)
        await asyncio.wait([asyncio.create_task(producer.client.close())], timeout=1)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is not None:
        _log.warning("event_log_close_failed", error=repr(stopping.exception()))
