"""Which feature did it: what came through each feature, and how that differs from what came through others.

A metric that has the dimension `feature` has a row for each of its values. Of what adds up a feature has a
share of the total. A proportion or a mean is compared with the rest, which is the total less the feature,
with Newcombe's or Welch's 95 % interval. People choose features themselves: a difference is weaker evidence
than an experiment's.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.mission import estimates
from impact_aggregator.mission.board import grows, to_nanos
from impact_aggregator.mission.equity import weaker
from impact_aggregator.mission.pairs import change_of
from impact_aggregator.mission.segments import FEATURE, groups, label_of, split_of
from impact_aggregator.mission.statistics import variance_of
from impact_aggregator.mission.trends import Known
from impact_aggregator.rules import TOTAL
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_aggregator.mission.board import Board
    from impact_aggregator.mission.estimates import Kind
    from impact_aggregator.mission.trends import Cell
    from impact_schemas.catalog import Metric


class FeatureRow(NamedTuple):
    """A row of `feature_result`; numbers in nanos, the change as a share of the value before."""

    product: str
    metric: str
    time_window: str
    feature: str
    value: int | None
    n: int | None
    share: int | None
    change: int | None
    rest_value: int | None
    rest_n: int | None
    difference: int | None
    ci_low: int | None
    ci_high: int | None
    method: str | None
    status: str


def rows(board: Board, name: str) -> Iterator[FeatureRow]:
    """A row for each window and feature; none where the metric is not split by features."""
    metric = board.catalog.metrics[name]
    for segment in groups(board.segments(name), FEATURE):
        for window in metric.windows:
            yield _row(board, name, metric, segment, window)


def _row(board: Board, name: str, metric: Metric, segment: str, window: str) -> FeatureRow:
    own, total = board.cell(name, segment, window), board.cell(name, TOTAL, window)
    value, of_total = own.reading.value, total.reading.value
    kind = estimates.kind_of(board.catalog, metric)
    rest = _rest(kind, own, total)
    interval = estimates.difference(kind, own.known, rest)
    share = None
    if grows(metric) and value is not None and of_total:
        share = numbers.divide(value, of_total)
    return FeatureRow(
        *(board.product, name, window, label_of(split_of(segment)[FEATURE])),
        *(value, own.reading.n, share),
        to_nanos(change_of(board, name, segment, window)),
        None if rest is None else to_nanos(rest.value),
        None if rest is None else rest.n,
        None if rest is None or own.value is None else to_nanos(own.value - rest.value),
        *(to_nanos(interval.low) if interval else None, to_nanos(interval.high) if interval else None),
        f"{estimates.METHODS[kind]}, not randomised" if interval else None,
        weaker(own, total),
    )


def _rest(kind: Kind, own: Cell, total: Cell) -> Known | None:
    """The total without the feature: of proportions and means, whose events are in one feature each."""
    one, both = own.known, total.known
    if one is None or both is None or both.n <= one.n:
        return None
    n = both.n - one.n
    if kind == "proportion":
        return Known((round(both.value * both.n) - round(one.value * one.n)) / n, n)
    if kind != "mean" or own.spread is None or total.spread is None:
        return None
    added, squares = total.spread.total - own.spread.total, total.spread.squares - own.spread.squares
    variance = variance_of(n, added, squares)
    return Known(added / n / numbers.ONE, n, nan if variance is None else variance)
