"""What counts as a change: the tests agree with scipy, and noise is not reported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from impact_reports import changes
from impact_reports.changes import Change, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

LAST = datetime(2026, 11, 22, tzinfo=UTC)
KINDS = ("count", "ratio", "mean", "sum")
METRICS = 12
Rows = dict[str, list[dict[str, Any]]]


@pytest.mark.parametrize(("after", "before"), [(130, 100), (41, 20), (1010, 1200), (5, 9)])
def test_counts_are_compared_as_by_the_exact_test(after: int, before: int) -> None:
    found = changes.chance_of("count", Span(after, after), Span(before, before), None)
    assert found == pytest.approx(stats.binomtest(after, after + before).pvalue, rel=0.05, abs=0.003)


@pytest.mark.parametrize(("after", "before"), [((30, 100), (50, 120)), ((700, 4000), (800, 4100))])
def test_rates_are_compared_as_by_the_chi_square_test(
    after: tuple[int, int], before: tuple[int, int]
) -> None:
    spans = [Span(part / whole, whole) for part, whole in (after, before)]
    table = [[part, whole - part] for part, whole in (after, before)]
    wanted = stats.chi2_contingency(table, correction=False).pvalue
    assert changes.chance_of("proportion", spans[0], spans[1], None) == pytest.approx(wanted, rel=1e-9)


def test_means_are_compared_as_by_the_two_sample_test() -> None:
    wanted = stats.ttest_ind_from_stats(3.4, 1.5, 400, 3.1, 1.5, 350).pvalue
    found = changes.chance_of("mean", Span(3.4, 400), Span(3.1, 350), 1.5)
    assert found == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize(("kind", "n"), [("mean", 12), ("proportion", 8), ("sum", 1000)])
def test_what_has_no_formula_is_not_judged_by_one(kind: str, n: int) -> None:
    assert changes.chance_of(kind, Span(0.2, n), Span(0.9, n), 1.0) is None


def test_a_habit_is_judged_by_robust_deviations_and_students_t() -> None:
    values = [9.0, 3.0, 5.0, 2.5, 3.1, 4.0, 6.0, 3.0, 5.5, 4.4, 5.0, 2.0]
    newest, *earlier = [a - b for a, b in pairwise(values)]
    scale = stats.median_abs_deviation(earlier, scale="normal")
    t = abs(newest - np.median(earlier)) / scale
    wanted = 2 * stats.t.sf(t, 0.37 * (len(earlier) - 1))
    assert changes.habit_of(values) == pytest.approx(wanted, rel=0.05)


def test_a_habit_needs_eight_changes_before_the_newest() -> None:
    assert changes.habit_of([1.0, 2.0] * 4 + [1.0]) is None
    assert changes.habit_of([1.0, 2.0] * 5) is not None


def test_a_number_that_has_never_moved_is_told_when_it_does_and_steady_growth_is_not() -> None:
    assert changes.habit_of([8.0] + [7.0] * 10) == 0.0
    assert changes.habit_of([10.0 * week for week in range(20, 0, -1)]) == 1.0


def test_the_bound_is_shared_by_all_metrics_that_are_tested() -> None:
    def tested(*probabilities: float) -> list[float]:
        found = [Change(str(n), 1, 2, None, p) for n, p in enumerate(probabilities)]
        return [one.p for one in changes.holm(found)]

    assert tested(0.04) == [0.04]
    assert tested(0.04, 0.5) == []
    assert tested(0.03, 0.01) == [0.01, 0.03]
    assert tested(0.02, 0.02, 0.5) == []


# --- a whole product ------------------------------------------------------------------------------------


def weeks_of(kind: str, sizes: Sequence[int], rng: np.random.Generator) -> list[tuple[float, int]]:
    """What each week adds: the sum and how many events."""
    if kind == "count":
        return [(float(n), n) for n in sizes]
    if kind == "ratio":
        return [(float(rng.binomial(n, 0.2)), n) for n in sizes]
    values = [rng.normal(3, 1, n) if kind == "mean" else rng.gamma(2, 1, n) for n in sizes]
    return [(float(np.sum(one)), len(one)) for one in values]


def product_of(metrics: dict[str, tuple[str, list[tuple[float, int]]]]) -> Rows:
    """The rows of the views: totals of all time at the end of each week."""
    rows: Rows = {"metrics": [], "metric_trends": [], "intervals": []}
    for name, (kind, weeks) in metrics.items():
        rows["metrics"].append({"metric": name, "aggregate": kind})
        total, n = 0.0, 0
        for week, (added, events) in enumerate(weeks):
            total, n = total + added, n + events
            value = total if kind in ("count", "sum") else total / n
            at = LAST - timedelta(weeks=len(weeks) - 1 - week)
            rows["metric_trends"].append(
                {"metric": name, "time_window": "all", "at": at, "value": value, "n": n}
            )
        if kind in ("ratio", "mean"):
            half = 1.96 / n**0.5
            rows["intervals"].append(
                {"metric": name, "time_window": "all", "n": n, "ci_low": 3 - half, "ci_high": 3 + half}
            )
    return rows


def noise(rng: np.random.Generator, weeks: int, swings: float) -> dict[str, tuple[str, Any]]:
    """Metrics of each kind whose weeks differ by chance, and by `swings` more than chance."""
    found = {}
    for number in range(METRICS):
        kind = KINDS[number % len(KINDS)]
        mean = (30, 400, 2000)[number % 3]
        sizes = [int(rng.poisson(mean * np.exp(rng.normal(0, swings)))) for _ in range(weeks)]
        found[f"m{number}"] = kind, weeks_of(kind, sizes, rng)
    return found


@pytest.mark.parametrize(("weeks", "swings"), [(12, 0.1), (12, 0.0), (30, 0.05)])
def test_at_most_one_digest_of_noise_in_ten_reports_a_change(weeks: int, swings: float) -> None:
    rng = np.random.default_rng(weeks)
    runs = 100  # the bound holds at 5 %; twice that leaves the simulation its own chance
    alarms = sum(bool(changes.beyond_noise(product_of(noise(rng, weeks, swings)), 7)) for _ in range(runs))
    assert alarms / runs < 0.1


def test_what_changed_among_noise_is_told_alone() -> None:
    rng = np.random.default_rng(7)
    metrics = noise(rng, 30, 0.05)
    for name, factor in (("m1", 2.0), ("m4", 0.3)):  # a rate, and a count
        kind, weeks = metrics[name]
        total, n = weeks[-1]
        metrics[name] = kind, [*weeks[:-1], (total * factor, round(n * (factor if kind == "count" else 1)))]
    found = changes.beyond_noise(product_of(metrics), 7)
    assert found is not None
    assert {one.metric: one.after > one.before for one in found} == {"m1": True, "m4": False}


def test_two_months_of_history_are_too_little_to_tell() -> None:
    assert changes.beyond_noise(product_of(noise(np.random.default_rng(1), 8, 0)), 7) is None
    assert changes.beyond_noise({"metrics": [], "metric_trends": [], "intervals": []}, 7) is None


def test_a_window_of_the_same_length_is_taken_before_the_total_and_a_longer_one_where_nothing_adds_up() -> (
    None
):
    at = [LAST - timedelta(days=7 * week) for week in range(12)]
    jumps = [50.0, *([10.0, 12.0] * 6)][:12]

    def product(aggregate: str, window: str) -> Rows:
        trend = [
            {"metric": "m", "time_window": window, "at": day, "value": value, "n": 10}
            for day, value in zip(at, jumps, strict=True)
        ]
        return {"metrics": [{"metric": "m", "aggregate": aggregate}], "metric_trends": trend, "intervals": []}

    (own,) = changes.beyond_noise(product("count", "7d"), 7) or []
    (longer,) = changes.beyond_noise(product("unique", "28d"), 7) or []
    assert (own.window, longer.window) == (None, "28d")
    assert (own.after, own.before) == (longer.after, longer.before) == (50.0, 10.0)
