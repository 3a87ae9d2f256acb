"""What the aggregator is measured beside: the floor, and the loop that one writes without it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.process import metered
from impact_aggregator.decode import Envelope
from impact_schemas.wire import PARTITIONS


def floor(bootstrap: str, topic: str, events: int) -> dict[str, Any]:
    """Fetches our records and decodes the envelopes: what no reader of this log can do without."""
    decode = msgspec.json.Decoder(list[Envelope]).decode
    seen = 0

    def take(payload: bytes) -> int:
        nonlocal seen
        seen += len(decode(payload))
        return seen

    return _run(_drain(bootstrap, topic, events, take), events)


def naive(bootstrap: str, topic: str, events: int) -> dict[str, Any]:
    """One event a record, `json.loads`, a dict of counters: no dedup, nothing is kept.

    Per clinic and hour a count, a sum and the set of subjects: the work of the three metrics.
    """
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    costs: defaultdict[tuple[str, str], float] = defaultdict(float)
    subjects: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    seen = 0

    def take(payload: bytes) -> int:
        nonlocal seen
        event = json.loads(payload)
        data = event["data"]
        key = data["clinic"], event["time"][:13]
        counts[key] += 1
        costs[key] += data["cost"]
        subjects[key].add(event["subject"])
        seen += 1
        return seen

    return _run(_drain(bootstrap, topic, events, take), events)


async def _drain(bootstrap: str, topic: str, events: int, take: Any) -> dict[str, float]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    await consumer.start()
    seen = 0
    with metered() as spent:
        while seen < events:
            for messages in (await consumer.getmany(timeout_ms=1000)).values():
                for message in messages:
                    seen = take(message.value)
    await consumer.stop()
    return {"cpu_s": spent.cpu_s, "wall_s": spent.wall_s}


def _run(work: Any, events: int) -> dict[str, Any]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        spent: dict[str, float] = runner.run(work)
    return {"cpu_us": spent["cpu_s"] / events * 1e6, "events_per_s": events / spent["wall_s"]}
