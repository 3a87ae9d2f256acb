"""The grid of time of protected metrics: days, ISO weeks from Monday, or months, all UTC. Pure.

Moments are microseconds since 1970. A block is closed when it is over; a window is the union of the closed
blocks within it, counted back from the end of the last one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from impact_aggregator.windows import ALL_TIME, DAY, WINDOWS, floor

RESOLUTIONS = {"day": "1d", "week": "1w", "month": "1mo"}  # as the view metric_buckets names them
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MONDAY = 4 * DAY  # 1970-01-05
_WEEK = 7 * DAY


class Extent(NamedTuple):
    """The closed blocks that a window is made of."""

    hidden: int | None = None  # how many of them hide the cell in question
    start: int | None = None
    end: int | None = None


def block_start(kind: str, moment: int) -> int:
    """Where the block begins that a moment falls into."""
    if kind == "day":
        return floor(moment, DAY)
    if kind == "week":
        return floor(moment - _FIRST_MONDAY, _WEEK) + _FIRST_MONDAY
    date = _EPOCH + timedelta(microseconds=moment)
    return _micros(datetime(date.year, date.month, 1, tzinfo=UTC))


def block_end(kind: str, start: int) -> int:
    """Where the block that begins at `start` ends, and the next one begins."""
    if kind == "month":
        return block_start(kind, start + 31 * DAY)  # the next month: none is longer, none shorter than 28
    return start + (DAY if kind == "day" else _WEEK)


def closed_before(kind: str, now: int) -> int:
    """The end of the last closed block."""
    return block_start(kind, now)


def window_first(window: str, kind: str, now: int) -> int | None:
    """A window's beginning: its blocks are those that start there or later and are closed; None for all."""
    if window == ALL_TIME:
        return None
    return closed_before(kind, now) - WINDOWS[window].length


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
