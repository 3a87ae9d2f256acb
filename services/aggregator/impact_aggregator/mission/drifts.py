"""Drifts over a span: business up while impact goes down, and a group worse while the total improves.

A change counts only beyond chance (`estimates.differs`). A window holds the running day, so of counts, sums
and people a fall counts only if the rest of the day, at the window's pace, would not make up for it.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.mission import estimates
from impact_aggregator.mission.board import grows, is_better, is_worse, main_window, to_nanos
from impact_aggregator.mission.guards import length_in_order
from impact_aggregator.mission.pairs import pairs
from impact_aggregator.mission.segments import groups, split_of
from impact_aggregator.mission.trends import Known, is_followed, length_of
from impact_aggregator.mission.violations import Judgement, ViolationRow, since_when
from impact_aggregator.rules import TOTAL
from impact_aggregator.windows import ALL_TIME, DAY
from impact_schemas import wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from impact_aggregator.mission.board import Board
    from impact_aggregator.mission.violations import Severity
    from impact_schemas.catalog import Metric

# --- changes over a span ------------------------------------------------------------------------------


class _Change(NamedTuple):
    """A value now and a span ago."""

    before: Known
    after: Known
    is_better: bool
    is_worse: bool

    @property
    def relative(self) -> float | None:
        return None if self.before.value == 0 else (self.after.value / self.before.value) - 1


def _change(metric: Metric, kind: estimates.Kind, before: Known, after: Known, done: float) -> _Change:
    """`done`: the share of the window at `after` that is over, 1 if all of it."""
    fallen = after._replace(value=after.value / done)
    is_rise = after.value > before.value and estimates.differs(kind, after, before)
    is_fall = fallen.value < before.value and estimates.differs(kind, fallen, before)
    step = 1 if is_rise else -1 if is_fall else 0
    return _Change(before, after, is_better(metric, step), is_worse(metric, step))


def _change_now(board: Board, name: str, segment: str, window: str, over: int) -> _Change | None:
    metric = board.catalog.metrics[name]
    before = board.before(name, segment, window, over)
    after = board.known(name, segment, window)
    if before is None or after is None:
        return None
    kind = estimates.kind_of(board.catalog, metric)
    return _change(metric, kind, before, after, board.done(name, window))


def _change_at(board: Board, name: str, segment: str, window: str, over: int, at: int) -> _Change | None:
    metric, trend = board.catalog.metrics[name], board.trend(name, segment, window)
    before, after = trend.at(at - over), trend.at(at)
    if before is None or after is None:
        return None
    return _change(metric, estimates.kind_of(board.catalog, metric), before, after, 1.0)


# --- divergence ---------------------------------------------------------------------------------------


def divergences(board: Board) -> Iterator[Judgement]:
    """Each impact metric against the business metric that it names, or else against all, as one rule.

    What the catalog names makes it critical: somebody has thought about it.
    """
    metrics = board.catalog.metrics
    others: dict[str, list[str]] = defaultdict(list)
    for impact, business, _ in pairs(board):
        if not (grows(metrics[business]) and metrics[business].direction == "down"):
            others[impact].append(business)  # costs fall where less is done: no gain by itself
    for impact, metric in metrics.items():
        named = metric.divergence
        if named is not None:
            over = None if named.over is None else named.over // timedelta(days=1) * DAY
            rule = _Rule(f"{impact}_against_{named.business}", impact, over, "critical")
            yield _divergence(board, rule, [named.business])
        elif impact in others:
            rule = _Rule(f"{impact}_against_business", impact, None, "warning")
            yield _divergence(board, rule, others[impact])


class _Rule(NamedTuple):
    name: str
    impact: str
    over: int | None  # microseconds; None: the window's length
    severity: Severity


class _Partner(NamedTuple):
    """A business metric, with the window and the span over which it is compared."""

    business: str
    window: str
    span: int


def _divergence(board: Board, rule: _Rule, businesses: Iterable[str]) -> Judgement:
    metrics = board.catalog.metrics
    subject = (rule.name, rule.impact, TOTAL)
    partners = []
    for business in businesses:
        window = _shared_window(metrics[rule.impact], metrics[business], rule.over)
        if window is not None:
            partners.append(_Partner(business, window, rule.over or length_of(window)))
    changes = {one: _pair_now(board, rule.impact, one) for one in partners}
    known = {one: pair for one, pair in changes.items() if pair is not None}
    apart = {one: pair for one, pair in known.items() if _is_apart(pair)}
    if not apart:
        return Judgement(subject, is_known=bool(known))
    since, is_traced = since_when(board.now, lambda at: _were_apart(board, rule.impact, partners, at))
    first, (change, of_business) = next(iter(apart.items()))
    gains = ", ".join(
        f"{metrics[one.business].title} from {_moved(board, one.business, pair[1])}"
        for one, pair in apart.items()
    )
    row = ViolationRow(
        *(board.product, *subject, since, "divergence", first.window, None),
        *(to_nanos(change.relative), to_nanos(of_business.relative)),
        f"Over {first.span // DAY} days {metrics[rule.impact].title} got worse,"
        f" from {_moved(board, rule.impact, change)}, while business got better: {gains}",
        rule.severity,
    )
    return Judgement(subject, is_known=True, row=row, is_traced=is_traced)


def _pair_now(board: Board, impact: str, one: _Partner) -> tuple[_Change, _Change] | None:
    change = _change_now(board, impact, TOTAL, one.window, one.span)
    other = _change_now(board, one.business, TOTAL, one.window, one.span)
    return None if change is None or other is None else (change, other)


def _is_apart(pair: tuple[_Change, _Change]) -> bool:
    return pair[0].is_worse and pair[1].is_better


def _were_apart(board: Board, impact: str, partners: Iterable[_Partner], at: int) -> bool | None:
    """Whether the impact metric was apart from any of them at the end of a day; None: not known of any."""
    found = None
    for one in partners:
        change = _change_at(board, impact, TOTAL, one.window, one.span, at)
        other = _change_at(board, one.business, TOTAL, one.window, one.span, at)
        if change is not None and other is not None:
            found = bool(found) or _is_apart((change, other))
    return found


def _shared_window(one: Metric, other: Metric, over: int | None) -> str | None:
    """The longest that fits into the span (90 days if none is given); else all time; else the shortest."""
    shared = [window for window in one.windows if window in other.windows and is_followed(window)]
    most = over or 90 * DAY
    fitting = [window for window in shared if length_in_order(window) <= most]
    if fitting:
        return max(fitting, key=length_in_order)
    return ALL_TIME if ALL_TIME in shared else min(shared, key=length_in_order, default=None)


# --- left behind --------------------------------------------------------------------------------------


def left_behind(board: Board) -> Iterator[Judgement]:
    """Each known group of a metric's equity dimension, over the metric's main window."""
    for name, metric in board.catalog.metrics.items():
        window = main_window(metric)
        if metric.equity is None or not is_followed(window):
            continue
        total = _change_now(board, name, TOTAL, window, length_of(window))
        followed = [one for one in board.segments(name) if (name, one, window) in board.trends]
        for segment in groups(followed, metric.equity.dimension):
            if None not in split_of(segment).values():
                yield _group(board, name, segment, window, total)


def _group(board: Board, name: str, segment: str, window: str, total: _Change | None) -> Judgement:
    rule = f"{name}_left_behind"
    subject, span = (rule, name, segment), length_of(window)
    change = _change_now(board, name, segment, window, span)
    if total is None or change is None:
        return Judgement(subject, is_known=False)
    if not (total.is_better and change.is_worse):
        return Judgement(subject, is_known=True)

    def held(at: int) -> bool | None:
        of_total = _change_at(board, name, TOTAL, window, span, at)
        own = _change_at(board, name, segment, window, span, at)
        return None if of_total is None or own is None else of_total.is_better and own.is_worse

    since, is_traced = since_when(board.now, held)
    group = ", ".join(f"{dimension} {value}" for dimension, value in split_of(segment).items())
    row = ViolationRow(
        *(board.product, rule, name, segment, since, "left_behind", window, None),
        *(to_nanos(change.after.value), to_nanos(change.before.value)),
        f"Over {span // DAY} days {board.catalog.metrics[name].title} went"
        f" from {_moved(board, name, total)} in total, but from {_moved(board, name, change)} for {group}",
        "warning",
    )
    return Judgement(subject, is_known=True, row=row, is_traced=is_traced)


def _moved(board: Board, name: str, change: _Change) -> str:
    unit = wording.unit_in(board.catalog.metrics, name)
    return f"{unit.of(change.before.value)} to {unit.of(change.after.value)}"
