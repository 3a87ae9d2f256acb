"""Gaps between groups, whom nobody knows, arms of experiments, gross and net: numbers by hand or by scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scipy import stats

from impact_aggregator.mission import contributions, equity
from impact_aggregator.values import Spread
from impact_schemas import numbers
from tests.mission.boards import board_of, catalog_of, cell, scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_aggregator.mission.board import Board

TEXT = """
metrics:
  visits:
    title: Visits
    event: clinic.visit.v1
    aggregate: count
    role: impact
    dimensions: {language: data.language}
    windows: [28d, all]
    equity: {dimension: language, reference: en, population: {values: {en: 200, es: 80, ht: 20}}}
  missed:
    title: Missed
    event: clinic.visit.v1
    where: {data.kept: false}
    aggregate: count
    role: guardrail
    dimensions: {language: data.language}
    windows: [28d]
  rate:
    title: Rate
    ratio: {numerator: missed, denominator: visits}
    role: impact
    direction: down
    windows: [28d]
    equity: {dimension: language, reference: en}
    experiment: {arm: data.arm, control: none}
  score:
    title: Score
    event: clinic.visit.v1
    aggregate: mean
    of: data.score
    role: impact
    dimensions: {language: data.language}
    windows: [28d]
    scale: {min: 0, max: 25, top_box: 20}
    equity: {dimension: language, reference: en}
    experiment: {arm: data.arm, control: none}
  money: {title: Money, event: clinic.visit.v1, aggregate: sum, of: data.usd, role: business, windows: [28d]}
  per_money:
    title: Money a visit
    ratio: {numerator: money, denominator: visits}
    role: business
    windows: [28d]
