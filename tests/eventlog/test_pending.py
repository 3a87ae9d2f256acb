"""Group commit by itself: nothing is lost, mixed up or larger than allowed, whatever comes in."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_eventlog import KeyedEvent, LogUnavailable, Partition
from impact_eventlog.pending import Batch, PendingAppends, WriterLimits
from impact_schemas.wire import decode_record, partition_of

TOPIC = "t"


def body(number: int, size: int) -> bytes:
    return b'{"n":%d,"pad":"%s"}' % (number, b"x" * size)


appends = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from([None, 1, 2]),
        st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.integers(0, 150)), max_size=12),
    ),
    max_size=12,
)


def take_all(pending: PendingAppends, max_bytes: int) -> list[Batch]:
    batches = []
    while waiting := pending.waiting():
        batches += [batch for partition in waiting if (batch := pending.take(partition, max_bytes))]
    return batches


@settings(deadline=None)  # the machine may be busy: nothing here waits
@given(appends=appends, partitions=st.integers(1, 4), batch_bytes=st.integers(1, 3000))
def test_records_hold_every_event_once_in_order_and_within_the_limit(
    appends: list[tuple[str, int | None, list[tuple[bytes, int]]]], partitions: int, batch_bytes: int
) -> None:
    limits = WriterLimits(max_record_bytes=400)

    async def run() -> None:
        pending = PendingAppends(limits, lambda: None)
        expected: dict[tuple[int, str, int | None], list[bytes]] = {}
        futures = []
        number = 0
        for product, received_at, shape in appends:
            events = []
            for key, size in shape:
                events.append(KeyedEvent(key, body(number, size)))
                place = (partition_of(key, partitions), product, received_at)
                expected.setdefault(place, []).append(events[-1].event)
                number += 1
            futures.append(pending.add(TOPIC, product, events, received_at, partitions))
        got: dict[tuple[int, str, int | None], list[bytes]] = {}
        for batch in take_all(pending, batch_bytes):
            for record in batch.records:
                assert len(record.payload) <= limits.max_record_bytes
                place = (batch.partition.number, record.product, record.received_at)
                got.setdefault(place, []).extend(decode_record(record.payload))
            pending.settle(batch)
        assert {place: sorted(events) for place, events in got.items()} == {
            place: sorted(events) for place, events in expected.items()
        }
        assert got == expected
        assert all(future.done() and future.exception() is None for future in futures)
        assert pending.events == 0
        await pending.drained()

    asyncio.run(run())


def events(count: int) -> list[KeyedEvent]:
    return [KeyedEvent(number.to_bytes(8, "big"), body(number, 10)) for number in range(count)]


async def test_an_append_is_done_when_its_last_part_is() -> None:
    pending = PendingAppends(WriterLimits(), lambda: None)
    future = pending.add(TOPIC, "p", events(3), None, 3)
    first, second, third = take_all(pending, 10_000)
    pending.settle(first)
    pending.settle(second)
    assert not future.done()
    pending.settle(third)
    assert future.done()


async def test_one_failed_part_fails_the_append_and_the_rest_does_no_harm() -> None:
    pending = PendingAppends(WriterLimits(), lambda: None)
    future = pending.add(TOPIC, "p", events(3), None, 3)
    first, *rest = take_all(pending, 10_000)
    pending.settle(first, ValueError("broken"))
    with pytest.raises(LogUnavailable, match="broken"):
        await future
    for batch in rest:
        pending.settle(batch)
    assert pending.events == 0


async def test_what_waits_too_long_fails_and_is_never_written() -> None:
    pending = PendingAppends(WriterLimits(append_timeout_s=0.05), lambda: None)
    early = pending.add(TOPIC, "p", events(1), None, 1)
    await asyncio.sleep(0.03)
    late = pending.add(TOPIC, "p", events(1), None, 1)
    with pytest.raises(LogUnavailable, match=r"0\.05 s"):
        await early
    assert not late.done()
    batch = pending.take(Partition(TOPIC, 0), 10_000)
    assert batch is not None
    assert len(batch.parts) == 1
    with pytest.raises(LogUnavailable):
        await late
    assert pending.events == 1  # its bytes are in flight until the write ends
    pending.settle(batch)
    assert pending.events == 0


async def test_giving_up_fails_what_waits() -> None:
    pending = PendingAppends(WriterLimits(), lambda: None)
    future = pending.add(TOPIC, "p", events(4), None, 2)
    pending.give_up("closed")
    with pytest.raises(LogUnavailable, match="closed"):
        await future
    assert pending.waiting() == []
    assert pending.events == 0
