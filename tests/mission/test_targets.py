"""Targets: numbers by hand on 2026-01-01 at noon, and forecasts against scipy."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from impact_aggregator.mission import targets
from impact_aggregator.mission.board import end_of
from impact_schemas import numbers
from tests.aggregator.conftest import NOON
from tests.mission.boards import board_of, catalog_of, cell, trend_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from impact_aggregator.mission.targets import TargetRow

UP = (
    "metrics: {visits: {title: Visits, event: clinic.visit.v1, aggregate: count, role: impact,"
    " windows: [28d, all],"
)
DOWN = (
    "metrics: {wait: {title: Wait, event: clinic.visit.v1, aggregate: mean, of: data.score, role: impact,"
    " direction: down, windows: [28d],"
)


def _row(
    text: str, value: float | None, trend: Sequence[float | None] | None = None, **more: Any
) -> TargetRow:
    catalog = catalog_of(text)
    (name,) = catalog.metrics
    target = catalog.metrics[name].targets[0]
    place: tuple[str, str, str] = (name, more.pop("segment", "{}"), target.window)
    trends = {place: trend_of(trend, now=more.get("now", NOON))} if trend else {}
    (row,) = targets.rows(
        board_of(catalog, {place: cell(value, **more.pop("cell", {}))}, trends, **more), name
    )
    return row


def _number(nanos: int | None) -> float | None:
    return None if nanos is None else nanos / numbers.ONE


YEAR = "targets: [{window: all, baseline: {value: 100, at: 2025-09-22}, value: 300, due: 2026-04-10}]}}"


def test_progress_and_expectation_are_on_the_straight_line() -> None:
    row = _row(UP + YEAR, 150)  # 200 days in all, of which 100.5 are over
    assert _number(row.progress) == 0.25
    assert _number(row.expected_now) == 200.5
    assert (row.baseline, row.target, row.value) == (100 * numbers.ONE, 300 * numbers.ONE, 150 * numbers.ONE)


def test_listed_points_replace_the_straight_line() -> None:
    path = YEAR.replace("due: 2026-04-10", "due: 2026-04-10, path: [{at: 2025-12-31, value: 280}]")
    assert _number(_row(UP + path, 150).expected_now) == pytest.approx(280 + 20 * 0.5 / 100)


def test_before_the_start_and_after_the_end_the_line_is_level() -> None:
    target = catalog_of(UP + YEAR).metrics["visits"].targets[0]
    assert targets.expected_at(target, end_of(date(2025, 9, 1))) == 100
    assert targets.expected_at(target, end_of(date(2027, 1, 1))) == 300


@pytest.mark.parametrize(
    ("daily", "status"),
    [(1.6, "on_track"), (1.4, "off_track")],  # 150 now, 99.5 days to go to 300
)
def test_a_steady_trend_is_carried_on_to_the_due_day(daily: float, status: str) -> None:
    trend = [150 - daily * (27.5 - day) for day in range(28)]
    row = _row(UP + YEAR, 150, trend)
    assert row.status == status
    assert row.trend_days == 28
    assert _number(row.forecast) == pytest.approx(150 + daily * 99.5)


def test_a_forecast_that_only_its_interval_saves_is_at_risk() -> None:
    rng = np.random.default_rng(3)
    noisy = [100 + 1.2 * day + float(rng.normal(0, 12)) for day in range(28)]
    row = _row(UP + YEAR, 150, [*noisy])
    fit = stats.linregress(range(28), noisy)
    due = 27 + 100  # yesterday's end is day 27; the due day ends a hundred days later
    assert _number(row.forecast) == pytest.approx(fit.intercept + fit.slope * due)
    assert row.status == "at_risk"
    assert row.forecast is not None
    assert row.forecast_high is not None
    assert row.forecast < 300 * numbers.ONE <= row.forecast_high


def test_the_fit_uses_a_quarter_of_the_days_that_are_left_if_that_is_more() -> None:
    far = YEAR.replace("2026-04-10", "2026-12-31")
    assert _row(UP + far, 150, [float(day) for day in range(200)]).trend_days == 91


def test_the_fit_is_as_long_as_the_window_and_three_times_the_rhythm_of_what_comes() -> None:
    late = UP.replace("windows: [28d, all]", "windows: [28d, 90d, all], cadence: 45d")
    history = [float(day) for day in range(300)]
    assert _row(late + YEAR, 150, history).trend_days == 135
    quarterly = UP.replace("28d, all", "90d, all") + YEAR.replace("window: all", "window: 90d")
    assert _row(quarterly, 150, history).trend_days == 90


def test_a_window_that_is_still_filling_up_is_no_growth() -> None:
    """Ten a day since 40 days: the window of 28 days holds 280 from its 28th day on."""
    text = UP + YEAR.replace("window: all", "window: 28d")
    row = _row(text, 280, [10.0 * min(day, 28) for day in range(1, 41)])
    assert row.trend_days == 13
    assert _number(row.forecast) == pytest.approx(280)
    # on its 20th day nobody knows how it goes on: the line from the baseline
    assert _row(text, 200, [10.0 * day for day in range(1, 21)]).trend_days == 0


def test_less_is_better_works_mirrored() -> None:
    text = (
        DOWN + "targets: [{window: 28d, baseline: {value: 40, at: 2025-12-01}, value: 20, due: 2026-03-31}]}}"
    )
    falling = [38 - 0.3 * day for day in range(28)]
    row = _row(text, 30, falling)
    assert _number(row.progress) == 0.5
    assert row.status == "on_track"
    assert _row(text, 30, [30 + 0.1 * day for day in range(28)]).status == "off_track"
    assert _row(text, 19.9).status == "met"


def test_without_a_baseline_progress_is_the_share_of_the_target() -> None:
    up = UP + "targets: [{window: all, value: 300, due: 2026-04-10}]}}"
    assert _number(_row(up, 75).progress) == 0.25
    down = DOWN + "targets: [{window: 28d, value: 20, due: 2026-03-31}]}}"
    assert _number(_row(down, 40).progress) == 0.5
    assert _row(down, 0).progress is None


def test_with_few_days_the_line_from_the_baseline_is_carried_on() -> None:
    ahead, behind = _row(UP + YEAR, 210, [200.0, 205.0]), _row(UP + YEAR, 150, [140.0, 145.0])
    assert (ahead.status, ahead.trend_days, ahead.forecast_low) == ("on_track", 0, None)
    assert behind.status == "at_risk"
    assert _number(behind.forecast) == pytest.approx(100 + 50 * 200 / 100.5)
    assert _row(UP + "targets: [{window: all, value: 300, due: 2026-04-10}]}}", 150).status == "no_data"


def test_once_the_due_day_is_over_the_value_at_its_end_decides() -> None:
    due = UP + "targets: [{window: 28d, value: 50, due: 2025-12-20}]}}"
    reached_then = [55.0] * 21 + [40.0] * 11
    missed_then = [45.0] * 21 + [60.0] * 11
    assert _row(due, 40, reached_then).status == "met"
    assert _row(due, 60, missed_then).status == "off_track"
    assert _row(due, 60, [None] * 32).status == "no_data"


def test_unknown_is_not_zero_and_suppressed_stays_so() -> None:
    missing = _row(UP + YEAR, None, [float(day) for day in range(30)])
    assert (missing.status, missing.value, missing.progress, missing.forecast) == (
        "no_data",
        None,
        None,
        None,
    )
    hidden = _row(UP + YEAR, None, cell={"n": None, "status": "suppressed"})
    assert hidden.status == "no_data"


def test_counts_are_never_foreseen_below_zero() -> None:
    text = UP + "targets: [{window: 28d, value: 50, due: 2026-12-31}]}}"
    row = _row(text, 5, [100 - 3.4 * day for day in range(28)])
    assert row.forecast == 0
    assert row.forecast_low == 0


@settings(max_examples=30)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_better_value_never_has_less_progress_nor_a_worse_verdict(one: float, other: float) -> None:
    low, high = sorted((round(one, 3), round(other, 3)))
    rising = [float(day) for day in range(28)]
    worse, better = _row(UP + YEAR, low, rising), _row(UP + YEAR, high, rising)
    assert worse.progress is not None
    assert better.progress is not None
    assert worse.progress <= better.progress
    assert not (worse.status == "met" and better.status != "met")


def test_a_target_of_a_segment_looks_at_that_segment() -> None:
    text = (
        UP + "dimensions: {language: data.language},"
        " targets: [{window: all, segment: {language: es}, value: 300, due: 2026-04-10}]}}"
    )
    row = _row(text, 75, segment='{"language":"es"}')
    assert (row.segment, _number(row.progress)) == ('{"language":"es"}', 0.25)
