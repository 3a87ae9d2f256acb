"""What bets changed, for people and for the business, and how sure that is.

- Against the control, where the metric has an experiment: the arm of the bet's name or feature, or for the
  total the only one, over the metric's longest window (`evidence`: compared).
- Else before and after: the metric's main window at the end of the day before the launch, and now, once a
  whole window has passed since; after the day of the bet, as it stood then. This is weaker: other things
  change too (`evidence`: before/after).

`expected` and `measured` are changes in the metric's unit. Status:
- `too_early`: not launched, not measured yet, or before its day and not beyond chance;
- `holding`: it moves the expected way beyond chance; on its day and after it, it reached what was expected,
  but chance cannot be excluded;
- `proven`: on its day and after it, it reached what was expected, beyond chance;
- `failed`: on its day and after it, it fell short of that; before, it moves the other way beyond chance.

`quadrant`, of what changed for the better: both | impact_only | business_only | neither. For people it counts
only beyond chance, where that is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from impact_aggregator.mission import estimates
from impact_aggregator.mission.board import (
    end_of,
    is_better,
    longest_window,
    main_window,
    to_nanos,
)
from impact_aggregator.mission.contributions import arms
from impact_aggregator.mission.segments import segment_of
from impact_aggregator.mission.trends import Known, is_followed, length_of
from impact_aggregator.rules import ARM, TOTAL
from impact_aggregator.windows import DAY
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from impact_aggregator.mission.board import Board
    from impact_aggregator.mission.statistics import Interval
    from impact_schemas.catalog import Bet, Expectation

Status = Literal["too_early", "holding", "proven", "failed"]
Quadrant = Literal["both", "impact_only", "business_only", "neither"]


class BetRow(NamedTuple):
    """A row of `bet_result`; numbers in nanos."""

    product: str
    bet: str
    metric: str
    segment: str
    by: date
    need: str
    expected: int
    measured: int | None
    ci_low: int | None
    ci_high: int | None
    method: str | None
    evidence: str | None
    business_metric: str | None
    business_change: int | None
    quadrant: Quadrant | None
    status: Status


class Measured(NamedTuple):
    """A change, how sure it is, and how it is known."""

    change: float
    interval: Interval | None
    method: str
    evidence: str


def rows(board: Board) -> Iterator[BetRow]:
    """A row for each expectation of each bet."""
    for name, bet in board.catalog.bets.items():
        business = _business_change(board, bet)
        for expectation in bet.expects:
            measured = _measure(board, name, bet, expectation)
            change = None if measured is None else measured.change
            interval = None if measured is None else measured.interval
            is_due = board.now >= end_of(expectation.by)
            yield BetRow(
                *(board.product, name, expectation.metric, segment_of(expectation.segment), expectation.by),
                *(bet.need, numbers.to_nanos(expectation.change), to_nanos(change)),
                *(
                    to_nanos(interval.low) if interval else None,
                    to_nanos(interval.high) if interval else None,
                ),
                None if measured is None else measured.method,
                None if measured is None else measured.evidence,
                bet.business_metric,
                to_nanos(business),
                _quadrant(board, bet, expectation, measured, business),
                status_of(float(expectation.change), change, interval, is_due=is_due),
            )


def status_of(expected: float, change: float | None, interval: Interval | None, *, is_due: bool) -> Status:
    """What a measured change says about an expected one."""
    if change is None:
        return "too_early"
    sign = 1 if expected >= 0 else -1
    side = _side(interval) * sign
    if is_due:
        if change * sign < abs(expected):
            return "failed"
        return "proven" if side > 0 else "holding"
    if side < 0:
        return "failed"
    return "holding" if side > 0 else "too_early"


def _side(interval: Interval | None) -> int:
    """On which side of 0 the whole interval lies; 0: on both, or there is none."""
    if interval is None or not interval.excludes_zero:
        return 0
    return 1 if interval.low > 0 else -1


# --- measuring ----------------------------------------------------------------------------------------


def _measure(board: Board, name: str, bet: Bet, expectation: Expectation) -> Measured | None:
    if bet.launched is None or board.now < end_of(bet.launched) - DAY:
        return None
    arm = _arm_of(board, name, bet, expectation)
    if arm is not None:
        return _against_control(board, expectation, arm)
    return _before_and_after(board, bet.launched, expectation)


def _arm_of(board: Board, name: str, bet: Bet, expectation: Expectation) -> str | None:
    """The arm's segment: of the bet's name or feature; for the total also the only one beside the control."""
    experiment = board.catalog.metrics[expectation.metric].experiment
    if experiment is None:
        return None
    tried = {
        segment: arm
        for segment, arm, group in arms(board, expectation.metric)
        if arm != experiment.control and segment_of(group) == segment_of(expectation.segment)
    }
    named = [segment for segment, arm in tried.items() if arm in (name, bet.feature)]
    if named:
        return named[0]
    return next(iter(tried)) if len(tried) == 1 and not expectation.segment else None


def _against_control(board: Board, expectation: Expectation, arm: str) -> Measured | None:
    metric = board.catalog.metrics[expectation.metric]
    experiment = metric.experiment
    window = longest_window(metric)
    control = segment_of({**expectation.segment, ARM: experiment.control if experiment else None})
    own, other = (board.cell(expectation.metric, segment, window) for segment in (arm, control))
    if own.value is None or other.value is None:
        return None
    kind = estimates.kind_of(board.catalog, metric)
    method = f"arm against control, {estimates.METHODS.get(kind, 'without an interval')}"
    return Measured(
        own.value - other.value, estimates.difference(kind, own.known, other.known), method, "compared"
    )


def _before_and_after(board: Board, launched: date, expectation: Expectation) -> Measured | None:
    metric = board.catalog.metrics[expectation.metric]
    window, segment = main_window(metric), segment_of(expectation.segment)
    found = _two_values(board, expectation.metric, segment, window, launched, end_of(expectation.by))
    if found is None:
        return None
    before, after = found
    kind = estimates.kind_of(board.catalog, metric)
    method = f"{window} before and after the launch"
    return Measured(after.value - before.value, estimates.change(kind, after, before), method, "before/after")


def _two_values(
    board: Board, name: str, segment: str, window: str, launched: date, until: int
) -> tuple[Known, Known] | None:
    """The value before the launch, and now or at `until`, whichever is earlier."""
    if not is_followed(window):
        return None
    launch = end_of(launched) - DAY
    if min(board.now, until) < launch + length_of(window) + board.lag(name):
        return None
    trend = board.trend(name, segment, window)
    before = trend.at(launch)
    after = trend.at(until) if until <= board.now else board.known(name, segment, window)
    return None if before is None or after is None else (before, after)


# --- for the business ---------------------------------------------------------------------------------


def _business_change(board: Board, bet: Bet) -> float | None:
    """The relative change of the bet's business metric, before and after the launch."""
    if bet.business_metric is None or bet.launched is None:
        return None
    window = main_window(board.catalog.metrics[bet.business_metric])
    days = [end_of(one.by) for one in bet.expects]
    found = _two_values(board, bet.business_metric, TOTAL, window, bet.launched, min(days, default=board.now))
    if found is None or found[0].value == 0:
        return None
    before, after = found
    return (after.value - before.value) / abs(before.value)


def _quadrant(
    board: Board, bet: Bet, expectation: Expectation, measured: Measured | None, business: float | None
) -> Quadrant | None:
    if measured is None or business is None or bet.business_metric is None:
        return None
    is_sure = measured.interval is None or measured.interval.excludes_zero
    helps = is_sure and is_better(board.catalog.metrics[expectation.metric], measured.change)
    pays = is_better(board.catalog.metrics[bet.business_metric], business)
    if helps:
        return "both" if pays else "impact_only"
    return "business_only" if pays else "neither"
