"""The Kafka adapter: groups, and what it does when the broker or the producer breaks."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from impact_eventlog import LogError, LogHole, LogUnavailable, Partition
from impact_eventlog.kafka import KafkaReader, KafkaSettings, KafkaWriter, create_topics, describe_topics
from impact_eventlog.pending import WriterLimits
from tests.eventlog.logs import PRODUCT, Log, bodies, event, events, read, wait_for_assignment
from tests.rig.kafka import KafkaServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from impact_eventlog import Record

SHORT = WriterLimits(append_timeout_s=1.5)


@pytest.fixture(scope="module")
def own_server() -> Iterator[KafkaServer]:
    """A broker that these tests may break, and that makes topics by itself as Kafka's default is."""
    with KafkaServer.temporary({"auto.create.topics.enable": "true"}) as server:
        yield server


@pytest.fixture
def broker(own_server: KafkaServer) -> KafkaServer:
    if not own_server.process.running:
        own_server.start()
    return own_server


async def new_log(broker: KafkaServer, partitions: int = 1) -> Log:
    settings = KafkaSettings(broker.bootstrap, partitions=partitions, request_timeout_s=2)
    log = Log(partitions, settings)
    await create_topics(settings, [log.topic])
    return log


def settings_of(log: Log) -> KafkaSettings:
    assert log.settings is not None
    return log.settings


def kafka_writer(log: Log) -> KafkaWriter:
    return KafkaWriter(settings_of(log), [log.topic], limits=SHORT)


async def append_until_it_works(writer: KafkaWriter, log: Log, name: str, timeout_s: float = 40) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                return await writer.append(log.topic, PRODUCT, [event(name)])
            except LogUnavailable:
                await asyncio.sleep(0.1)


async def test_a_second_reader_takes_over_half_with_new_assignment_numbers(kafka_log: Log) -> None:
    group = kafka_log.topic
    async with kafka_log.reader(group=group, session_timeout_s=3) as first:
        alone = dict(first.assignment())
        assert set(alone) == set(kafka_log.all)
        for partition in kafka_log.all:
            first.seek(partition, 0)
        async with kafka_log.writer() as writer, kafka_log.reader(group=group, session_timeout_s=3) as second:
            await wait_for_assignment(first, 3 - len(second.assignment()))
            both = {**first.assignment(), **second.assignment()}
            assert set(both) == set(kafka_log.all)
            assert set(first.assignment().values()).isdisjoint(alone.values())
            await writer.append(kafka_log.topic, PRODUCT, events(range(30)))
            # the seeks from before the rebalance hold no more
            assert await first.poll(0.5) == []
            for partition in first.assignment():
                first.seek(partition, 0)
            assert {record.partition for record in await first.poll(5)} <= set(first.assignment())
        await wait_for_assignment(first, 3)


async def test_a_reader_without_partitions_stays_in_the_group_and_takes_over(kafka_log: Log) -> None:
    group = kafka_log.topic
    async with kafka_log.reader(group=group, session_timeout_s=3) as idle:
        async with kafka_log.reader(group=group, session_timeout_s=3) as b:
            async with kafka_log.reader(group=group, session_timeout_s=3) as c:
                async with kafka_log.reader(group=group, session_timeout_s=3) as d:
                    readers = (idle, b, c, d)
                    async with asyncio.timeout(30):
                        while sum(len(reader.assignment()) for reader in readers) != 3:
                            await asyncio.gather(*(reader.poll(0.1) for reader in readers))
                await asyncio.gather(*(reader.poll(0.1) for reader in (idle, b, c)))
            await idle.poll(0.1)
        await wait_for_assignment(idle, 3)


