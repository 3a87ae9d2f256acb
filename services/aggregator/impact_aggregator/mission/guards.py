"""Bounds that must hold: limits and targets of guardrails, and parts that are never more than their whole."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from impact_aggregator.mission import estimates
from impact_aggregator.mission.board import to_nanos
from impact_aggregator.mission.segments import segment_of
from impact_aggregator.mission.violations import Judgement, ViolationRow, since_when
from impact_aggregator.rules import TOTAL
from impact_aggregator.sketches import EXACT_LIMIT
from impact_aggregator.windows import ALL_TIME, WINDOWS
from impact_schemas import wording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_aggregator.mission.board import Board
    from impact_aggregator.mission.trends import Known

ESTIMATE_ERROR = 3 * 0.0081  # of estimates of people: three standard errors

# --- guardrails ---------------------------------------------------------------------------------------


def guardrails(board: Board) -> Iterator[Judgement]:
    """Each limit of a metric; of a guardrail without limits each target: short of it is beyond it."""
    for name, metric in board.catalog.metrics.items():
        if metric.limits is not None:
            window = metric.limits.window or metric.windows[0]
            if metric.limits.max is not None:
                yield _bound(
                    board, _Bound(name, f"{name}_max", TOTAL, window, float(metric.limits.max), "up")
                )
            if metric.limits.min is not None:
                yield _bound(
                    board, _Bound(name, f"{name}_min", TOTAL, window, float(metric.limits.min), "down")
                )
        elif metric.role == "guardrail":
            beyond: Literal["up", "down"] = "up" if metric.direction == "down" else "down"
            for target in metric.targets:
                rule = f"{name}_target" if len(metric.targets) == 1 else f"{name}_target_{target.due}"
                segment = segment_of(target.segment)
                yield _bound(board, _Bound(name, rule, segment, target.window, float(target.value), beyond))


class _Bound(NamedTuple):
    """A value that one of a metric's must not pass."""

    metric: str
    rule: str
    segment: str
    window: str
    limit: float
    beyond: Literal["up", "down"]  # on which side it is passed

    def is_passed(self, value: float) -> bool:
        return value > self.limit if self.beyond == "up" else value < self.limit


def _bound(board: Board, bound: _Bound) -> Judgement:
    subject = (bound.rule, bound.metric, bound.segment)
    cell = board.cell(bound.metric, bound.segment, bound.window)
    value = cell.value
    if value is None or not bound.is_passed(value):
        return Judgement(subject, is_known=value is not None)
    metric, trend = (
        board.catalog.metrics[bound.metric],
        board.trend(bound.metric, bound.segment, bound.window),
    )
    since, is_traced = since_when(board.now, lambda at: _passed(bound, trend.at(at)))
    interval = estimates.interval(estimates.kind_of(board.catalog, metric), cell.known)
    is_sure = interval is None or not interval.low <= bound.limit <= interval.high
    unit = wording.unit_in(board.catalog.metrics, bound.metric)
    detail = (
        f"{metric.title} is {unit.of(value)} over {wording.window(bound.window)};"
        f" the bound is {unit.of(bound.limit)}"
    )
    row = ViolationRow(
        *(board.product, *subject, since, "guardrail", bound.window, None),
        *(to_nanos(value), to_nanos(bound.limit)),
        detail if is_sure else f"{detail}, within the 95 % interval of the value",
        "critical" if is_sure else "warning",
    )
    return Judgement(subject, is_known=True, row=row, is_traced=is_traced)


def _passed(bound: _Bound, known: Known | None) -> bool | None:
    return None if known is None else bound.is_passed(known.value)


# --- consistency --------------------------------------------------------------------------------------


class _Pair(NamedTuple):
    """A value that is part of another one."""

    part: str
    window: str
    whole: str
    of_window: str


def within(board: Board) -> Iterator[Judgement]:
    """The rules of the catalog, and that a shorter window is part of a longer one."""
    metrics = board.catalog.metrics
    for one in board.catalog.consistency:
        shared = [window for window in metrics[one.part].windows if window in metrics[one.whole].windows]
        yield _judge(board, one.rule, [_Pair(one.part, window, one.whole, window) for window in shared])
    for name, metric in metrics.items():
        if metric.aggregate in ("count", "unique") and len(metric.windows) > 1:
            by_length = sorted(metric.windows, key=length_in_order)
            pairs = [_Pair(name, shorter, name, longer) for shorter, longer in pairwise(by_length)]
            yield _judge(board, f"{name}_windows", pairs)


def _judge(board: Board, rule: str, pairs: list[_Pair]) -> Judgement:
    subject = (rule, pairs[0].part, TOTAL) if pairs else (rule, "", TOTAL)
    values = {
        pair: (part, whole)
        for pair in pairs
        if (part := board.known(pair.part, TOTAL, pair.window)) is not None
        and (whole := board.known(pair.whole, TOTAL, pair.of_window)) is not None
    }
    broken = next((pair for pair, both in values.items() if _exceeds(board, pair, *both)), None)
    if broken is None:
        return Judgement(subject, is_known=bool(values))
    since, is_traced = since_when(board.now, lambda at: _exceeded(board, broken, at))
    part, whole = values[broken]
    metrics, names = board.catalog.metrics, (broken.part, broken.whole)
    titles = [metrics[name].title for name in names]
    units = [wording.unit_in(metrics, name) for name in names]
    row = ViolationRow(
        *(board.product, *subject, since, "consistency", broken.window, None),
        *(to_nanos(part.value), to_nanos(whole.value)),
        f"{titles[0]} over {wording.window(broken.window)} is {units[0].of(part.value)},"
        f" more than {titles[1]} over {wording.window(broken.of_window)}, which is"
        f" {units[1].of(whole.value)}:"
        " events are missing, or in the wrong metric",
        "critical",
    )
    return Judgement(subject, is_known=True, row=row, is_traced=is_traced)


def _exceeded(board: Board, pair: _Pair, at: int) -> bool | None:
    part = board.trend(pair.part, TOTAL, pair.window).at(at)
    whole = board.trend(pair.whole, TOTAL, pair.of_window).at(at)
    return None if part is None or whole is None else _exceeds(board, pair, part, whole)


def _exceeds(board: Board, pair: _Pair, part: Known, whole: Known) -> bool:
    """Estimates of people may be apart by their error; everything else is exact."""
    metrics = board.catalog.metrics
    is_estimate = "unique" in (metrics[pair.part].aggregate, metrics[pair.whole].aggregate)
    is_estimate &= whole.value > EXACT_LIMIT / 2
    return part.value > whole.value * (1 + ESTIMATE_ERROR if is_estimate else 1)


def length_in_order(window: str) -> float:
    """By which windows are sorted: all time is the longest."""
    return float("inf") if window == ALL_TIME else WINDOWS[window].length
