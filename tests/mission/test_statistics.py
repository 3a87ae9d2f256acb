"""Intervals and forecasts against scipy, and against the numbers of the papers that they come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from impact_aggregator.mission.statistics import (
    Sample,
    counts_difference,
    forecast,
    mean_interval,
    newcombe,
    t_quantile,
    variance_of,
    welch,
    wilson,
)

values = st.lists(st.integers(-1000, 1000), min_size=3, max_size=60)


def _sample(numbers: list[int]) -> Sample:
    nanos = [number * 10**9 for number in numbers]
    variance = variance_of(len(nanos), sum(nanos), sum(nano * nano for nano in nanos))
    assert variance is not None
    return Sample(len(numbers), sum(numbers) / len(numbers), variance)


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3, 4.37, 7, 12, 29.99, 49, 49.99, 50, 51.5, 200, 1e5])
def test_points_of_students_t_are_those_of_scipy(freedom: float) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)


@given(st.integers(1, 5000), st.data())
def test_the_interval_of_a_rate_is_wilsons(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(
    ("counts", "published"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((6, 7, 2, 7), (0.0582, 0.8062)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 20), (-0.1611, 0.2775)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_the_interval_of_a_difference_of_rates_is_that_of_the_paper(
    counts: tuple[int, int, int, int], published: tuple[float, float]
) -> None:
    assert newcombe(*counts) == pytest.approx(published, abs=5e-5)


@given(values)
def test_the_interval_of_a_mean_is_students(numbers: list[int]) -> None:
    sample = _sample(numbers)
    half = stats.t.ppf(0.975, len(numbers) - 1) * np.std(numbers, ddof=1) / np.sqrt(len(numbers))
    assert mean_interval(sample) == pytest.approx(
        (np.mean(numbers) - half, np.mean(numbers) + half), rel=1e-7, abs=1e-7
    )


@given(values, values)
def test_the_interval_of_a_difference_of_means_is_welchs(ours: list[int], theirs: list[int]) -> None:
    assume(len(set(ours)) > 1 and len(set(theirs)) > 1)
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    # degrees of freedom are rounded to two decimals: less than a hundredth of the interval's width
    width = expected.high - expected.low
    assert welch(_sample(ours), _sample(theirs)) == pytest.approx(
        (expected.low, expected.high), abs=width / 100
    )


def test_values_that_are_all_alike_leave_no_doubt() -> None:
    assert welch(_sample([3, 3]), _sample([5, 5, 5])) == (-2, -2)


def _daily(seed: int, days: int, expected: float = 40) -> np.ndarray:
    return np.random.default_rng(seed).poisson(expected, days).astype(float)


def _of_window(daily: np.ndarray, window: int | None) -> np.ndarray:
    """The window's value at the end of each day."""
    total = np.cumsum(daily)
    return total if window is None else total[window:] - total[:-window]


@pytest.mark.parametrize("window", [None, 1, 7, 28, 90])
def test_a_forecast_is_that_of_least_squares_with_the_error_of_values_that_share_days(
    window: int | None,
) -> None:
    """By matrices: the covariance of two values is that of the days which they share."""
    values, at = _of_window(_daily(1, 200), window)[-40:], 60
    times = np.arange(-39, 1)
    fit = stats.linregress(times, values)
    moments = np.append(times, at)
    apart = np.abs(moments[:, None] - moments[None, :])
    shared = np.minimum(moments[:, None], moments[None, :]) + 40 if window is None else window - apart
    weights = -1 / 40 - (times - times.mean()) * (at - times.mean()) / ((times - times.mean()) ** 2).sum()
    weights = np.append(weights, 1)
    steps = np.diff(values)
    variance = ((steps - steps.mean()) ** 2).sum() / 38 / (1 if window is None else 2)
    half = stats.t.ppf(0.975, 38) * np.sqrt(variance * weights @ np.maximum(shared, 0) @ weights)
    found = forecast(times.tolist(), values.tolist(), at, window)
    expected = fit.intercept + fit.slope * at
    assert found == pytest.approx((expected, expected - half, expected + half), rel=1e-6)


@pytest.mark.parametrize("window", [None, 7, 28, 90])
@pytest.mark.parametrize("ahead", [20, 120])
def test_what_comes_lies_within_the_interval_as_often_as_it_says(window: int | None, ahead: int) -> None:
    hits = 0
    for seed in range(300):
        values = _of_window(_daily(seed, 160 + ahead), window)
        now = len(values) - 1 - ahead
        found = forecast(list(range(-27, 1)), values[now - 27 : now + 1].tolist(), ahead, window)
        assert found is not None
        hits += found.low <= values[-1] <= found.high
    # 285 of 300 are expected; fewer than 272 or more than 296 in one of a thousand
    assert 272 <= hits <= 296


def test_days_that_are_not_known_take_nothing_from_what_is() -> None:
    values = _of_window(_daily(3, 100), 28)[-40:]
    days = [(time, value) for time, value in zip(range(-39, 1), values.tolist(), strict=True) if time % 3]
    found = forecast([time for time, _ in days], [value for _, value in days], 30, 28)
    every = forecast(list(range(-39, 1)), values.tolist(), 30, 28)
    assert found is not None
    assert every is not None
    assert found == pytest.approx(every, rel=0.2)
    assert found.high - found.low == pytest.approx(every.high - every.low, rel=0.5)


def test_a_straight_line_leaves_no_doubt_and_two_points_make_no_forecast() -> None:
    assert forecast([1, 2, 4], [3, 5, 9], 10) == pytest.approx((21, 21, 21))
    assert forecast([1, 2], [1, 2], 3) is None


def test_counts_differ_beyond_chance_only() -> None:
    assert counts_difference(120, 100) == pytest.approx(
        (20 - 1.96 * 220**0.5, 20 + 1.96 * 220**0.5), abs=1e-3
    )
    assert counts_difference(130, 100).excludes_zero  # z = 1.98
    assert not counts_difference(0, 0).excludes_zero
    assert counts_difference(4, 0).excludes_zero


def test_exact_sums_give_the_variance_where_floats_would_cancel() -> None:
    numbers = [10**9 + one for one in (1, 2, 3)]
    assert _sample(numbers).variance == 1.0


def test_one_value_has_no_variance() -> None:
    assert variance_of(1, 10**9, 10**18) is None
