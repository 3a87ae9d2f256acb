"""Pairs, violations and bets: what is flagged, since when, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from impact_aggregator.mission import bets, comparisons, drifts, guards, pairs
from impact_aggregator.mission.statistics import Interval
from impact_aggregator.mission.violations import Judgement, ViolationRow, follow, since_when
from impact_aggregator.windows import DAY, HOUR, floor
from impact_schemas import numbers
from impact_schemas.wording import THIN
from tests.aggregator.conftest import NOON
from tests.mission.boards import board_of, catalog_of, cell, trend_of

if TYPE_CHECKING:
    from impact_aggregator.mission.board import Board

TODAY = floor(NOON, DAY)

TEXT = """
metrics:
  visits: {title: Visits, event: clinic.visit.v1, aggregate: count, role: impact, windows: [7d, 28d, all]}
  harm:
    title: Harm
    event: clinic.visit.v1
    where: {data.kept: false}
    aggregate: count
    role: guardrail
    direction: down
    dimensions: {language: data.language}
    windows: [7d, 28d]
    limits: {max: 10, window: 7d}
    targets: [{window: 28d, value: 30, due: 2026-12-31}]
  rate:
    title: Rate
    ratio: {numerator: harm, denominator: all_visits}
    role: impact
    direction: down
    windows: [28d]
    equity: {dimension: language, reference: en}
  harm_rate:
    title: Harm rate
    ratio: {numerator: harm, denominator: all_visits}
    role: guardrail
    direction: down
    windows: [28d]
    limits: {max: 0.3}
  all_visits:
    title: All visits
    event: clinic.visit.v1
    aggregate: count
    role: business
    dimensions: {language: data.language}
    windows: [28d]
  revenue:
    title: Revenue
    event: clinic.visit.v1
    aggregate: sum
    of: data.usd
    role: business
    windows: [7d, 28d]
