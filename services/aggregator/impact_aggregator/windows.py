"""Buckets and rolling windows in time: pure arithmetic on microseconds since 1970, UTC.

Window W with step s at time t covers [floor(t, s) - (W - s), t]: W/s steps, the running one included.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

LAST_MOMENT = 253_402_300_799_999_999  # the end of the year 9999, the last that all parts can name

ALL_TIME = "all"
RESOLUTIONS: dict[str, int] = {"1m": MINUTE, "1h": HOUR, "1d": DAY}
KEPT: dict[str, int] = {"1m": 7 * DAY, "1h": 400 * DAY}  # age of events' time; days are kept for ever
FRESH = KEPT["1m"]  # up to that age an event goes into the finest buckets that its metrics have


@dataclass(frozen=True, slots=True)
class Window:
    """A rolling window: its length, and the resolution of the buckets that make it up."""

    name: str
    length: int  # microseconds
    resolution: str

    @property
    def step(self) -> int:
        """How far the window moves at a time."""
        return RESOLUTIONS[self.resolution]

    def first_bucket(self, now: int) -> int:
        """Start of the oldest bucket in the window at `now`."""
        return floor(now, self.step) - (self.length - self.step)

    def last_bucket(self, now: int) -> int:
        """Start of the running bucket at `now`."""
        return floor(now, self.step)


WINDOWS: dict[str, Window] = {
    window.name: window
    for window in (
        Window("5m", 5 * MINUTE, "1m"),
        Window("1h", HOUR, "1m"),
        Window("24h", DAY, "1h"),
        Window("7d", 7 * DAY, "1d"),
        Window("28d", 28 * DAY, "1d"),
        Window("90d", 90 * DAY, "1d"),
        Window("365d", 365 * DAY, "1d"),
    )
}


def floor(moment: int, step: int) -> int:
    """The last multiple of `step` at or before `moment`; right before 1970 too."""
    return moment - moment % step


def finest_resolution(windows: Iterable[str]) -> str:
    """The finest buckets that a metric with these windows keeps."""
    minutes = any(name in WINDOWS and WINDOWS[name].resolution == "1m" for name in windows)
    return "1m" if minutes else "1h"


def kept_resolution(finest: str, age: int) -> str:
    """The finest buckets that take an event which was `age` old on receipt: none that is deleted by then.

    Decided by the event alone, so that no split of a batch and no rebuild decides otherwise.
    """
    if age > KEPT["1h"]:
        return "1d"
    return "1h" if age > FRESH else finest


def window_start(name: str, now: int) -> int | None:
    """When window `name` begins at `now`; None for all time."""
    return None if name == ALL_TIME else WINDOWS[name].first_bucket(now)


@dataclass(frozen=True, slots=True)
class Span:
    """The buckets of one resolution from `first` up to and including `last`."""

    name: str
    resolution: str
    first: int
    last: int


def window_span(name: str, now: int) -> Span:
    """The buckets that make up a window at `now`."""
    if name == ALL_TIME:
        return Span(name, ALL_TIME, 0, 0)
    window = WINDOWS[name]
    return Span(name, window.resolution, window.first_bucket(now), window.last_bucket(now))


@dataclass(frozen=True, slots=True)
class Period:
    """A calendar month, quarter or year (UTC)."""

    kind: str
    starts_at: int
    ends_at: int  # the start of the next one

    @property
    def span(self) -> Span:
        """The day buckets that make it up."""
        return Span(f"{self.kind} {self.starts_at}", "1d", self.starts_at, self.ends_at - DAY)

    @property
    def months(self) -> tuple[Period, ...]:
        """The calendar months that it consists of."""
        return _months_between(self.starts_at, self.ends_at)


_MONTHS = {"month": 1, "quarter": 3, "year": 12}


@lru_cache(maxsize=1 << 12)  # days are few, and met again in every series
def periods_of(day: int) -> tuple[Period, ...]:
    """The month, quarter and year that a day falls into."""
    date = datetime.fromtimestamp(day / 1_000_000, UTC)
    return tuple(_period(kind, date, months) for kind, months in _MONTHS.items())


def _period(kind: str, date: datetime, months: int) -> Period:
    first = (date.month - 1) // months * months
    following = first + months
    return Period(kind, _month_start(date.year, first), _month_start(date.year, following))


def _month_start(year: int, months: int) -> int:
    start = datetime(year + months // 12, months % 12 + 1, 1, tzinfo=UTC)
    return (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def month_of(day: int) -> Period:
    """The calendar month that a day falls into."""
    return periods_of(day)[0]


@lru_cache(maxsize=1 << 12)
def _months_between(starts_at: int, ends_at: int) -> tuple[Period, ...]:
    months: list[Period] = []
    while starts_at < ends_at:
        months.append(month_of(starts_at))
        starts_at = months[-1].ends_at
    return tuple(months)
