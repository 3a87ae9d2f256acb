"""A metric against the usual way and against itself: benchmarks, and the best that it ever was."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.mission.board import grows, longest_window, main_window, to_nanos
from impact_aggregator.mission.trends import is_followed
from impact_aggregator.rules import TOTAL
from impact_aggregator.windows import ALL_TIME, DAY, WINDOWS
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_aggregator.mission.board import Board


class BenchmarkRow(NamedTuple):
    """A row of `benchmark`; numbers in nanos."""

    product: str
    metric: str
    label: str
    benchmark: int
    unit: str
    source: str | None
    year: int | None
    time_window: str
    value: int | None
    ratio: int | None


def benchmarks(board: Board, name: str) -> Iterator[BenchmarkRow]:
    """The total beside each benchmark: over a year or all time of what grows, else the main window."""
    metric = board.catalog.metrics[name]
    window = main_window(metric)
    if grows(metric):
        window = "365d" if "365d" in metric.windows else longest_window(metric)
    value = board.cell(name, TOTAL, window).reading.value
    for one in metric.benchmarks:
        beside = numbers.to_nanos(one.value)
        yield BenchmarkRow(
            *(board.product, name, one.label, beside, one.unit or metric.unit, one.source, one.year),
            *(window, value),
            numbers.divide(value, beside) if value is not None and beside else None,
        )


class RecordRow(NamedTuple):
    """A row of `metric_record`: the best value in nanos, and the start of its day."""

    product: str
    metric: str
    time_window: str
    best: int
    best_at: int


def records(board: Board, name: str) -> Iterator[RecordRow]:
    """The best total of each window at the end of a day.

    Only days whose window was full: a count of 28 days is low on its third day, and no success.
    """
    metric = board.catalog.metrics[name]
    choose = max if metric.direction == "up" else min
    for window in metric.windows:
        if not is_followed(window) or (window == ALL_TIME and grows(metric)):
            continue  # what only grows is at its best today
        trend = board.trend(name, TOTAL, window)
        full = trend.first + (0 if window == ALL_TIME else WINDOWS[window].length - DAY)
        days = [(one.value, at) for at, one in trend.since(full)]
        if days:
            best = choose(value for value, _ in days)
            at = next(at for value, at in days if value == best)
            nanos = to_nanos(best)
            if nanos is not None:
                yield RecordRow(board.product, name, window, nanos, at - DAY)