"""
CATALOG = catalog_of(TEXT)
ES = '{"language":"es"}'


def _open(judgements: object) -> dict[str, ViolationRow]:
    return {one.row.rule: one.row for one in judgements if one.row is not None}  # type: ignore[attr-defined]


# --- pairs --------------------------------------------------------------------------------------------


def _pair(impact: tuple[float, float], business: tuple[float, float]) -> pairs.PairRow:
    cells = {("visits", "{}", "28d"): cell(impact[1]), ("revenue", "{}", "28d"): cell(business[1])}
    trends = {
        ("visits", "{}", "28d"): trend_of([impact[0]] * 40),
        ("revenue", "{}", "28d"): trend_of([business[0]] * 40),
    }
    rows = pairs.rows(board_of(CATALOG, cells, trends))
    (row,) = [
        row
        for row in rows
        if (row.impact_metric, row.business_metric, row.time_window) == ("visits", "revenue", "28d")
    ]
    return row


def test_business_up_and_impact_down_diverges() -> None:
    row = _pair((200, 150), (1000, 1300))
    assert (row.diverges, row.both_up) == (True, False)
    assert (row.impact_change, row.business_change) == (-numbers.ONE // 4, 300_000_000)
    assert row.impact_per_business == numbers.divide(150, 1300)


def test_both_up_is_the_happy_case() -> None:
    assert _pair((150, 200), (1000, 1300))[-2:] == (False, True)
    assert _pair((150, 100), (1000, 900))[-2:] == (False, False)


def test_a_pair_is_not_apart_for_the_hours_that_its_running_day_lacks() -> None:
    """At noon a window of 28 days lacks half a day: 1.5 % less is no fall, 10 % less is one."""
    assert _pair((1000, 985), (1000, 1300))[-2:] == (False, False)
    assert _pair((1000, 900), (1000, 1300))[-2:] == (True, False)


def test_without_a_value_before_nothing_is_said() -> None:
    cells = {("visits", "{}", "28d"): cell(5), ("revenue", "{}", "28d"): cell(7)}
    assert all(row.diverges is None for row in pairs.rows(board_of(CATALOG, cells)))


def test_the_value_before_is_that_of_the_window_right_before() -> None:
    values = [7.0] * 13 + [5.0] + [9.0] * 27  # the window ended 27 days before yesterday's end
    cells = {("visits", "{}", "28d"): cell(10)}
    board = board_of(CATALOG, cells, {("visits", "{}", "28d"): trend_of(values)})
    assert pairs.change_of(board, "visits", "{}", "28d") == 1.0


def test_pairs_are_bounded() -> None:
    impacts = "".join(
        f"  i{number}: {{title: I, event: clinic.visit.v1, aggregate: count, role: impact, windows: [all]}}\n"
        for number in range(30)
    )
    business = impacts.replace("  i", "  b").replace("role: impact", "role: business")
    board = board_of(catalog_of(f"metrics:\n{impacts}{business}"), {})
    assert len(list(pairs.rows(board))) == pairs.MAX_PAIRS


# --- guardrails ---------------------------------------------------------------------------------------


def test_a_limit_is_violated_since_the_first_day_of_the_present_run() -> None:
    trend = trend_of([12.0, 12.0, 8.0, 11.0, 12.0])
    board = board_of(CATALOG, {("harm", "{}", "7d"): cell(13)}, {("harm", "{}", "7d"): trend})
    row = _open(guards.guardrails(board))["harm_max"]
    assert row.since == TODAY - 2 * DAY
    assert (row.observed, row.expected) == (13 * numbers.ONE, 10 * numbers.ONE)
    assert (row.kind, row.severity, row.until) == ("guardrail", "critical", None)


def test_a_limit_within_the_interval_of_the_value_is_a_warning() -> None:
    few, many = (
        _open(guards.guardrails(board_of(CATALOG, {("harm_rate", "{}", "28d"): cell(0.35, n)})))[
            "harm_rate_max"
        ]
        for n in (20, 2000)
    )
    assert (few.severity, many.severity) == ("warning", "critical")


def test_without_limits_the_target_of_a_guardrail_is_its_bound() -> None:
    bare = catalog_of(TEXT.replace("    limits: {max: 10, window: 7d}\n", ""))
    board = board_of(bare, {("harm", "{}", "28d"): cell(31)})
    assert _open(guards.guardrails(board))["harm_target"].since == TODAY
    assert not _open(guards.guardrails(board_of(bare, {("harm", "{}", "28d"): cell(30)})))


def test_a_guardrail_within_its_limits_violates_nothing_on_the_way_to_its_target() -> None:
    assert not _open(guards.guardrails(board_of(CATALOG, {("harm", "{}", "28d"): cell(31)})))


def test_a_value_that_is_not_known_violates_nothing_and_ends_nothing() -> None:
    judgements = list(guards.guardrails(board_of(CATALOG, {})))
    assert judgements
    assert not any(one.is_known or one.row for one in judgements)


# --- consistency --------------------------------------------------------------------------------------


def test_a_part_above_its_whole_is_impossible() -> None:
    catalog = catalog_of(TEXT + "consistency: [{rule: harm_within, part: harm, whole: visits}]")
    cells = {("harm", "{}", "28d"): cell(12), ("visits", "{}", "28d"): cell(11)}
    row = _open(guards.within(board_of(catalog, cells)))["harm_within"]
    assert (row.kind, row.metric, row.time_window, row.severity) == ("consistency", "harm", "28d", "critical")
    cells["visits", "{}", "28d"] = cell(12)
    assert not _open(guards.within(board_of(catalog, cells)))


def test_a_shorter_window_is_never_above_a_longer_one() -> None:
    cells = {
        ("visits", "{}", "7d"): cell(5),
        ("visits", "{}", "28d"): cell(9),
        ("visits", "{}", "all"): cell(8),
    }
    assert set(_open(guards.within(board_of(CATALOG, cells)))) == {"visits_windows"}


def test_estimates_of_people_may_be_apart_by_their_error() -> None:
    catalog = catalog_of(
        "metrics: {people: {title: P, event: clinic.visit.v1, aggregate: unique, of: subject, role: impact,"
        " windows: [7d, 28d]}}"
    )
    near = {("people", "{}", "7d"): cell(10_100), ("people", "{}", "28d"): cell(10_000)}
    assert not _open(guards.within(board_of(catalog, near)))
    far = {("people", "{}", "7d"): cell(11_000), ("people", "{}", "28d"): cell(10_000)}
    assert _open(guards.within(board_of(catalog, far)))


# --- drifts -------------------------------------------------------------------------------------------


def _drifting(before: tuple[float, float], after: tuple[float, float], days: int = 1) -> Board:
    """Visits and revenue: as they were, then as they have been for some days."""
    cells, trends = {}, {}
    for name, old, new in zip(("visits", "revenue"), before, after, strict=True):
        cells[name, "{}", "28d"] = cell(new)
        trends[name, "{}", "28d"] = trend_of([old] * 60 + [new] * days)
    return board_of(CATALOG, cells, trends)


def test_a_divergence_counts_beyond_chance_only() -> None:
    assert "visits_against_business" in _open(drifts.divergences(_drifting((2000, 1000), (1500, 1200))))
    assert not _open(drifts.divergences(_drifting((20, 1000), (18, 1200))))  # of 20 visits two is chance
    assert not _open(drifts.divergences(_drifting((2000, 1000), (1500, 900))))


def test_costs_that_fall_because_less_is_done_are_no_gain_of_the_business() -> None:
    sold = "of: data.usd\n    role: business"
    cost = TEXT.replace(sold, f"{sold}\n    direction: down")
    board = _drifting((2000, 1000), (1500, 800))
    assert not _open(drifts.divergences(board))  # revenue fell
    assert not _open(drifts.divergences(replace(board, catalog=catalog_of(cost))))


def test_a_divergence_lasts_since_it_began() -> None:
    row = _open(drifts.divergences(_drifting((2000, 1000), (1500, 1200), days=5)))["visits_against_business"]
    assert row.since == TODAY - 5 * DAY
    assert row.severity == "warning"
    assert (row.observed, row.expected) == (-numbers.ONE // 4, 200_000_000)


def test_a_divergence_that_the_catalog_names_is_critical_and_over_its_span() -> None:
    named = TEXT.replace(
        "aggregate: count, role: impact, windows: [7d, 28d, all]}",
        "aggregate: count, role: impact, windows: [7d, 28d, all],"
        " divergence: {business: revenue, over: 10d}}",
    )
    cells = {("visits", "{}", "7d"): cell(1500), ("revenue", "{}", "7d"): cell(1200)}
    old, new = [2000.0] * 9, [1500.0] * 9  # ten days ago visits were 2000 still
    trends = {
        ("visits", "{}", "7d"): trend_of([*old, *new]),
        ("revenue", "{}", "7d"): trend_of([1000.0] * 18),
    }
    row = _open(drifts.divergences(board_of(catalog_of(named), cells, trends)))["visits_against_revenue"]
    assert (row.severity, row.time_window) == ("critical", "7d")


def test_a_morning_is_no_fall() -> None:
    """At six in the morning a window of 7 days has lost a day and gained a quarter of one."""
    cells = {("visits", "{}", "7d"): cell(7000 * 6.25 / 7), ("revenue", "{}", "7d"): cell(2000)}
    trends = {
        ("visits", "{}", "7d"): trend_of([7000.0] * 30),
        ("revenue", "{}", "7d"): trend_of([1000.0] * 30),
    }
    text = TEXT.replace("windows: [7d, 28d, all]", "windows: [7d]")
    assert not _open(drifts.divergences(board_of(catalog_of(text), cells, trends, TODAY + 6 * HOUR)))
    assert _open(drifts.divergences(board_of(catalog_of(text), cells, trends, TODAY + 23 * HOUR)))


def _rates(total: tuple[float, float], group: tuple[float, float], n: int) -> Board:
    cells = {("rate", "{}", "28d"): cell(total[1], 10 * n), ("rate", ES, "28d"): cell(group[1], n)}
    trends = {
        ("rate", "{}", "28d"): trend_of([total[0]] * 40, 10 * n),
        ("rate", ES, "28d"): trend_of([group[0]] * 40, n),
    }
    return board_of(CATALOG, cells, trends)


def test_a_group_that_gets_worse_while_the_total_improves_is_left_behind() -> None:
    row = _open(drifts.left_behind(_rates((0.3, 0.2), (0.3, 0.4), 500)))["rate_left_behind"]
    assert (row.segment, row.kind, row.since) == (ES, "left_behind", TODAY)
    assert row.detail.replace(THIN, " ") == (
        "Over 28 days Rate went from 30 % to 20 % in total, but from 30 % to 40 % for language es"
    )
    assert not _open(drifts.left_behind(_rates((0.3, 0.2), (0.3, 0.4), 20)))  # of 20 that is chance
    assert not _open(drifts.left_behind(_rates((0.3, 0.4), (0.3, 0.5), 500)))  # everybody is worse


# --- spells -------------------------------------------------------------------------------------------


def _judgement(since: int, *, is_traced: bool = True) -> Judgement:
    row = ViolationRow("clinic", "r", "m", "{}", since, "guardrail", "7d", None, 1, 0, "", "critical")
    return Judgement(row.subject, is_known=True, row=row, is_traced=is_traced)


GOOD = Judgement(("r", "m", "{}"), is_known=True)
UNKNOWN = Judgement(("r", "m", "{}"), is_known=False)


def test_a_spell_begins_goes_on_and_ends() -> None:
    (begun,) = follow([_judgement(TODAY)], [], NOON)
    (going_on,) = follow([_judgement(TODAY)], [begun], NOON + HOUR)
    assert going_on == begun
    (ended,) = follow([GOOD], [going_on], NOON + 2 * HOUR)
    assert ended.until == NOON + 2 * HOUR
    assert list(follow([GOOD], [ended], NOON + 9 * HOUR)) == [ended]


def test_what_cannot_be_told_ends_nothing_but_a_rule_that_is_gone_does() -> None:
    (begun,) = follow([_judgement(TODAY)], [], NOON)
    assert list(follow([UNKNOWN], [begun], NOON + HOUR)) == [begun]
    (ended,) = follow([], [begun], NOON + HOUR)
    assert ended.until == NOON + HOUR


def test_back_and_forth_within_a_day_is_one_spell_and_a_week_later_another() -> None:
    (begun,) = follow([_judgement(TODAY)], [], NOON)
    (ended,) = follow([GOOD], [begun], NOON + HOUR)
    (again,) = follow([_judgement(TODAY)], [ended], NOON + 2 * HOUR)
    assert (again.since, again.until) == (TODAY, None)
    rows = list(follow([_judgement(TODAY + 7 * DAY)], [ended], NOON + 7 * DAY))
    assert [(row.since, row.until) for row in rows] == [(TODAY, NOON + HOUR), (TODAY + 7 * DAY, None)]


def test_without_a_trend_a_spell_keeps_its_first_day() -> None:
    (begun,) = follow([_judgement(TODAY)], [], NOON)
    (kept,) = follow([_judgement(TODAY + 3 * DAY, is_traced=False)], [begun], NOON + 3 * DAY)
    assert kept.since == TODAY
    (moved,) = follow([_judgement(TODAY + 3 * DAY)], [begun], NOON + 3 * DAY)
    assert moved.since == TODAY + 3 * DAY


def test_the_run_of_days_is_followed_back_to_the_first_that_held() -> None:
    held: dict[int, bool] = {TODAY: True, TODAY - DAY: True, TODAY - 2 * DAY: False, TODAY - 3 * DAY: True}
    assert since_when(NOON, held.get) == (TODAY - 2 * DAY, True)
    assert since_when(NOON, lambda _: None) == (TODAY, False)
    assert since_when(NOON, lambda _: True)[1] is False  # bounded


# --- bets ---------------------------------------------------------------------------------------------

BETS = """
needs: {care: {statement: "People miss care.", people: 1000}}
bets:
  texts:
    need: care
    hypothesis: Texts help.
    feature: texts
    launched: 2025-11-01
    business_metric: revenue
    expects: [{metric: rate, change: -0.05, by: 2025-12-15}]
