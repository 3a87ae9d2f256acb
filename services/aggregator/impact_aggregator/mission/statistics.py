"""How sure a number is: 95 % intervals of rates, means and their differences, and forecasts of a trend.

Everything is in plain floats. Sources: Wilson, JASA 22 (1927) 209; Newcombe, Statistics in Medicine 17
(1998) 873, method 10; Welch, Biometrika 34 (1947) 28, with Satterthwaite's degrees of freedom; ordinary
least squares with the prediction interval of errors that are correlated (Draper & Smith, Applied Regression
Analysis, 3rd ed., 1.4 and 9.2).
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Z = 1.959963984540054  # the normal distribution's 97.5 % point: every interval here is a 95 % one


class Interval(NamedTuple):
    """From `low` to `high`."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


class Sample(NamedTuple):
    """What is known of at least two values: how many, their mean, and their variance (with n - 1)."""

    n: int
    mean: float
    variance: float


def variance_of(n: int, total: int, squares: int) -> float | None:
    """The variance (with n - 1) of `n` values from their exact sum and sum of squares; None for one.

    Both sums are integers of one scale: `total` in nanos, `squares` in nanos squared.
    """
    if n < 2:
        return None
    return max(0.0, (n * squares - total * total) / (n * (n - 1)) / 10**18)


# --- rates --------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of the rate successes / n, for n > 0."""
    rate, z2 = successes / n, Z * Z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


@lru_cache(maxsize=1 << 16)
def newcombe(successes: float, n: int, of_successes: float, of_n: int) -> Interval:
    """The interval of the difference of two rates, the first minus the second; both n > 0."""
    rate, of_rate = successes / n, of_successes / of_n
    one, other = wilson(successes, n), wilson(of_successes, of_n)
    difference = rate - of_rate
    low = difference - math.hypot(rate - one.low, other.high - of_rate)
    high = difference + math.hypot(one.high - rate, of_rate - other.low)
    return Interval(max(-1.0, low), min(1.0, high))


# --- means --------------------------------------------------------------------------------------------


def mean_interval(sample: Sample) -> Interval:
    """Student's interval of a mean."""
    half = t_quantile(sample.n - 1) * math.sqrt(sample.variance / sample.n)
    return Interval(sample.mean - half, sample.mean + half)


def welch(sample: Sample, other: Sample) -> Interval:
    """Welch's interval of the difference of two means, the first minus the second."""
    one, two = sample.variance / sample.n, other.variance / other.n
    difference, error = sample.mean - other.mean, math.sqrt(one + two)
    if error == 0:
        return Interval(difference, difference)
    freedom = (one + two) ** 2 / (one**2 / (sample.n - 1) + two**2 / (other.n - 1))
    half = t_quantile(freedom) * error
    return Interval(difference - half, difference + half)


# --- counts -------------------------------------------------------------------------------------------


def counts_difference(one: float, other: float) -> Interval:
    """The interval of the difference of two counts over spans of one length, each taken as Poisson's.

    The difference divided by the root of their sum is about normal (Przyborowski & Wilenski, Biometrika 31
    (1940) 313, for large counts).
    """
    half = Z * math.sqrt(max(0.0, one + other))  # what was taken back can leave less than none
    return Interval(one - other - half, one - other + half)


# --- trends -------------------------------------------------------------------------------------------


class Forecast(NamedTuple):
    """What a line through the past says of a moment, and between what a new value lies there."""

    value: float
    low: float
    high: float


def forecast(
    times: Sequence[int], values: Sequence[float], at: int, window: int | None = None
) -> Forecast | None:
    """The least-squares line through a window's values at the ends of days, at day `at`; None for two.

    `times` are days in order, `window` is its length in days; None: all time. What comes on one day is in
    the values of many, so that these are no separate looks. With x_d of variance s2 new on day d, the value
    at t is made of those after t - window and up to t, and the line's error is a weighted sum of the x_d,
    whose variance follows. Of a rolling window a value less the one before it is x_d less x_(d - window), of
    variance 2 s2; of all time it is x_d alone.
    """
    n = len(times)
    if n < 3:
        return None
    mean_time, mean_value = math.fsum(times) / n, math.fsum(values) / n
    spread = math.fsum((time - mean_time) ** 2 for time in times)
    slope = math.fsum((time - mean_time) * value for time, value in zip(times, values, strict=True)) / spread
    value = mean_value + slope * (at - mean_time)
    error = math.sqrt(_variance_a_day(times, values, window) * _error_weight(tuple(times), at, window))
    half = t_quantile(n - 2) * error
    return Forecast(value, value - half, value + half)


def _variance_a_day(times: Sequence[int], values: Sequence[float], window: int | None) -> float:
    """Of what is new on a day, from how much values differ from one known day to the next."""
    slope = (values[-1] - values[0]) / (times[-1] - times[0])
    total = 0.0
    for (time, value), (later, after) in pairwise(zip(times, values, strict=True)):
        gap = later - time
        new = gap if window is None else 2 * min(gap, window)
        total += (after - value - slope * gap) ** 2 / new
    return total / (len(times) - 2)


@lru_cache(maxsize=1 << 12)
def _error_weight(times: tuple[int, ...], at: int, window: int | None) -> float:
    """The variance of the line's error at `at` in units of that of one day: squared weights of all days."""
    n, mean = len(times), math.fsum(times) / len(times)
    spread = math.fsum((time - mean) ** 2 for time in times)
    weights = [(time, -1 / n - (time - mean) * (at - mean) / spread) for time in times]
    steps: dict[int, float] = defaultdict(
        float
    )  # by how much the weight of a day differs from the day before
    for time, weight in [*weights, (at, 1.0)]:
        steps[time + 1] -= weight
        steps[times[0] + 1 if window is None else time - window + 1] += weight
    total = held = 0.0
    for day, following in pairwise(sorted(steps)):
        held += steps[day]
        total += (following - day) * held**2
    return total


# --- Student's t --------------------------------------------------------------------------------------

_MANY = 50  # degrees of freedom from which the expansion is right to nine digits


def t_quantile(freedom: float) -> float:
    """The 97.5 % point of Student's t distribution with `freedom` (>= 1) degrees of freedom."""
    return _t_of_many(freedom) if freedom >= _MANY else _t_of_few(round(freedom, 2))


def _t_of_many(freedom: float) -> float:
    """The expansion of Cornish and Fisher (Abramowitz & Stegun 26.7.5)."""
    z = Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))


@lru_cache(maxsize=_MANY * 100)
def _t_of_few(freedom: float) -> float:
    """By bisection: both tails together hold I_x(freedom / 2, 1 / 2), x = freedom / (freedom + t^2)."""
    low, high = Z, 13.0  # of one degree of freedom it is 12.706
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + middle**2)) > 0.05:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function by its series (DLMF 8.17.7), for x < 1."""
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    term, total, order = 1.0, 1.0, 0
    while term > 1e-17 * total:
        term *= (a + b + order) / (a + 1 + order) * x
        total += term
        order += 1
    return math.exp(log_front) * total