"""
CATALOG = catalog_of(TEXT)
EN, ES, UNKNOWN = '{"language":"en"}', '{"language":"es"}', '{"language":null}'
NONE, REMINDER = '{"@arm":"none"}', '{"@arm":"reminder"}'


def _floats(*nanos: int | None) -> tuple[float | None, ...]:
    return tuple(None if one is None else one / numbers.ONE for one in nanos)


def _gaps(board: Board, name: str) -> Iterator[equity.GapRow]:
    for segment in board.segments(name):
        yield from equity.gaps(board, name, segment)


def _intervals(board: Board, name: str) -> Iterator[contributions.IntervalRow]:
    for segment in board.segments(name):
        yield from contributions.intervals(board, name, segment)


def test_a_gap_of_rates_has_newcombes_interval() -> None:
    # 56 of 70 against 48 of 80: Newcombe 1998, table II, method 10
    cells = {("rate", ES, "28d"): cell(0.8, 70), ("rate", EN, "28d"): cell(0.6, 80)}
    (row,) = _gaps(board_of(CATALOG, cells), "rate")
    assert _floats(row.gap, row.ratio, row.ci_low, row.ci_high) == pytest.approx(
        (0.2, 4 / 3, 0.0524, 0.3339), abs=5e-5
    )
    assert (row.segment, row.reference_segment, row.n, row.reference_n) == (ES, EN, 70, 80)
    assert row.standing == "worse"  # less is better


def test_a_gap_of_means_has_welchs_interval() -> None:
    ours, theirs = [3, 9, 12, 4, 8, 20], [14, 16, 18, 19, 11]
    cells = {("score", ES, "28d"): scores(ours), ("score", EN, "28d"): scores(theirs)}
    (row,) = _gaps(board_of(CATALOG, cells), "score")
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert _floats(row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert row.standing == "alike" if expected.high > 0 else "worse"


def test_groups_are_alike_as_long_as_chance_explains_the_gap() -> None:
    cells = {("rate", ES, "28d"): cell(0.8, 10), ("rate", EN, "28d"): cell(0.6, 10)}
    (row,) = _gaps(board_of(CATALOG, cells), "rate")
    assert row.standing == "alike"


def test_a_gap_to_something_unknown_is_unknown() -> None:
    hidden = cell(None, None, status="suppressed")
    cells = {
        ("rate", ES, "28d"): hidden,
        ("rate", EN, "28d"): cell(0.6, 80),
        ("rate", UNKNOWN, "28d"): cell(None, 0),
    }
    rows = {row.segment: row for row in _gaps(board_of(CATALOG, cells), "rate")}
    assert rows[ES].status == "suppressed"
    assert (rows[ES].gap, rows[ES].n, rows[ES].standing) == (None, None, None)
    assert rows[UNKNOWN].status == "no_data"


def test_counts_of_groups_have_a_gap_but_no_interval() -> None:
    cells = {("visits", ES, "28d"): cell(50, 50), ("visits", EN, "28d"): cell(100, 100)}
    rows = list(_gaps(board_of(CATALOG, cells), "visits"))
    (row,) = [row for row in rows if row.time_window == "28d"]
    assert _floats(row.gap, row.ratio) == (-50, 0.5)
    assert (row.ci_low, row.standing) == (None, "alike")  # 50 of 80 people, and 100 of 200: within chance
    cells["visits", EN, "28d"] = cell(180, 180)
    rows = list(_gaps(board_of(CATALOG, cells), "visits"))
    assert {row.standing for row in rows if row.time_window == "28d"} == {"worse"}


def test_of_counts_without_the_size_of_groups_no_standing_is_told() -> None:
    catalog = catalog_of(TEXT.replace(", population: {values: {en: 200, es: 80, ht: 20}}", ""))
    cells = {("visits", ES, "28d"): cell(50, 50), ("visits", EN, "28d"): cell(100, 100)}
    rows = list(_gaps(board_of(catalog, cells), "visits"))
    assert {row.standing for row in rows if row.time_window == "28d"} == {None}


def test_the_share_of_each_groups_people_is_told_also_of_those_who_never_came() -> None:
    cells = {("visits", ES, "28d"): cell(40), ("visits", EN, "28d"): cell(50)}
    rows = equity.population_shares(board_of(CATALOG, cells), "visits")
    found = {row.segment: _floats(row.share)[0] for row in rows if row.time_window == "28d"}
    assert found == {EN: 0.25, ES: 0.5, '{"language":"ht"}': None}


def test_coverage_counts_events_of_the_unknown_group() -> None:
    cells = {("visits", "{}", "all"): cell(80, 80), ("visits", UNKNOWN, "all"): cell(20, 20)}
    (row,) = equity.coverage(board_of(CATALOG, cells), "visits")
    assert (row.known, row.unknown, _floats(row.share_unknown)) == (60, 20, (0.25,))


def test_coverage_of_what_is_suppressed_is_not_told() -> None:
    hidden = cell(None, None, status="suppressed")
    cells = {("visits", "{}", "all"): cell(80, 80), ("visits", UNKNOWN, "all"): hidden}
    (row,) = equity.coverage(board_of(CATALOG, cells), "visits")
    assert (row.known, row.unknown, row.share_unknown) == (None, None, None)


def test_a_derived_metric_is_covered_by_what_its_parts_are_split_by() -> None:
    cells = {("rate", "{}", "28d"): cell(0.5, 10)}
    (row,) = equity.coverage(board_of(CATALOG, cells), "rate")
    assert (row.dimension, row.known, row.unknown) == ("language", 10, 0)


def test_an_arm_is_compared_with_the_control() -> None:
    cells = {("rate", REMINDER, "28d"): cell(0.8, 70), ("rate", NONE, "28d"): cell(0.6, 80)}
    (row,) = contributions.contributions(board_of(CATALOG, cells), "rate")
    assert (row.arm, row.control, row.segment, row.n, row.n_control) == ("reminder", "none", "{}", 70, 80)
    assert _floats(row.difference, row.ci_low, row.ci_high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert row.method == "Newcombe 95 %"


def test_arms_are_compared_within_each_group() -> None:
    of_es = {("rate", '{"@arm":"reminder","language":"es"}', "28d"): cell(0.1, 50)}
    of_es["rate", '{"@arm":"none","language":"es"}', "28d"] = cell(0.3, 50)
    (row,) = contributions.contributions(board_of(CATALOG, of_es), "rate")
    assert (row.segment, row.arm, _floats(row.difference)) == (ES, "reminder", (-0.2,))


def test_an_arm_of_few_and_events_without_an_arm_are_not_compared() -> None:
    hidden = cell(None, None, status="suppressed")
    cells = {("rate", REMINDER, "28d"): hidden, ("rate", NONE, "28d"): cell(0.6, 80)}
    cells["rate", '{"@arm":null}', "28d"] = cell(0.1, 10)
    (row,) = contributions.contributions(board_of(CATALOG, cells), "rate")
    assert (row.status, row.difference, row.n, row.ci_low) == ("suppressed", None, None, None)


def test_a_mean_has_students_interval_and_its_top_box() -> None:
    values = [20, 22, 5, 8, 25]
    total = cell(16, 5, Spread(80 * 10**9, sum(value**2 for value in values) * 10**18, 3))
    (row,) = _intervals(board_of(CATALOG, {("score", "{}", "28d"): total}), "score")
    low, high = stats.t.interval(0.95, 4, loc=16, scale=stats.sem(values))
    assert _floats(row.ci_low, row.ci_high, row.top_box_share) == pytest.approx((low, high, 0.6))


def test_a_rate_has_wilsons_interval_and_arms_have_no_row() -> None:
    cells = {("rate", "{}", "28d"): cell(0.25, 40), ("rate", NONE, "28d"): cell(0.25, 40)}
    (row,) = _intervals(board_of(CATALOG, cells), "rate")
    expected = stats.binomtest(10, 40).proportion_ci(method="wilson")
    assert _floats(row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high))


def test_a_ratio_of_money_is_no_proportion_and_gets_no_interval() -> None:
    cells = {("per_money", "{}", "28d"): cell(0.5, 40)}
    assert not list(_intervals(board_of(CATALOG, cells), "per_money"))


def test_net_is_gross_without_what_others_did() -> None:
    text = """
metrics:
  visits:
    title: Visits
    event: clinic.visit.v1
    aggregate: count
    role: impact
    windows: [all]
    targets: [{window: all, baseline: {value: 0, at: 2023-12-31}, value: 9, due: 2026-12-31}]
    net: {deadweight: 0.2, attribution: 0.6, displacement: 0.1, drop_off: 0.1, source: study}
"""
    board = board_of(catalog_of(text), {("visits", "{}", "all"): cell(1000)})
    (row,) = contributions.net_values(board, "visits", "{}")
    # two full years between 2023-12-31 and 2026-01-01
    assert _floats(row.gross, row.net) == pytest.approx((1000, 1000 * 0.8 * 0.6 * 0.9 * 0.9**2))
    assert row.source == "study"


def test_what_is_left_of_a_whole_is_a_proportion_too() -> None:
    more = """
  kept: {title: Kept, difference: {of: visits, minus: missed}, role: impact, windows: [28d]}
  kept_rate: {title: Kept share, ratio: {numerator: kept, denominator: visits}, role: impact, windows: [28d]}
"""
    board = board_of(catalog_of(TEXT + more), {("kept_rate", "{}", "28d"): cell(0.75, 40)})
    (row,) = _intervals(board, "kept_rate")
    expected = stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert _floats(row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high))
