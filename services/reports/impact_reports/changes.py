"""Which numbers changed beyond noise over the last days: the tests behind a digest. Pure.

A metric's newest span of days is compared with the one before it. The span is the metric's window of that
length; of what adds up, and of rates and means, it is worked out from the total of all time; else the
metric's shortest longer window is compared with itself that many days ago. A change is told if it passes
both tests:

- habit: its distance from the median of the changes before it in robust deviations (1.4826 times the median
  absolute deviation), judged by Student's t, for the deviation is itself estimated. With fewer than 8 of them
  nobody knows what is usual, and nothing is told. A steady growth is no news by this.
- chance, where there is a formula: of counts, the normal form of the exact comparison of two Poisson counts,
  with the correction for continuity (Przyborowski & Wilenski, Biometrika 31 (1940) 313); of rates, the pooled
  two-sample test; of means, the two-sample test with the spread that their interval was made of.

The greater probability of the two counts. Over all metrics of a product at once the chance of any false alarm
is held to 5 % (Holm, Scand. J. Statist. 6 (1979) 65). Less than 1 % of the value before is never told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from impact_reports.queries import Row, Rows

FALSE_ALARMS = 0.05  # the chance of any in a digest of nothing but noise
LEAST_CHANGE = 0.01  # of the value before
HABIT = 8  # earlier changes from which a habit is known
MAX_SPANS = 53
_LEAST_EXPECTED = 5  # events in each cell from which the normal form of a rate's test holds
_LEAST_SAMPLE = 30  # values from which 1.96 stands for Student's t in an interval
_NORMAL_MAD = 1.4826  # a normal distribution's standard deviation in median absolute deviations
_NORMAL_MEAN_DEVIATION = 1.2533  # the same in mean absolute deviations
_MAD_EFFICIENCY = 0.37  # of what a standard deviation learns from as many values
_ADDS_UP = ("count", "sum", "difference", "sum_of")
_Z = 1.959963984540054


class Span(NamedTuple):
    """A value and the number of events that it stands on."""

    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change, and how likely it is noise; `window` is that of both values, None: the days themselves."""

    metric: str
    before: float
    after: float
    window: str | None
    p: float


def beyond_noise(rows: Rows, days: int) -> list[Change] | None:
    """The changes of one product's totals over the last `days`, the surest first; None: too early to tell.

    `rows` has `metrics`, `intervals` and `metric_trends` of the product, the last two of totals alone.
    """
    trends: dict[str, dict[str, dict[datetime, Span]]] = {}
    for row in rows["metric_trends"]:
        if row["value"] is not None:
            span = Span(float(row["value"]), row["n"] or 0)
            trends.setdefault(row["metric"], {}).setdefault(row["time_window"], {})[row["at"]] = span
    last = max((row["at"] for row in rows["metric_trends"]), default=None)
    if last is None:
        return None
    tested = [
        change
        for metric in rows["metrics"]
        if metric["metric"] in trends
        and (change := _tested(metric, trends[metric["metric"]], rows["intervals"], last, days)) is not None
    ]
    if not tested:
        return None
    return [one for one in holm(tested) if abs(one.after - one.before) >= LEAST_CHANGE * abs(one.before)]


def holm(tested: Iterable[Change]) -> list[Change]:
    """Those that stand when all are looked at together, by Holm's step-down."""
    ordered = sorted(tested, key=lambda one: (one.p, one.metric))
    for place, one in enumerate(ordered):
        if one.p > FALSE_ALARMS / (len(ordered) - place):
            return ordered[:place]
    return ordered


def _tested(
    metric: Row,
    windows: Mapping[str, Mapping[datetime, Span]],
    intervals: Iterable[Row],
    last: datetime,
    days: int,
) -> Change | None:
    """None where the values are not known, or there is no test of them."""
    own = {row["time_window"]: row for row in intervals if row["metric"] == metric["metric"]}
    window, spans = _spans(metric["aggregate"], windows, last, days, is_known_mean=bool(own))
    if len(spans) < 2 or spans[0] is None or spans[1] is None:
        return None
    habit = habit_of([None if one is None else one.value for one in spans])
    if habit is None:
        return None
    chance = None
    if window is None:  # windows that overlap share events
        kind = "proportion" if metric["aggregate"] == "ratio" and own else metric["aggregate"]
        chance = chance_of(kind, spans[0], spans[1], _deviation(own))
    before, after = spans[1].value, spans[0].value
    return Change(metric["metric"], before, after, window, max(habit, chance or 0.0))


