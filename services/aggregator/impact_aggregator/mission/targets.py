"""Targets: how far each one is, and whether it will be reached, said early.

- progress = (value - baseline) / (target - baseline). Without a baseline the basis is 0: value / target, and
  target / value where less is better.
- expected now: on the straight line from the baseline to the target, or on that through the listed points.
- forecast at the due day: ordinary least squares over the closed days of the window's trend, with a
  prediction interval (see `statistics`): over the last 28, a quarter of the days that are left, the window's
  own length (at most 90 days) or three times the metric's cadence (at most 180), whichever is most. What
  grows with its window is looked at from the day on which the window was full. With fewer than 7 known days
  it is the line from the baseline through the value now, without an interval.
- status: `met` if the value reaches the target; `on_track` if the forecast does; `at_risk` if only the end
  of its interval does, or there is no interval that could tell; else `off_track`. Once the due day is over
  the value at its end decides between `met` and `off_track`.

A target is due at the end of its day (UTC); a baseline is the value at the end of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.mission import statistics
from impact_aggregator.mission.board import end_of, grows, to_nanos
from impact_aggregator.mission.estimates import kind_of
from impact_aggregator.mission.segments import segment_of
from impact_aggregator.mission.statistics import Forecast
from impact_aggregator.windows import ALL_TIME, DAY, WINDOWS, floor
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from impact_aggregator.mission.board import Board
    from impact_schemas.catalog import Metric
    from impact_schemas.catalog.judging import Target

MIN_DAYS = 7
FITTED_DAYS = 28
_LONGEST_WINDOW, _LONGEST_RHYTHM = 90, 180  # days


class TargetRow(NamedTuple):
    """A row of `target_state`; numbers in nanos."""

    product: str
    metric: str
    time_window: str
    segment: str
    due: date
    baseline: int | None
    baseline_at: date | None
    target: int
    value: int | None
    expected_now: int | None
    forecast: int | None
    forecast_low: int | None
    forecast_high: int | None
    trend_days: int
    progress: int | None
    status: str


def rows(board: Board, name: str) -> Iterator[TargetRow]:
    """A row for each target of a metric."""
    metric = board.catalog.metrics[name]
    for target in metric.targets:
        yield _row(board, name, metric, target)


def _row(board: Board, name: str, metric: Metric, target: Target) -> TargetRow:
    segment = segment_of(target.segment)
    reading = board.cell(name, segment, target.window).reading
    value = None if reading.value is None else reading.value / numbers.ONE
    is_over = board.now >= end_of(target.due)
    days = 0
    foreseen = None
    if value is not None and not is_over:
        foreseen, days = _forecast(board, name, target, value)
    judged = _at_due(board, name, target) if is_over else value
    # no data, or none that may be seen: `rolling_metrics` tells the two apart
    known = None if judged is None else _status(metric, target, judged, foreseen, days, is_over=is_over)
    low, high = (None, None) if foreseen is None or not days else (foreseen.low, foreseen.high)
    return TargetRow(
        *(board.product, name, target.window, segment, target.due),
        None if target.baseline is None else numbers.to_nanos(target.baseline.value),
        None if target.baseline is None else target.baseline.at,
        numbers.to_nanos(target.value),
        reading.value,
        to_nanos(expected_at(target, board.now)),
        None if foreseen is None else to_nanos(foreseen.value),
        *(to_nanos(low), to_nanos(high), days),
        to_nanos(None if value is None else progress_of(metric, target, value)),
        known or "no_data",
    )


def reaches(metric: Metric, value: float, target: float) -> bool:
    """Whether a value is the target or better."""
    return value >= target if metric.direction == "up" else value <= target


def progress_of(metric: Metric, target: Target, value: float) -> float | None:
    """The share of the way that is done; below 0 where it went backwards, above 1 beyond the target."""
    goal = float(target.value)
    if target.baseline is None and metric.direction == "down":
        return None if value == 0 else goal / value
    start = 0.0 if target.baseline is None else float(target.baseline.value)
    if goal == start:
        return 1.0 if reaches(metric, value, goal) else 0.0
    return (value - start) / (goal - start)


def expected_at(target: Target, moment: int) -> float | None:
    """The value that is expected at a moment; None before the first point is known."""
    points = [(end_of(point.at), float(point.value)) for point in target.path]
    if target.baseline is not None:
        points.insert(0, (end_of(target.baseline.at), float(target.baseline.value)))
    if not points:
        return None
    points.append((end_of(target.due), float(target.value)))
    points.sort()
    place = bisect_right([at for at, _ in points], moment)
    if place in (0, len(points)):
        return points[min(place, len(points) - 1)][1]
    (start, low), (end, high) = points[place - 1 : place + 1]
    return low + (high - low) * (moment - start) / (end - start)


def _forecast(board: Board, name: str, target: Target, value: float) -> tuple[Forecast | None, int]:
    """The forecast at the due day, and on how many days it stands; 0: on the baseline alone."""
    trend = board.trend(name, segment_of(target.segment), target.window)
    metric, window = board.catalog.metrics[name], _days_of(target.window)
    due, today = end_of(target.due), floor(board.now, DAY)
    first = today - (_fitted_days(metric, (due - today) // DAY, window) - 1) * DAY
    if window is not None and grows(metric):
        full = trend.first + (window - 1) * DAY
        if target.baseline is not None or trend.last - full >= (MIN_DAYS - 1) * DAY:
            first = max(first, full)  # a window that is still filling up grows by that alone
    known = list(trend.since(first))
    if len(known) >= MIN_DAYS:
        times = [(at - today) // DAY for at, _ in known]
        fitted = statistics.forecast(times, [one.value for _, one in known], (due - today) // DAY, window)
        if fitted is not None:
            return _within_range(board, name, fitted), len(known)
    return _from_baseline(target, value, board.now), 0


def _days_of(window: str) -> int | None:
    """Its length in days; None: all time, or less than a day."""
    return None if window == ALL_TIME else WINDOWS[window].length // DAY or None


def _fitted_days(metric: Metric, left: int, window: int | None) -> int:
    """How many days say where a metric goes: more where one day says little."""
    rhythm = 0 if metric.cadence is None else 3 * metric.cadence // timedelta(days=1)
    return max(FITTED_DAYS, left // 4, min(window or 0, _LONGEST_WINDOW), min(rhythm, _LONGEST_RHYTHM))


def _from_baseline(target: Target, value: float, now: int) -> Forecast | None:
    if target.baseline is None or end_of(target.baseline.at) >= now:
        return None
    start, begun = float(target.baseline.value), end_of(target.baseline.at)
    foreseen = start + (value - start) * (end_of(target.due) - begun) / (now - begun)
    return Forecast(foreseen, foreseen, foreseen)


def _within_range(board: Board, name: str, fitted: Forecast) -> Forecast:
    """Counts are not below 0, proportions nor above 1."""
    kind = kind_of(board.catalog, board.catalog.metrics[name])
    if kind not in ("count", "proportion"):
        return fitted
    most = 1.0 if kind == "proportion" else float("inf")
    return Forecast(*(min(max(one, 0.0), most) for one in fitted))


def _at_due(board: Board, name: str, target: Target) -> float | None:
    """The value at the end of the due day; of a day that the trend does not reach back to, the value now."""
    segment = segment_of(target.segment)
    trend, due = board.trend(name, segment, target.window), end_of(target.due)
    if len(trend) and trend.first <= due <= trend.last:
        known = trend.at(due)
        return None if known is None else known.value
    return board.cell(name, segment, target.window).value


def _status(
    metric: Metric, target: Target, value: float, foreseen: Forecast | None, days: int, *, is_over: bool
) -> str:
    goal = float(target.value)
    if reaches(metric, value, goal):
        return "met"
    if is_over:
        return "off_track"
    if foreseen is None:
        return "no_data"
    if reaches(metric, foreseen.value, goal):
        return "on_track"
    best = foreseen.high if metric.direction == "up" else foreseen.low
    return "at_risk" if not days or reaches(metric, best, goal) else "off_track"