async def test_a_killed_broker_is_unavailable_within_the_deadline_and_then_works_again(
    broker: KafkaServer,
) -> None:
    log = await new_log(broker)
    writer = kafka_writer(log)
    await writer.start()
    await writer.append(log.topic, PRODUCT, [event("before")])
    async with log.reader() as reader:
        reader.seek(log.all[0], 0)
        await read(reader, 1)
        await asyncio.to_thread(broker.kill)
        assert not await writer.ready()
        started = time.monotonic()
        with pytest.raises(LogUnavailable):
            await writer.append(log.topic, PRODUCT, [event("during")])
        assert time.monotonic() - started < SHORT.append_timeout_s + 1.5
        with pytest.raises(LogUnavailable):
            await reader.end_offsets(log.all)
        await asyncio.to_thread(broker.start)
        await append_until_it_works(writer, log, "after")
        assert await writer.ready()
        await writer.stop()
        rest = await read(reader, (await reader.end_offsets(log.all))[log.all[0]] - 1)
    assert event("after").event in bodies(rest)
    assert event("before").event not in bodies(rest)


async def test_a_broker_that_hangs_is_unavailable_within_the_deadline_and_then_works_again(
    broker: KafkaServer,
) -> None:
    log = await new_log(broker)
    writer = kafka_writer(log)
    await writer.start()
    await writer.append(log.topic, PRODUCT, [event("before")])
    broker.process.pause()
    try:
        # longer than a producer may be stuck: it is replaced while the broker hangs
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            started = time.monotonic()
            with pytest.raises(LogUnavailable):
                await writer.append(log.topic, PRODUCT, [event("during")])
            assert time.monotonic() - started < SHORT.append_timeout_s + 1.5
    finally:
        broker.process.resume()
    await append_until_it_works(writer, log, "after")
    await writer.stop()


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_stop_ends_in_time_while_the_broker_is_away(broker: KafkaServer, how: str) -> None:
    log = await new_log(broker)
    writer = kafka_writer(log)
    await writer.start()
    await writer.append(log.topic, PRODUCT, [event("before")])
    async with log.reader(group=log.topic) as reader:
        reader.seek(log.all[0], 0)
        await read(reader, 1)
        if how == "kill":
            await asyncio.to_thread(broker.kill)
        else:
            broker.process.pause()
        try:
            append = asyncio.ensure_future(writer.append(log.topic, PRODUCT, [event("during")]))
            await asyncio.sleep(0.1)
            started = time.monotonic()
            await writer.stop(0.5)
            assert time.monotonic() - started < 6
            with pytest.raises(LogUnavailable):
                await append
            await reader.stop()  # type: ignore[call-arg,unused-ignore]
            assert time.monotonic() - started < 20
        finally:
            if how == "pause":
                broker.process.resume()


async def test_starting_without_a_broker_is_unavailable(broker: KafkaServer) -> None:
    log = await new_log(broker)
    await asyncio.to_thread(broker.kill)
    with pytest.raises(LogUnavailable, match=broker.bootstrap):
        await kafka_writer(log).start()
    with pytest.raises(LogUnavailable, match=broker.bootstrap):
        await KafkaReader(settings_of(log), [log.topic], group="g").start()


async def test_a_producer_out_of_sequence_is_replaced(kafka_log: Log) -> None:
    log = kafka_log
    writer = kafka_writer(log)
    await writer.start()
    await writer.append(log.topic, PRODUCT, events(range(30)))
    first = writer._producer
    assert first is not None
    for number in range(3):  # what a batch that expired leaves behind
        first._txn_manager.increment_sequence_number(TopicPartition(log.topic, number), 5)
    with pytest.raises(LogUnavailable, match=r"Sequence|Producer"):
        await writer.append(log.topic, PRODUCT, [event("lost")])
    await writer.append(log.topic, PRODUCT, [event("after")])
    assert writer._producer is not first
    await writer.stop()
    assert event("after").event in bodies(await log.everything())


async def test_a_producer_whose_sender_ended_is_replaced(kafka_log: Log) -> None:
    writer = kafka_writer(kafka_log)
    await writer.start()
    first = writer._producer
    assert first is not None

    def broken(**_: object) -> None:
        raise ValueError("a bug in the sender")

    first._message_accumulator.drain_by_nodes = broken
    with pytest.raises(LogUnavailable):
        await writer.append(kafka_log.topic, PRODUCT, [event("lost")])
    await append_until_it_works(writer, kafka_log, "after")
    assert writer._producer is not first
    await writer.stop()


