"""One product's numbers as of one moment: what the rules of the mission layer look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from impact_aggregator.mission.trends import NO_TREND, Cell, Known, Trend
from impact_aggregator.values import Reading
from impact_aggregator.windows import ALL_TIME, DAY, WINDOWS, floor
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from impact_schemas.catalog import Catalog, Metric

_EPOCH = date(1970, 1, 1)
_MAIN_AT_MOST = 90 * DAY
_BLOCKS = {"day": DAY, "week": 7 * DAY, "month": 31 * DAY}


NOTHING = Cell(Reading(None, None, "no_data"))

Windows = dict[str, Cell]  # by window
Cells = dict[str, dict[str, Windows]]  # by metric and segment


@dataclass(frozen=True, slots=True)
class Board:
    """The catalog of a product and its numbers; days are those of `now` (microseconds since 1970, UTC)."""

    catalog: Catalog
    cells: Mapping[str, Mapping[str, Mapping[str, Cell]]]
    trends: Mapping[tuple[str, str, str], Trend]  # by metric, segment and window: closed days
    now: int
    blocks: Mapping[str, str] = field(default_factory=dict)  # protected metrics: the grid of their blocks

    @property
    def product(self) -> str:
        """The product's name."""
        return self.catalog.product

    @property
    def today(self) -> date:
        """The day of `now`."""
        return datetime.fromtimestamp(self.now / 1_000_000, UTC).date()

    def segments(self, metric: str) -> Mapping[str, Mapping[str, Cell]]:
        """The cells of a metric by segment and window; those of arms are among them."""
        return self.cells.get(metric, {})

    def cell(self, metric: str, segment: str, window: str) -> Cell:
        """What is known of one value; a series that is not there has no data."""
        return self.segments(metric).get(segment, {}).get(window, NOTHING)

    def trend(self, metric: str, segment: str, window: str) -> Trend:
        """The closed days of one value."""
        return self.trends.get((metric, segment, window), NO_TREND)

    def before(self, metric: str, segment: str, window: str, span: int) -> Known | None:
        """The value a span (microseconds) ago, right before the window that it is now.

        A window holds the running day, unless it is made of closed blocks.
        """
        midnight = floor(self.now, DAY) + (0 if metric in self.blocks else DAY)
        return self.trend(metric, segment, window).at(midnight - span)

    def lag(self, metric: str) -> int:
        """How far (microseconds) the value now may be behind: up to a block of a protected metric."""
        return _BLOCKS[self.blocks[metric]] if metric in self.blocks else 0

    def done(self, metric: str, window: str) -> float:
        """The share of a window that is over; 1 where the running day makes no difference."""
        is_running = metric not in self.blocks and grows(self.catalog.metrics[metric])
        if not is_running or window == ALL_TIME or WINDOWS[window].resolution != "1d":
            return 1.0
        length = WINDOWS[window].length
        return (length - DAY + self.now % DAY) / length

    def known(self, metric: str, segment: str, window: str) -> Known | None:
        """The value now, in the form of a trend's."""
        return self.cell(metric, segment, window).known


def main_window(metric: Metric) -> str:
    """The window by which a metric is judged where none is named.

    The longest of a day to 90 days; else all time, else the longest that there is.
    """
    fitting = [
        name for name in metric.windows if name != ALL_TIME and DAY <= WINDOWS[name].length <= _MAIN_AT_MOST
    ]
    if fitting:
        return max(fitting, key=lambda name: WINDOWS[name].length)
    return longest_window(metric)


def longest_window(metric: Metric) -> str:
    """All time, where the metric has it."""
    if ALL_TIME in metric.windows:
        return ALL_TIME
    return max(metric.windows, key=lambda name: WINDOWS[name].length)


def end_of(day: date) -> int:
    """The midnight (microseconds since 1970, UTC) that ends a day."""
    return ((day - _EPOCH) // timedelta(days=1) + 1) * DAY


def to_nanos(value: float | None) -> int | None:
    """A plain number in nanos; None for what is unknown or beyond what is kept."""
    if value is None or not -numbers.LIMIT < value < numbers.LIMIT:
        return None
    return round(value * numbers.ONE)


def grows(metric: Metric) -> bool:
    """Whether its values grow with the length of the window: counts, sums, people."""
    return metric.aggregate in ("count", "sum", "unique") or metric.derivation in ("sum_of", "difference")


def is_better(metric: Metric, change: float) -> bool:
    """Whether a change is in the metric's direction."""
    return change > 0 if metric.direction == "up" else change < 0


def is_worse(metric: Metric, change: float) -> bool:
    """Whether a change is against the metric's direction."""
    return change < 0 if metric.direction == "up" else change > 0
