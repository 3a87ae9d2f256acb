"""Reading the log's past for a recount, beside what else is in the log."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from impact_aggregator.recount import History
from impact_schemas.wire import partition_of
from tests.eventlog.logs import PRODUCT, event

if TYPE_CHECKING:
    from tests.eventlog.logs import Log

RECORDS = 60


def key_of(partition: int, partitions: int) -> bytes:
    while True:
        key = os.urandom(16)
        if partition_of(key, partitions) == partition:
            return key


async def test_the_past_of_one_partition_is_not_held_up_by_what_follows_in_another(log: Log) -> None:
    first, second = log.all[:2]
    async with log.writer() as writer:
        for number in range(RECORDS):
            for partition in (first, second):
                key = key_of(partition.number, log.partitions)
                await writer.append(log.topic, PRODUCT, [event(str(number), key=key, size=2_000)])
    history = History(log.new_reader(poll_bytes=5_000))
    started = time.monotonic()
    for _ in range(3):  # a batch with an amendment in each of two partitions asks for both, again and again
        for partition in (first, second):
            got = [record.offset async for record in history.records(partition, 2, 5)]
            assert got == [2, 3, 4]
    assert time.monotonic() - started < 5
    await history.stop()


async def test_another_read_of_the_past_does_not_move_the_place_of_the_first(log: Log) -> None:
    """A rebuild reads on, and recounts on the way what is behind it."""
    first, second = log.all[:2]
    async with log.writer() as writer:
        for number in range(12):
            for partition in (first, second):
                key = key_of(partition.number, log.partitions)
                await writer.append(log.topic, PRODUCT, [event(str(number), key=key, size=2_000)])
    history = History(log.new_reader(poll_bytes=5_000))
    got = []
    async for record in history.records(first, 0, 12):
        got.append(record.offset)
        other = first if record.offset % 2 else second
        assert [one.offset async for one in history.records(other, 5, 12)] == list(range(5, 12))
    assert got == list(range(12))
    await history.stop()
