"""How much of the log one transaction takes: what is there, and of a log that is far ahead a good deal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from impact_eventlog import LogError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from impact_eventlog import EventLogReader, Record

POLL_S = 0.5
PAUSE_S = 0.02  # after which no more is on its way
GATHER_S = 0.25  # of the 2 s in which an event must be seen
BEHIND_BYTES = 1024 * 1024  # a poll of more does not come from a log whose end was read just now
TURN_BYTES = 16 * 1024 * 1024  # some 60,000 events, which take about 100 MiB while they are counted


async def next_turn(reader: EventLogReader) -> tuple[list[Record], LogError | None]:
    """The records of a turn, and what stopped the reading behind them, to be raised once they are counted.

    A row of a bucket costs as much as several events, so whoever is behind takes many at once.
    """
    records = list(await reader.poll(POLL_S))
    size, began = _bytes(records), time.monotonic()
    while BEHIND_BYTES < size < TURN_BYTES and time.monotonic() - began < GATHER_S:
        try:
            more = await reader.poll(PAUSE_S)
        except LogError as trouble:
            return records, trouble
        if not more:
            break
        records += more
        size += _bytes(more)
    return records, None


def _bytes(records: Sequence[Record]) -> int:
    return sum(len(record.payload) for record in records)
