"""Whatever events come, in whatever order: what the service counts is what the log says."""

from __future__ import annotations

import asyncio
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.verify.counting import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    correction,
    embedded,
    event,
    retraction,
    told,
)

IDS = st.sampled_from([f"e{number}" for number in range(12)])
TIMES = st.sampled_from(
    [
        NOON,
        NOON + 1,
        NOON - 1,
        NOON - 4 * MINUTE,
        NOON - 5 * MINUTE,
        NOON - HOUR,
        NOON - 23 * HOUR,
        NOON - DAY,
        NOON - 7 * DAY - 1,
        NOON - 28 * DAY,
        NOON - 401 * DAY,
    ]
)
NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6),
    st.decimals("-1e14", "1e14", places=11),
    st.sampled_from([Decimal("1.5"), Decimal("0.0000000005"), Decimal("0.0000000015"), 100]),
)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "language": st.sampled_from(["es", "en", None, 'a"b', "\u00e9\\"]),
        "region": st.sampled_from(["north", "3", 3, Decimal("2.5"), None, True, {"a": 1}, [1]]),
        "kept": st.booleans(),
        "minutes": NUMBERS,
        "ward": st.fixed_dictionaries(
            {}, optional={"place": st.sampled_from(["x", "y"]), "beds": st.integers(0, 9)}
        ),
    },
)
SUBJECTS = st.sampled_from([None, "p1", "p2", "p3"])
VISITS = st.builds(
    lambda name, time, subject, data: event(name, time, subject, **data), IDS, TIMES, SUBJECTS, DATA
)
RETRACTIONS = st.builds(lambda name, of: retraction(f"r-{name}-{of}", of), IDS, IDS)
CORRECTIONS = st.builds(
    lambda name, of, data, time: correction(f"k-{name}-{of}", of, data, time), IDS, IDS, DATA, TIMES
)
RECORDS = st.lists(st.one_of(VISITS, VISITS, VISITS, RETRACTIONS, CORRECTIONS), min_size=1, max_size=12)


@settings(
    max_examples=5,  # each takes a second or two: a whole service
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    records=st.lists(RECORDS, min_size=1, max_size=4),
    partitions=st.integers(1, 3),
    pause=st.sampled_from([0, HOUR, DAY]),
)
def test_any_events_are_counted_as_the_log_says(
    records: list[list[dict[str, Any]]], partitions: int, pause: int
) -> None:
    asyncio.run(_count_and_verify(records, partitions, pause))


async def _count_and_verify(records: list[list[dict[str, Any]]], partitions: int, pause: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with embedded(Path(folder), f"sqlite:///{folder}/metrics.db", partitions) as counting:
            half = len(records) // 2
            for part in (records[:half], records[half:]):
                for record in part:
                    await counting.send(*record, received_at=counting.now)
                await counting.count()
                counting.now += pause
            await counting.count()
            assert told(await counting.verify()) == []