"""


def _bet(
    before: float, after: float, n: int = 4000, text: str = BETS, then: float | None = None
) -> bets.BetRow:
    """No trend before 40 days ago: the launch was 61 days ago."""
    values = [before] * 30 + [after] * 61
    if then is not None:
        values = [before] * 30 + [then] * 61
    cells = {("rate", "{}", "28d"): cell(after, n), ("revenue", "{}", "28d"): cell(1200)}
    trends = {
        ("rate", "{}", "28d"): trend_of(values, n),
        ("revenue", "{}", "28d"): trend_of([1000.0] * 30 + [1200.0] * 61),
    }
    (row,) = bets.rows(board_of(catalog_of(TEXT + text), cells, trends))
    return row


def test_a_bet_that_reached_what_was_expected_beyond_chance_is_proven() -> None:
    row = _bet(0.2, 0.12)
    assert (row.status, row.evidence, row.quadrant) == ("proven", "before/after", "both")
    assert row.measured == -80_000_000
    assert row.business_change == 200_000_000
    assert row.ci_low is not None
    assert row.ci_high is not None
    assert row.ci_low < -80_000_000 < row.ci_high < 0


def test_a_bet_that_fell_short_on_its_day_has_failed_whatever_came_later() -> None:
    assert _bet(0.2, 0.18).status == "failed"
    assert _bet(0.2, 0.1, then=0.19).status == "failed"


def test_before_its_day_a_bet_holds_or_it_is_too_early() -> None:
    later = BETS.replace("2025-12-15", "2026-06-30")
    assert _bet(0.2, 0.18, text=later).status == "holding"
    assert _bet(0.2, 0.19, n=200, text=later).status == "too_early"
    assert _bet(0.2, 0.25, text=later).status == "failed"


def test_a_bet_without_a_launch_or_a_whole_window_since_is_too_early() -> None:
    fresh = BETS.replace("2025-11-01", "2025-12-20").replace("2025-12-15", "2026-06-30")
    assert (_bet(0.2, 0.1, text=fresh).status, _bet(0.2, 0.1, text=fresh).measured) == ("too_early", None)
    none = BETS.replace("    launched: 2025-11-01\n", "")
    assert _bet(0.2, 0.1, text=none).status == "too_early"


def test_a_bet_with_an_experiment_is_measured_against_the_control() -> None:
    text = (
        TEXT.replace("reference: en}", "reference: en}\n    experiment: {arm: data.arm, control: none}")
        + BETS
    )
    cells = {
        ("rate", '{"@arm":"texts"}', "28d"): cell(0.10, 1000),
        ("rate", '{"@arm":"other"}', "28d"): cell(0.50, 1000),
        ("rate", '{"@arm":"none"}', "28d"): cell(0.20, 1000),
    }
    (row,) = bets.rows(board_of(catalog_of(text), cells))
    assert (row.evidence, row.measured, row.status) == ("compared", -100_000_000, "proven")
    assert row.method == "arm against control, Newcombe 95 %"


@pytest.mark.parametrize(
    ("change", "interval", "is_due", "status"),
    [
        (None, None, True, "too_early"),
        (0.1, Interval(0.05, 0.15), True, "proven"),
        (0.1, Interval(-0.01, 0.2), True, "holding"),
        (0.1, None, True, "holding"),
        (0.04, Interval(0.01, 0.07), True, "failed"),
        (0.04, Interval(0.01, 0.07), False, "holding"),
        (0.04, None, False, "too_early"),
        (-0.1, Interval(-0.2, -0.01), False, "failed"),
    ],
)
def test_the_status_of_a_bet(
    change: float | None, interval: Interval | None, is_due: bool, status: str
) -> None:
    assert bets.status_of(0.05, change, interval, is_due=is_due) == status


# --- against itself and others ------------------------------------------------------------------------


def test_the_best_day_is_one_whose_window_was_full() -> None:
    values = [1.0] * 27 + [40.0, 30.0, 20.0, 25.0]
    trends = {("harm", "{}", "28d"): trend_of(values)}
    rows = {row.time_window: row for row in comparisons.records(board_of(CATALOG, {}, trends), "harm")}
    assert (rows["28d"].best, rows["28d"].best_at) == (20 * numbers.ONE, TODAY - 2 * DAY)


def test_a_benchmark_stands_beside_the_total() -> None:
    catalog = catalog_of(
        "metrics: {visits: {title: V, event: clinic.visit.v1, aggregate: count, role: impact, windows: [28d],"
        " benchmarks: [{label: a, value: 50}, {label: none, value: 0}]}}"
    )
    rows = list(comparisons.benchmarks(board_of(catalog, {("visits", "{}", "28d"): cell(75)}), "visits"))
    assert [(row.label, row.ratio) for row in rows] == [("a", 1_500_000_000), ("none", None)]
    assert [row.ratio for row in comparisons.benchmarks(board_of(catalog, {}), "visits")] == [None, None]