# --- spans ----------------------------------------------------------------------------------------------


def _spans(
    aggregate: str,
    windows: Mapping[str, Mapping[datetime, Span]],
    last: datetime,
    days: int,
    *,
    is_known_mean: bool,
) -> tuple[str | None, list[Span | None]]:
    """The newest first; None for those that are not known; with the window if they overlap."""
    steps = [last - timedelta(days=days * step) for step in range(MAX_SPANS)]
    if f"{days}d" in windows:
        return None, [windows[f"{days}d"].get(at) for at in steps]
    if "all" in windows and (aggregate in _ADDS_UP or is_known_mean):
        totals = [windows["all"].get(at) for at in steps]
        return None, [_between(*pair, adds_up=aggregate in _ADDS_UP) for pair in pairwise(totals)]
    longer = [name for name in windows if name.endswith("d") and int(name[:-1]) > days]
    window = min(longer, key=lambda name: int(name[:-1]), default="all")
    return window, [windows.get(window, {}).get(at) for at in steps]


def _between(after: Span | None, before: Span | None, *, adds_up: bool) -> Span | None:
    """What was added between two totals of all time; a rate or mean is of what was added alone."""
    if after is None or before is None:
        return None
    n = after.n - before.n
    if adds_up:
        return Span(after.value - before.value, n)
    return None if n <= 0 else Span((after.value * after.n - before.value * before.n) / n, n)


def _deviation(intervals: Mapping[str, Row]) -> float | None:
    """The standard deviation of single values, from the half width of the widest window's interval."""
    row = max(intervals.values(), key=lambda row: row["n"] or 0, default=None)
    if row is None or row["ci_low"] is None or (row["n"] or 0) < _LEAST_SAMPLE:
        return None
    return float(row["ci_high"] - row["ci_low"]) / 2 / _Z * math.sqrt(row["n"])


# --- tests ----------------------------------------------------------------------------------------------


def chance_of(kind: str, after: Span, before: Span, deviation: float | None) -> float | None:
    """How likely chance alone makes such a difference of two separate spans; None: there is no formula."""
    if kind in ("count", "unique"):
        total = after.value + before.value
        return None if total <= 0 else _two_sided((abs(after.value - before.value) - 1) / math.sqrt(total))
    if min(after.n, before.n) <= 0:
        return None
    if kind == "proportion":
        deviation = _pooled(after, before)
    elif kind != "mean" or min(after.n, before.n) < _LEAST_SAMPLE:
        return None
    if not deviation:
        return None
    return _two_sided(abs(after.value - before.value) / deviation / math.sqrt(1 / after.n + 1 / before.n))


def _pooled(after: Span, before: Span) -> float | None:
    rate = (after.value * after.n + before.value * before.n) / (after.n + before.n)
    if min(after.n, before.n) * min(rate, 1 - rate) < _LEAST_EXPECTED:
        return None
    return math.sqrt(rate * (1 - rate))


def habit_of(values: Sequence[float | None]) -> float | None:
    """How unusual the newest change is among those before it; None: too few are known."""
    newest, *earlier = [
        None if after is None or before is None else after - before for after, before in pairwise(values)
    ]
    known = [change for change in earlier if change is not None]
    if newest is None or len(known) < HABIT:
        return None
    middle = median(known)
    distances = [abs(change - middle) for change in known]
    scale = _NORMAL_MAD * median(distances) or _NORMAL_MEAN_DEVIATION * fmean(distances)
    if scale == 0:  # it has never done anything else
        return 1.0 if newest == middle else 0.0
    freedom = max(1.0, _MAD_EFFICIENCY * (len(known) - 1))
    return _two_sided(_normal_of_t(abs(newest - middle) / scale, freedom))


def _normal_of_t(t: float, freedom: float) -> float:
    """The normal deviate as likely as Student's t, by Wallace (Ann. Math. Statist. 30 (1959) 1124)."""
    width = (8 * freedom + 1) / (8 * freedom + 3)
    return width * math.sqrt(freedom * math.log1p(t * t / freedom))


def _two_sided(z: float) -> float:
    return math.erfc(max(z, 0.0) / math.sqrt(2))
