"""What made the difference: arms of experiments, intervals of values, and gross against net.

The difference between an arm and the control has Newcombe's 95 % interval where the metric is a proportion
and Welch's where it is a mean. Sums and counts of arms are shown without one: they depend on how many are in
the arm, so that no formula holds for their difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.mission import estimates
from impact_aggregator.mission.board import to_nanos
from impact_aggregator.mission.equity import weaker
from impact_aggregator.mission.segments import is_of_arm, label_of, segment_of, split_of
from impact_aggregator.rules import ARM
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from impact_aggregator.mission.board import Board
    from impact_aggregator.mission.estimates import Kind
    from impact_aggregator.mission.trends import Cell
    from impact_schemas.catalog import Metric


class ContributionRow(NamedTuple):
    """A row of `arm_contribution`; numbers in nanos."""

    product: str
    metric: str
    time_window: str
    segment: str
    arm: str
    control: str
    value: int | None
    control_value: int | None
    difference: int | None
    ci_low: int | None
    ci_high: int | None
    n: int | None
    n_control: int | None
    method: str | None
    status: str


def contributions(board: Board, name: str) -> Iterator[ContributionRow]:
    """A row for each window, group and arm but the control; events without an arm belong to none."""
    metric = board.catalog.metrics[name]
    if metric.experiment is None:
        return
    kind = estimates.kind_of(board.catalog, metric)
    control = metric.experiment.control
    for segment, arm, group in arms(board, name):
        if arm == control:
            continue
        of_control = segment_of({**group, ARM: control})
        for window in metric.windows:
            own, other = board.cell(name, segment, window), board.cell(name, of_control, window)
            key = (board.product, name, window, segment_of(group), label_of(arm), label_of(control))
            yield _contribution(key, kind, own, other)


def arms(board: Board, name: str) -> Iterator[tuple[str, object, dict[str, object]]]:
    """The metric's segments by arm: each with its arm, and what else it is split by."""
    for segment in board.segments(name):
        if is_of_arm(segment):
            group = split_of(segment)
            arm = group.pop(ARM)
            if arm is not None:
                yield segment, arm, group


def _contribution(
    key: tuple[str, str, str, str, str, str], kind: Kind, own: Cell, other: Cell
) -> ContributionRow:
    value, control_value = own.reading.value, other.reading.value
    is_known = value is not None and control_value is not None
    interval = estimates.difference(kind, own.known, other.known)
    return ContributionRow(
        *key,
        *(value, control_value),
        value - control_value if value is not None and control_value is not None else None,
        *(to_nanos(interval.low) if interval else None, to_nanos(interval.high) if interval else None),
        *(own.reading.n, other.reading.n),
        estimates.METHODS.get(kind) if is_known and interval else None,
        weaker(own, other),
    )


# --- intervals of values ------------------------------------------------------------------------------


class IntervalRow(NamedTuple):
    """A row of `value_interval`; numbers in nanos."""

    product: str
    metric: str
    time_window: str
    segment: str
    value: int | None
    ci_low: int | None
    ci_high: int | None
    n: int | None
    top_box_share: int | None


def intervals(board: Board, name: str, segment: str) -> Iterator[IntervalRow]:
    """A row for each window of a segment of a proportion or a mean: Wilson's interval, or Student's."""
    kind = estimates.kind_of(board.catalog, board.catalog.metrics[name])
    if kind not in ("proportion", "mean") or is_of_arm(segment):
        return
    for window, cell in board.segments(name).get(segment, {}).items():
        interval = estimates.interval(kind, cell.known)
        yield IntervalRow(
            *(board.product, name, window, segment, cell.reading.value),
            *(to_nanos(interval.low) if interval else None, to_nanos(interval.high) if interval else None),
            *(cell.reading.n, _top_box_share(cell)),
        )


def _top_box_share(cell: Cell) -> int | None:
    value, n, _ = cell.reading
    if value is None or not n or cell.spread is None or cell.spread.top is None:
        return None
    return numbers.divide_by_count(cell.spread.top * numbers.ONE, n)


# --- gross and net ------------------------------------------------------------------------------------


class NetRow(NamedTuple):
    """A row of `net_value`; numbers in nanos."""

    product: str
    metric: str
    time_window: str
    segment: str
    gross: int | None
    net: int | None
    deadweight: int
    attribution: int
    displacement: int
    drop_off: int
    source: str | None


def net_values(board: Board, name: str, segment: str) -> Iterator[NetRow]:
    """What of a segment's value is owed to the product, for each window.

    net = gross x (1 - deadweight) x attribution x (1 - displacement) x (1 - drop_off) ^ years, of full years
    since the first baseline of the metric's targets (SROI Network 2012, A Guide to SROI, stage 4).
    """
    metric = board.catalog.metrics[name]
    net = metric.net
    if net is None or is_of_arm(segment):
        return
    share = (1 - float(net.deadweight)) * float(net.attribution) * (1 - float(net.displacement))
    share *= (1 - float(net.drop_off)) ** _years_since_start(metric, board)
    shares = (
        numbers.to_nanos(net.deadweight),
        numbers.to_nanos(net.attribution),
        numbers.to_nanos(net.displacement),
        numbers.to_nanos(net.drop_off),
    )
    for window, cell in board.segments(name).get(segment, {}).items():
        owed = None if cell.value is None else to_nanos(cell.value * share)
        yield NetRow(board.product, name, window, segment, cell.reading.value, owed, *shares, net.source)


def _years_since_start(metric: Metric, board: Board) -> int:
    starts = [target.baseline.at for target in metric.targets if target.baseline is not None]
    return _full_years(min(starts), board.today) if starts else 0


def _full_years(start: date, today: date) -> int:
    years = today.year - start.year - ((today.month, today.day) < (start.month, start.day))
    return max(0, years)
