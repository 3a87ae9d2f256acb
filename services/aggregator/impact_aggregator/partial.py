"""A partial aggregate: what a bucket holds, how two of them merge, and the value that comes out.

Merging is commutative and associative with the empty partial as its neutral element, so that any split of
the events gives the same result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from impact_aggregator.sketches import Distinct, Latest, Places, Quantiles, Sketch
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUANTILES: dict[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


class Partial:
    """Counts, exact sums in nanos, extremes, the latest value, and a sketch where the aggregate needs one."""

    __slots__ = (
        *("count", "last_time", "latest", "max", "min", "seen", "sketch", "subjects", "sum", "sum_squares"),
        *("top_count", "updated_at"),
    )

    def __init__(self) -> None:
        self.seen = 0  # events of the metric's types, matching or not; kept for the total only
        self.last_time: int | None = None  # the greatest time of those
        self.count = 0
        self.sum: int | None = None
        self.sum_squares: int | None = None  # in units of 10^-18, where a spread is asked for
        self.top_count: int | None = None  # scores in the top box, where the metric has one
        self.min: int | None = None
        self.max: int | None = None
        self.latest: Latest | None = None
        self.sketch: Sketch | None = None
        self.subjects: Distinct | None = None  # whom it is about, of protected metrics where events say so
        self.updated_at: int | None = None  # when the database last took it, where it did

    def see(self, events: int, last_time: int) -> None:
        """Notes events of the metric's types, whether or not they belong to the metric."""
        if events:
            self.seen += events
            self.last_time = _of_both(max, self.last_time, last_time)

    def add_numbers(self, nanos: Sequence[int]) -> None:
        """Adds values to an empty partial."""
        self.count = len(nanos)
        self.sum, self.min, self.max = sum(nanos), min(nanos), max(nanos)

    def add_squares(self, nanos: Sequence[int]) -> None:
        """Adds the squares of values that `add_numbers` has added."""
        self.sum_squares = sum(one * one for one in nanos)

    def add_top(self, nanos: Sequence[int], top: int) -> None:
        """Adds how many of the values that `add_numbers` has added are `top` or more."""
        self.top_count = sum(one >= top for one in nanos)

    def add_distinct(self, hashes: Sequence[int]) -> None:
        """Adds values that count once however often they come to an empty partial."""
        self.count = len(hashes)
        self.sketch = Distinct(hashes)

    def add_subjects(self, hashes: Sequence[int]) -> None:
        """Notes whom its events are about."""
        if hashes:
            self.subjects = Distinct(hashes)

    def add_quantiles(self, nanos: Sequence[int]) -> None:
        """Adds the distribution of values that `add_numbers` has added."""
        self.sketch = Quantiles(nanos)

    def merge(self, other: Partial) -> None:
        """Adds all that `other` holds; `other` stays as it is."""
        self.seen += other.seen
        if other.last_time is not None:
            self.last_time = _of_both(max, self.last_time, other.last_time)
        if not other.count:
            return
        if other.sum is not None:
            self._merge_numbers(other)
        if other.latest is not None and (self.latest is None or other.latest > self.latest):
            self.latest = other.latest
        if other.subjects is not None:
            if self.subjects is None:
                self.subjects = Distinct()
            self.subjects.merge(other.subjects)
        if other.sketch is not None:
            if self.sketch is None:
                self.sketch = type(other.sketch)()
            self.sketch.merge(other.sketch)  # type: ignore[arg-type]  # one metric has one kind of sketch
        self.count += other.count

    def _merge_numbers(self, other: Partial) -> None:
        if self.sum_squares is not None or other.sum_squares is not None:
            self.sum_squares = self._of_all(self.sum_squares, other.sum_squares, other)
        if self.top_count is not None or other.top_count is not None:
            self.top_count = self._of_all(self.top_count, other.top_count, other)
        self.sum = _of_both(int.__add__, self.sum, other.sum)
        self.min = _of_both(min, self.min, other.min)
        self.max = _of_both(max, self.max, other.max)

    def _of_all(self, mine: int | None, theirs: int | None, other: Partial) -> int | None:
        """A sum over all values, unknown where it was not yet kept for a part of them."""
        if not self.count or not other.count:
            return mine if self.count else theirs
        return None if mine is None or theirs is None else mine + theirs

    def value(self, aggregate: str) -> int | None:
        """The number in nanos that `aggregate` makes of this; None where there is nothing to make it of."""
        if aggregate == "count":
            return self.count * numbers.ONE
        if aggregate == "sum":
            return self.sum or 0
        if aggregate == "unique":
            return self.sketch.estimate() * numbers.ONE if isinstance(self.sketch, Distinct) else 0
        if self.count == 0:
            return None
        return self._value_of_some(aggregate)

    def _value_of_some(self, aggregate: str) -> int | None:
        if aggregate == "mean":
            return None if self.sum is None else numbers.divide_by_count(self.sum, self.count)
        if aggregate == "min":
            return self.min
        if aggregate == "max":
            return self.max
        if aggregate == "latest":
            if isinstance(self.sketch, Places):
                return self.sketch.total()
            return None if self.latest is None else self.latest[2]
        if isinstance(self.sketch, Quantiles):
            return self.sketch.quantile(QUANTILES[aggregate])
        raise ValueError(f"no such aggregate: {aggregate}")

    @property
    def is_empty(self) -> bool:
        """Whether it is as if no event had ever come."""
        return not self.seen and not self.count

    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        weight = 400
        if self.sketch is not None:
            weight += self.sketch.weight()
        if self.subjects is not None:
            weight += self.subjects.weight()
        return weight

    def estimate(self, aggregate: str) -> int | None:
        """The sketch's value in nanos, for the views; None for aggregates that SQL works out itself."""
        return None if self.sketch is None else self.value(aggregate)


def _of_both(choose: Callable[[int, int], int], mine: int | None, theirs: int | None) -> int | None:
    if mine is None:
        return theirs
    return mine if theirs is None else choose(mine, theirs)
