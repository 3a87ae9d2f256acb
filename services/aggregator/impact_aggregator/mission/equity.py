"""Who is left behind: gaps between groups, the share of each group that is reached, and whom nobody knows.

A gap is the group's value minus the reference's. Its 95 % interval is Newcombe's where the metric is a
proportion and Welch's where it is a mean; other values have no formula, and none is made up. A group's
`standing` is `worse`, `better` or `alike`: alike as long as the interval holds 0, or without an interval as
long as the gap is below 1 % of the reference. Counts and sums depend on the size of the group: they stand by
the shares of their people who are reached, where the catalog knows them, else nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.mission import estimates
from impact_aggregator.mission.board import grows, is_better, longest_window, to_nanos
from impact_aggregator.mission.segments import is_by, segment_of, split_of
from impact_aggregator.mission.trends import Known
from impact_aggregator.rules import TOTAL
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_aggregator.mission.board import Board
    from impact_aggregator.mission.estimates import Kind
    from impact_aggregator.mission.statistics import Interval
    from impact_aggregator.mission.trends import Cell
    from impact_schemas.catalog import Metric

_STATES = ("suppressed", "no_data", "stale", "ok")  # of two values the first that one of them is in


class GapRow(NamedTuple):
    """A row of `equity_gap`; numbers in nanos."""

    product: str
    metric: str
    time_window: str
    dimension: str
    segment: str
    reference_segment: str
    reference_value: int | None
    value: int | None
    gap: int | None
    ratio: int | None
    reference_n: int | None
    n: int | None
    ci_low: int | None
    ci_high: int | None
    status: str
    standing: str | None


def gaps(board: Board, name: str, segment: str) -> Iterator[GapRow]:
    """A row for each window, if the segment is a group of the metric's equity dimension."""
    metric = board.catalog.metrics[name]
    reference = reference_of(metric)
    if metric.equity is None or reference is None or segment == reference:
        return
    dimension = metric.equity.dimension
    if not is_by(segment, dimension) or segment not in board.segments(name):
        return
    kind = estimates.kind_of(board.catalog, metric)
    for window in metric.windows:
        own, other = board.cell(name, segment, window), board.cell(name, reference, window)
        key = (board.product, name, window, dimension, segment, reference)
        yield _gap(key, metric, kind, own, other)


def reference_of(metric: Metric) -> str | None:
    """The group that the others of the metric's equity dimension are compared with."""
    return None if metric.equity is None else segment_of({metric.equity.dimension: metric.equity.reference})


def weaker(one: Cell, other: Cell) -> str:
    """The status of what is made of two values."""
    return min((one.reading.status, other.reading.status), key=_STATES.index)


def _gap(
    key: tuple[str, str, str, str, str, str], metric: Metric, kind: Kind, own: Cell, other: Cell
) -> GapRow:
    value, reference_value = own.reading.value, other.reading.value
    one, reference = own.known, other.known
    gap = ratio = interval = standing = None
    if value is not None and reference_value is not None and one is not None and reference is not None:
        gap = value - reference_value
        ratio = numbers.divide(value, reference_value) if reference_value else None
        interval = estimates.difference(kind, one, reference)
        standing = _standing(metric, key[-2:], one, reference, interval)
    return GapRow(
        *key,
        *(reference_value, value, gap, ratio, other.reading.n, own.reading.n),
        *(to_nanos(interval.low) if interval else None, to_nanos(interval.high) if interval else None),
        *(weaker(own, other), standing),
    )


def _standing(
    metric: Metric, segments: tuple[str, str], own: Known, other: Known, interval: Interval | None
) -> str | None:
    if grows(metric):
        people = tuple(_people(metric, segment) for segment in segments)
        if 0 in people:
            return None
        own, other = (Known(one.value / n, n) for one, n in zip((own, other), people, strict=True))
        interval = estimates.difference("proportion", own, other)
    if interval is not None:
        is_apart = interval.excludes_zero
    else:
        is_apart = abs(own.value - other.value) > estimates.MEANINGFUL_SHARE * abs(other.value)
    if not is_apart:
        return "alike"
    return "better" if is_better(metric, own.value - other.value) else "worse"


def _people(metric: Metric, segment: str) -> int:
    """How many people the group has, as the catalog knows; 0: it does not."""
    if metric.equity is None or metric.equity.population is None:
        return 0
    (group,) = split_of(segment).values()
    return metric.equity.population.values.get(str(group), 0)


# --- the people there are -----------------------------------------------------------------------------


class PopulationRow(NamedTuple):
    """A row of `population_share`; value and share in nanos."""

    product: str
    metric: str
    time_window: str
    dimension: str
    segment: str
    value: int | None
    population: int
    share: int | None


def population_shares(board: Board, name: str) -> Iterator[PopulationRow]:
    """How many of the people of each group are reached; groups of whom none came are there too."""
    metric = board.catalog.metrics[name]
    if metric.equity is None or metric.equity.population is None:
        return
    if estimates.kind_of(board.catalog, metric) != "count":
        return  # a share of a rate is no share of people
    dimension = metric.equity.dimension
    for group, people in metric.equity.population.values.items():
        segment = segment_of({dimension: group})
        for window in metric.windows:
            value = board.cell(name, segment, window).reading.value
            share = None if value is None else numbers.divide_by_count(value, people)
            yield PopulationRow(board.product, name, window, dimension, segment, value, people, share)


# --- whom nobody knows --------------------------------------------------------------------------------


class CoverageRow(NamedTuple):
    """A row of `dimension_coverage`: events by whether their group is known; the share in nanos."""

    product: str
    metric: str
    dimension: str
    known: int | None
    unknown: int | None
    share_unknown: int | None


def coverage(board: Board, name: str) -> Iterator[CoverageRow]:
    """A row for each dimension, over all time where it can; nothing of what is suppressed."""
    metric = board.catalog.metrics[name]
    window = longest_window(metric)
    total = board.cell(name, TOTAL, window).reading
    for dimension in _dimensions(board, name):
        by_window = board.segments(name).get(segment_of({dimension: None}))
        unknown = 0 if by_window is None else by_window[window].reading.n
        if total.n is None or unknown is None:
            yield CoverageRow(board.product, name, dimension, None, None, None)
        else:
            share = numbers.divide_by_count(unknown * numbers.ONE, total.n) if total.n else None
            yield CoverageRow(board.product, name, dimension, total.n - unknown, unknown, share)


def _dimensions(board: Board, name: str) -> list[str]:
    """A derived metric is split as its parts are, where it does not say."""
    metric = board.catalog.metrics[name]
    if metric.dimensions or not metric.derived_from:
        return list(metric.dimensions)
    splits = [_dimensions(board, part) for part in metric.derived_from]
    return [one for one in splits[0] if all(one in other for other in splits)]