def batch_positions(segment: Path) -> list[tuple[int, int, int]]:
    """(position, first offset, last offset) of each batch in a log segment."""
    data = segment.read_bytes()
    found = []
    position = 0
    while position + 12 <= len(data):
        base = int.from_bytes(data[position : position + 8], "big")
        length = int.from_bytes(data[position + 8 : position + 12], "big")
        delta = int.from_bytes(data[position + 23 : position + 27], "big")
        found.append((position, base, base + delta))
        position += 12 + length
    return found


def corrupt(segment: Path, batch_position: int) -> None:
    with segment.open("r+b") as file:
        file.seek(batch_position + 61 + 5)  # behind the batch's header
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0xFF]))


async def test_a_corrupt_batch_is_a_hole_with_exact_bounds_and_loses_nothing_else(
    broker: KafkaServer,
) -> None:
    log = await new_log(broker, partitions=3)
    async with log.writer() as writer:
        for round_number in range(12):
            # three products a round: batches of several records
            await asyncio.gather(
                *(
                    writer.append(
                        log.topic, product, events([f"{product}{round_number}{n}" for n in range(9)])
                    )
                    for product in ("a", "b", "c")
                )
            )
    before = {(record.partition, record.offset): record for record in await log.everything()}
    await asyncio.to_thread(broker.stop)
    segment = broker.data_folder / f"{log.topic}-1" / "00000000000000000000.log"
    batches = batch_positions(segment)
    position, first, last = next(b for b in batches[3:] if b[2] > b[1])
    corrupt(segment, position)
    await asyncio.to_thread(broker.start)

    got: list[Record] = []
    holes = []
    async with log.reader() as reader:
        for partition in log.all:
            reader.seek(partition, 0)
        async with asyncio.timeout(60):
            while len(got) < len(before) - (last - first + 1):
                try:
                    got += await reader.poll(1)
                except LogHole as hole:
                    holes.append((hole.partition, hole.first_offset, hole.last_offset))
                    offsets_before = [r.offset for r in got if r.partition == hole.partition]
                    reader.seek(hole.partition, hole.last_offset + 1)
    assert holes == [(log.all[1], first, last)]
    assert offsets_before == list(range(first))
    lost = {(log.all[1], offset) for offset in range(first, last + 1)}
    assert {(record.partition, record.offset): record for record in got} == {
        place: record for place, record in before.items() if place not in lost
    }
    for partition in log.all:
        offsets = [record.offset for record in got if record.partition == partition]
        assert offsets == sorted(set(offsets))


async def test_a_corrupt_batch_at_the_end_is_a_hole_to_the_end(broker: KafkaServer) -> None:
    log = await new_log(broker)
    async with log.writer() as writer:
        for number in range(4):
            await writer.append(log.topic, PRODUCT, [event(str(number))])
    await asyncio.to_thread(broker.stop)
    segment = broker.data_folder / f"{log.topic}-0" / "00000000000000000000.log"
    for position, *_ in batch_positions(segment)[2:]:
        corrupt(segment, position)
    await asyncio.to_thread(broker.start)
    async with log.reader() as reader:
        reader.seek(log.all[0], 0)
        assert [record.offset for record in await read(reader, 2)] == [0, 1]
        with pytest.raises(LogHole) as caught:
            await read(reader, 1)
        assert (caught.value.first_offset, caught.value.last_offset) == (2, 3)


async def test_records_that_the_broker_deleted_are_a_hole(kafka_log: Log) -> None:
    log = kafka_log
    async with log.writer() as writer:
        for number in range(12):
            await writer.append(log.topic, PRODUCT, [event(str(number), key=b"\0" * 8)])
    admin = AIOKafkaAdminClient(bootstrap_servers=settings_of(log).bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(log.topic, 0): RecordsToDelete(before_offset=7)})
    await admin.close()
    async with log.reader() as reader:
        reader.seek(log.all[0], 3)
        with pytest.raises(LogHole) as caught:
            await read(reader, 1)
        hole = caught.value
        assert (hole.partition, hole.first_offset, hole.last_offset) == (log.all[0], 3, 6)
        assert await reader.poll(0.3) == []
        reader.seek(hole.partition, hole.last_offset + 1)
        assert [record.offset for record in await read(reader, 5)] == list(range(7, 12))


