"""Trends: each window's value at the end of each day, as known now, from the day buckets.

Other than a snapshot, a trend follows late events and corrections, and does not depend on whether the service
ran on that day. A window's buckets are merged over a sliding span with two stacks, which needs no subtraction
and so serves sums, sketches and extremes alike, at about three merges a day whatever the window's length
(Tangwongsan et al., PVLDB 8 (2015) 702).
"""

from __future__ import annotations

from array import array
from itertools import islice
from math import isnan, nan
from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.mission.statistics import variance_of
from impact_aggregator.partial import Partial
from impact_aggregator.values import Formula, Input, Reading, Spread, reading_of, spread_of
from impact_aggregator.windows import ALL_TIME, DAY, WINDOWS
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from impact_schemas.catalog import Metric

KEPT_DAYS = 400
COMPARED_DAYS = 28  # back to which "all" is compared: it has no length of its own


Days = dict[int, Partial]  # start of a day -> what its buckets hold


class Known(NamedTuple):
    """A value as a plain number, with what its interval is worked out from."""

    value: float
    n: int
    variance: float = nan  # of the values behind a mean; not a number where there is none


class Cell(NamedTuple):
    """The value of one series and window at one moment."""

    reading: Reading
    spread: Spread | None = None  # of a mean

    @property
    def value(self) -> float | None:
        """The value as a plain number; None if it is not known."""
        return None if self.reading.value is None else self.reading.value / numbers.ONE

    @property
    def known(self) -> Known | None:
        """All that is known of it."""
        value, n = self.value, self.reading.n or 0
        if value is None:
            return None
        variance = None if self.spread is None else variance_of(n, self.spread.total, self.spread.squares)
        return Known(value, n, nan if variance is None else variance)


class Trend:
    """The values of one series and window at the ends of consecutive days; unknown ones are left out."""

    __slots__ = ("_counts", "_values", "_variances", "first")

    def __init__(self, first: int, cells: Iterable[Cell] = ()) -> None:
        """`first` is the midnight that ended the first day."""
        self.first = first
        known = [cell.known or _UNKNOWN for cell in cells]
        self._values = array("d", [one.value for one in known])
        self._counts = array("d", [one.n for one in known])
        self._variances = array("d", [one.variance for one in known])

    def __len__(self) -> int:
        return len(self._values)

    @property
    def last(self) -> int:
        """The midnight that ended the last day."""
        return self.first + (len(self) - 1) * DAY

    def at(self, midnight: int) -> Known | None:
        """The value at the end of the day that `midnight` ended; None if it is not known."""
        place = (midnight - self.first) // DAY
        if not 0 <= place < len(self) or isnan(self._values[place]):
            return None
        return Known(self._values[place], int(self._counts[place]), self._variances[place])

    def since(self, midnight: int) -> Iterator[tuple[int, Known]]:
        """What is known from `midnight` on, in order of time."""
        for place in range(max(0, (midnight - self.first) // DAY), len(self)):
            known = self.at(self.first + place * DAY)
            if known is not None:
                yield self.first + place * DAY, known


_UNKNOWN = Known(nan, 0)
NO_TREND = Trend(0)


def is_followed(window: str) -> bool:
    """Whether a window has a trend: those that are at least a day long."""
    return window == ALL_TIME or WINDOWS[window].resolution != "1m"


def length_of(window: str) -> int:
    """How far back (microseconds) the value of `window` is compared with: its own length."""
    return COMPARED_DAYS * DAY if window == ALL_TIME else WINDOWS[window].length


def first_day_needed(window: str, first: int) -> int:
    """Start of the earliest day bucket that a trend from day `first` on is made of; 0 stands for all."""
    return 0 if window == ALL_TIME else first - WINDOWS[window].length + DAY


def cells(
    metric: Metric,
    formula: Formula,
    parts: tuple[Days, ...],
    totals: tuple[Days, ...],
    window: str,
    first: int,
    last: int,
) -> Iterator[Cell]:
    """The window's value at the end of each day from day `first` to day `last` (starts of days).

    `parts` are a segment's day buckets, a ratio's numerator and denominator; `totals` those of the total.
    """
    merged_parts = [_merged(days, window, first, last) for days in parts]
    merged_totals = [_merged(_without_content(days), window, first, last) for days in totals]
    for of_day in zip(zip(*merged_parts, strict=True), zip(*merged_totals, strict=True), strict=True):
        reading = reading_of(metric, formula, Input(*of_day, stale=False))
        spread = None if reading.value is None else spread_of(of_day[0][0])
        yield Cell(reading, spread)


def _merged(days: Days, window: str, first: int, last: int) -> Iterator[Partial]:
    if window == ALL_TIME:
        return _cumulative(days, first, last)
    return sliding(days, WINDOWS[window].length // DAY, first, last)


def sliding(days: Days, length: int, first: int, last: int) -> Iterator[Partial]:
    """For each day from `first` to `last`: its own bucket and those of the `length` - 1 days before it."""
    front: list[Partial] = []  # of the oldest days: each with all that follow in the front; next to go last
    back: list[Partial] = []
    behind = Partial()  # the back's together
    start = first - (length - 1) * DAY
    incoming = (days.get(start + place * DAY, _EMPTY) for place in range((last - start) // DAY + 1))
    for day in islice(incoming, length - 1):
        back.append(day)
        behind.merge(day)
    for day in incoming:
        back.append(day)
        behind.merge(day)
        yield _both(front[-1] if front else _EMPTY, behind)
        if not front:
            front, back, behind = _turned(back), [], Partial()
        front.pop()


def _turned(back: list[Partial]) -> list[Partial]:
    front: list[Partial] = []
    following = _EMPTY
    for day in reversed(back):
        following = _both(day, following)
        front.append(following)
    return front


def _cumulative(days: Days, first: int, last: int) -> Iterator[Partial]:
    total = Partial()
    for day in sorted(day for day in days if day < first):
        total.merge(days[day])
    for day in range(first, last + DAY, DAY):
        total.merge(days.get(day, _EMPTY))
        yield total


def _both(one: Partial, other: Partial) -> Partial:
    merged = Partial()
    merged.merge(one)
    merged.merge(other)
    return merged


def _without_content(days: Mapping[int, Partial]) -> Days:
    """Of a total it matters only whether any event came."""
    return {day: seen for day, partial in days.items() if (seen := _seen_of(partial)).seen}


def _seen_of(partial: Partial) -> Partial:
    seen = Partial()
    seen.see(partial.seen, partial.last_time or 0)
    return seen


_EMPTY = Partial()
