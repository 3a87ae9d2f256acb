"""What the ports promise, on both adapters."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from impact_eventlog import LogError, LogUnavailable, Partition, RecordTooLarge
from impact_eventlog.pending import WriterLimits
from impact_schemas.wire import MAX_RECORD_BYTES, decode_record, partition_of
from tests.eventlog.logs import PRODUCT, Log, bodies, event, events, read

if TYPE_CHECKING:
    from impact_eventlog import Record

SAME_KEY = b"0123456789abcdef"


def by_partition(records: list[Record]) -> dict[Partition, list[Record]]:
    grouped: dict[Partition, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.partition, []).append(record)
    return grouped


async def test_what_was_appended_is_read(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, sent := events(range(100)))
    records = await log.everything()
    assert sorted(bodies(records)) == sorted(one.event for one in sent)
    assert {record.product for record in records} == {PRODUCT}


async def test_an_event_goes_to_the_partition_of_its_key(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, sent := events(range(100)))
    expected = {one.event: partition_of(one.key, log.partitions) for one in sent}
    assert {
        body: record.partition.number for record in await log.everything() for body in bodies([record])
    } == expected


async def test_the_order_of_an_append_is_kept_in_each_partition(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, sent := events(range(500), key=SAME_KEY))
        await writer.append(log.topic, PRODUCT, more := events(range(500, 600), key=SAME_KEY))
    assert bodies(await log.everything()) == [one.event for one in sent + more]


async def test_offsets_are_dense_from_zero(log: Log) -> None:
    async with log.writer() as writer:
        for number in range(20):
            await writer.append(log.topic, PRODUCT, [event(str(number))])
    for records in by_partition(await log.everything()).values():
        assert [record.offset for record in records] == list(range(len(records)))


async def test_a_reopened_log_goes_on_where_it_was(log: Log) -> None:
    for number in range(3):
        async with log.writer() as writer:
            await writer.append(log.topic, PRODUCT, [event(str(number), key=SAME_KEY)])
    assert [record.offset for record in await log.everything()] == [0, 1, 2]


async def test_concurrent_appends_share_records(log: Log) -> None:
    async with log.writer() as writer:
        single = [[event(str(number), key=SAME_KEY)] for number in range(300)]
        await asyncio.gather(*(writer.append(log.topic, PRODUCT, one) for one in single))
    records = await log.everything()
    assert len(bodies(records)) == 300
    assert len(records) < 30


async def test_products_and_receipt_times_do_not_mix_in_a_record(log: Log) -> None:
    async with log.writer() as writer:
        await asyncio.gather(
            *(
                writer.append(log.topic, product, [event(f"{product}-{received}", key=SAME_KEY)], received)
                for product in ("a", "b")
                for received in (1, 2)
            )
        )
    for record in await log.everything():
        assert bodies([record]) == [event(f"{record.product}-{record.received_at}").event]


async def test_a_replay_keeps_its_receipt_time(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, [event("old")], received_at=1_400_000_000_123_456)
    assert [record.received_at for record in await log.everything()] == [1_400_000_000_123_456]


async def test_a_record_gets_the_time_at_which_it_is_closed(log: Log) -> None:
    before = time.time_ns() // 1000
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, [event("now")])
    [record] = await log.everything()
    assert before <= record.received_at <= time.time_ns() // 1000


async def test_a_large_append_is_split_into_records_within_the_limit(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, sent := events(range(40), key=SAME_KEY, size=60_000))
    records = await log.everything()
    assert bodies(records) == [one.event for one in sent]
    assert max(len(record.payload) for record in records) <= MAX_RECORD_BYTES
    assert len(records) == 10  # four events of 60,000 bytes fit into each


async def test_an_event_that_fits_into_no_record_is_refused_and_nothing_of_its_append_is_kept(
    log: Log,
) -> None:
    brackets = 2
    largest = MAX_RECORD_BYTES - brackets - len(event("x").event)
    async with log.writer() as writer:
        with pytest.raises(RecordTooLarge):
            await writer.append(log.topic, PRODUCT, [event("a"), event("x", size=largest + 1)])
        await writer.append(log.topic, PRODUCT, [event("x", size=largest)])
    [record] = await log.everything()
    assert len(record.payload) == MAX_RECORD_BYTES


async def test_an_empty_append_writes_nothing(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, [])
    assert await log.everything() == []


async def test_too_much_in_flight_is_refused_at_once(log: Log) -> None:
    limits = WriterLimits(max_bytes_in_flight=10_000)
    async with log.writer(limits) as writer:
        first = asyncio.ensure_future(writer.append(log.topic, PRODUCT, [event("a", size=9_000)]))
        await asyncio.sleep(0)
        with pytest.raises(LogUnavailable):
            await writer.append(log.topic, PRODUCT, [event("b", size=9_000)])
        await first
        await writer.append(log.topic, PRODUCT, [event("c", size=9_000)])
    assert len(bodies(await log.everything())) == 2


async def test_a_cancelled_append_does_no_harm(log: Log) -> None:
    async with log.writer(WriterLimits(max_bytes_in_flight=10_000)) as writer:

        async def append_one() -> None:
            await writer.append(log.topic, PRODUCT, [event("a", size=8_000)])

        for _ in range(20):
            append = asyncio.create_task(append_one())
            await asyncio.sleep(0)
            append.cancel()
            await asyncio.wait([append])
            await asyncio.sleep(0.02)
        await writer.append(log.topic, PRODUCT, [event("last")])
        assert await writer.ready()
    assert event("last").event in bodies(await log.everything())


async def test_a_stopped_writer_refuses_and_stops_again(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, [event("a")])
        await writer.stop()
        with pytest.raises(LogUnavailable):
            await writer.append(log.topic, PRODUCT, [event("b")])


async def test_stop_finishes_what_was_accepted(log: Log) -> None:
    async with log.writer() as writer:
        appends = [
            asyncio.ensure_future(writer.append(log.topic, PRODUCT, [event(str(number))]))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        await writer.stop()
        await asyncio.gather(*appends)
    assert len(bodies(await log.everything())) == 50


async def test_nothing_is_read_before_a_seek(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, events(range(30)))
    async with log.reader() as reader:
        assert set(reader.assignment()) == set(log.all)
        assert await reader.poll(0.3) == []
        reader.seek(log.all[1], 0)
        assert {record.partition for record in await reader.poll(5)} == {log.all[1]}


async def test_a_seek_goes_back_and_forth(log: Log) -> None:
    async with log.writer() as writer:
        for number in range(10):
            await writer.append(log.topic, PRODUCT, [event(str(number), key=SAME_KEY)])
    partition = Partition(log.topic, partition_of(SAME_KEY, log.partitions))
    async with log.reader() as reader:
        for offset in (7, 0, 9, 3):
            reader.seek(partition, offset)
            assert [record.offset for record in await read(reader, 10 - offset)] == list(range(offset, 10))


async def test_a_seek_after_a_cancelled_poll_holds(log: Log) -> None:
    async with log.writer() as writer, log.reader() as reader:
        partition = Partition(log.topic, partition_of(SAME_KEY, log.partitions))
        await writer.append(log.topic, PRODUCT, [event("0", key=SAME_KEY)])
        reader.seek(partition, 0)
        await read(reader, 1)
        poll = asyncio.create_task(reader.poll(5))
        await asyncio.sleep(0.2)
        poll.cancel()
        await asyncio.wait([poll])
        await writer.append(log.topic, PRODUCT, [event("1", key=SAME_KEY)])
        await asyncio.sleep(0.2)  # on Kafka the cancelled poll's fetch ends here
        reader.seek(partition, 0)
        assert [record.offset for record in await read(reader, 2)] == [0, 1]


async def test_a_cancelled_poll_loses_nothing(log: Log) -> None:
    async with log.writer() as writer, log.reader() as reader:
        for partition in log.all:
            reader.seek(partition, 0)
        got: list[Record] = []
        for number in range(40):
            await writer.append(log.topic, PRODUCT, [event(str(number))])
            poll = asyncio.create_task(reader.poll(5))
            await asyncio.sleep(0.001 * (number % 10))
            if not poll.done():
                poll.cancel()
            await asyncio.wait([poll])
            got += [] if poll.cancelled() else poll.result()
        got += await read(reader, 40 - len(got))
    assert sorted(bodies(got)) == sorted(event(str(number)).event for number in range(40))


async def test_an_empty_poll_ends_after_its_timeout(log: Log) -> None:
    async with log.writer(), log.reader() as reader:
        for partition in log.all:
            reader.seek(partition, 0)
        started = time.monotonic()
        assert await reader.poll(0.3) == []
        assert 0.25 < time.monotonic() - started < 2


async def test_a_waiting_poll_gets_an_append(log: Log) -> None:
    async with log.writer() as writer, log.reader() as reader:
        for partition in log.all:
            reader.seek(partition, 0)
        poll = asyncio.create_task(reader.poll(10))
        await asyncio.sleep(0.2)
        await writer.append(log.topic, PRODUCT, [event("a")])
        assert bodies(list(await poll)) == [event("a").event]


async def test_a_poll_is_bounded_in_bytes(log: Log) -> None:
    async with log.writer() as writer:
        for number in range(30):
            await writer.append(log.topic, PRODUCT, [event(str(number), size=20_000)])
        await writer.append(log.topic, PRODUCT, [event("large", size=200_000)])
    async with log.reader(poll_bytes=100_000) as reader:
        for partition in log.all:
            reader.seek(partition, 0)
        got: list[Record] = []
        while len(got) < 31:
            records = await reader.poll(5)
            assert len(records) == 1 or sum(len(record.payload) for record in records) <= 100_000
            got += records
    for records in by_partition(got).values():
        assert [record.offset for record in records] == list(range(len(records)))


async def test_end_offsets_are_those_of_the_next_records(log: Log) -> None:
    async with log.writer() as writer, log.reader() as reader:
        assert set((await reader.end_offsets(log.all)).values()) == {0}
        for number in range(5):
            await writer.append(log.topic, PRODUCT, [event(str(number), key=SAME_KEY)])
        partition = Partition(log.topic, partition_of(SAME_KEY, log.partitions))
        ends = await reader.end_offsets(log.all)
        assert ends[partition] == 5
        assert sum(ends.values()) == 5


async def test_a_log_keeps_its_id(log: Log) -> None:
    ids = set()
    for _ in range(2):
        async with log.writer(), log.reader() as reader:
            ids.add(await reader.log_id(log.topic))
    assert len(ids) == 1
    assert "" not in ids


async def test_an_offset_behind_the_end_is_an_error_and_not_silence(log: Log) -> None:
    async with log.writer() as writer, log.reader() as reader:
        await writer.append(log.topic, PRODUCT, [event("a", key=SAME_KEY)])
        reader.seek(Partition(log.topic, partition_of(SAME_KEY, log.partitions)), 5)
        with pytest.raises(LogError, match="ends") as caught:
            await read(reader, 1)
        assert type(caught.value) is LogError


async def test_a_seek_of_a_foreign_partition_is_without_effect(log: Log) -> None:
    async with log.writer(), log.reader() as reader:
        reader.seek(Partition(log.topic, 99), 0)
        assert await reader.poll(0) == []


async def test_a_writer_is_ready_after_its_start(log: Log) -> None:
    writer = log.new_writer()
    assert not await writer.ready()
    await writer.start()
    try:
        assert await writer.ready()
    finally:
        await writer.stop()


async def test_records_are_plain_json_arrays(log: Log) -> None:
    async with log.writer() as writer:
        await writer.append(log.topic, PRODUCT, events(["ä€"], key=SAME_KEY))
    [record] = await log.everything()
    assert decode_record(record.payload) == [event("ä€").event]