async def test_topics_are_made_once_and_kept_for_ever(broker: KafkaServer) -> None:
    log = await new_log(broker, partitions=2)
    assert await create_topics(settings_of(log), [log.topic]) == []
    resource = ConfigResource(ConfigResourceType.TOPIC, log.topic)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    [answer] = await admin.describe_configs([resource])
    await admin.close()
    config = {name: value for name, value, *_ in answer.resources[0][4]}
    assert config["retention.ms"] == "-1"
    assert config["cleanup.policy"] == "delete"


async def test_a_topic_with_other_partitions_is_refused(broker: KafkaServer) -> None:
    log = await new_log(broker, partitions=2)
    with pytest.raises(LogError, match="has 2 partitions, the settings say 3"):
        await create_topics(KafkaSettings(broker.bootstrap, partitions=3), [log.topic])


async def test_a_topic_that_the_brokers_refuse_says_why(broker: KafkaServer) -> None:
    with pytest.raises(LogError, match="eplication"):
        await create_topics(KafkaSettings(broker.bootstrap, replication_factor=3), ["needs-three-brokers"])


async def test_a_missing_topic_is_an_error_and_is_not_made_by_looking(broker: KafkaServer) -> None:
    settings = KafkaSettings(broker.bootstrap)
    for log_part in (KafkaWriter(settings, ["absent"]), KafkaReader(settings, ["absent"], group="g")):
        with pytest.raises(LogError, match="no topic absent: `impact migrate`"):
            await log_part.start()
    with pytest.raises(LogError):
        await describe_topics(settings, ["absent"])


async def test_a_topic_made_again_has_another_id(broker: KafkaServer) -> None:
    log = await new_log(broker)
    before = await describe_topics(settings_of(log), [log.topic])
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.delete_topics([log.topic])
    await admin.close()
    async with asyncio.timeout(20):
        while not await create_topics(settings_of(log), [log.topic]):
            pass  # the brokers delete in their own time
    after = await describe_topics(settings_of(log), [log.topic])
    assert before[log.topic].topic_id != after[log.topic].topic_id


async def test_any_kafka_consumer_can_read_the_records(kafka_log: Log) -> None:
    log = kafka_log
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, [event("a")], received_at=1_700_000_000_000_001)
    consumer = AIOKafkaConsumer(
        log.topic, bootstrap_servers=settings_of(log).bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    message = await consumer.getone()
    await consumer.stop()
    assert json.loads(message.value or b"") == [json.loads(event("a").event)]
    assert dict(message.headers) == {
        "content-type": b"application/cloudevents-batch+json",
        "impact-product": PRODUCT.encode(),
        "impact-received-at": b"1700000000000001",
    }
    assert message.timestamp == 1_700_000_000_000


async def test_a_foreign_record_has_no_product_and_the_brokers_time(kafka_log: Log) -> None:
    log = kafka_log
    producer = AIOKafkaProducer(bootstrap_servers=settings_of(log).bootstrap)
    await producer.start()
    await producer.send_and_wait(log.topic, b"not ours", partition=0, timestamp_ms=1_700_000_000_123)
    await producer.send_and_wait(log.topic, None, key=b"tombstone", partition=0)
    await producer.stop()
    foreign, tombstone = await log.everything()
    assert (foreign.product, foreign.received_at) == ("", 1_700_000_000_123_000)
    assert foreign.payload == b"not ours"
    assert tombstone.payload == b""


def test_sasl_and_tls_settings_reach_the_client(tmp_path: Path) -> None:
    settings = KafkaSettings(
        "kafka:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="impact",
        sasl_password="secret",
    )
    options = settings.client_options()
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "impact"
    assert options["ssl_context"].check_hostname
    assert "secret" not in repr(settings)
    missing = KafkaSettings("kafka:9093", security_protocol="SSL", ssl_cafile=tmp_path / "no.pem")
    with pytest.raises(FileNotFoundError):
        missing.client_options()


def test_partitions_are_told_apart_by_topic() -> None:
    assert Partition("a", 0) != Partition("b", 0)
