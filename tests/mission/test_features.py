"""Which feature did it: shares by hand, differences to the rest by scipy."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import pytest
from scipy import stats

from impact_aggregator.mission import features
from impact_aggregator.mission.segments import to_follow
from impact_aggregator.windows import DAY
from impact_schemas import numbers
from tests.mission.boards import board_of, catalog_of, cell, scores, trend_of
from tests.mission.conftest import NOON, mission, visit

if TYPE_CHECKING:
    from tests.mission.conftest import Clock

_SPLIT = "dimensions: {language: data.language, feature: data.arm}, windows: [28d]"
_MISSED = "{data.kept: false}"
TEXT = f"""
metrics:
  visits: {{title: Visits, event: clinic.visit.v1, aggregate: count, role: impact, {_SPLIT}}}
  missed:
    {{title: No, event: clinic.visit.v1, aggregate: count, where: {_MISSED}, role: business, {_SPLIT}}}
  rate: {{title: Rate, ratio: {{numerator: missed, denominator: visits}}, role: impact, windows: [28d]}}
  score: {{title: Score, event: clinic.visit.v1, aggregate: mean, of: data.score, role: impact, {_SPLIT}}}
"""
CATALOG = catalog_of(TEXT)
TEXTS, CALLS, UNKNOWN = '{"feature":"texts"}', '{"feature":"calls"}', '{"feature":null}'


def _floats(*nanos: int | None) -> tuple[float | None, ...]:
    return tuple(None if one is None else one / numbers.ONE for one in nanos)


def test_of_what_adds_up_a_feature_has_a_share_and_a_change() -> None:
    cells = {("visits", "{}", "28d"): cell(80, 80), ("visits", TEXTS, "28d"): cell(20, 20)}
    trends = {("visits", TEXTS, "28d"): trend_of([16.0] * 60)}
    (row,) = features.rows(board_of(CATALOG, cells, trends), "visits")
    assert (row.feature, row.n, row.status) == ("texts", 20, "ok")
    assert _floats(row.value, row.share, row.change) == (20, 0.25, 0.25)
    assert (row.rest_value, row.difference, row.method) == (None, None, None)


def test_a_rate_is_compared_with_all_that_did_not_come_through_the_feature() -> None:
    cells = {("rate", "{}", "28d"): cell(0.25, 200), ("rate", TEXTS, "28d"): cell(0.1, 50)}
    (row,) = features.rows(board_of(CATALOG, cells), "rate")
    assert (row.n, row.rest_n, row.share) == (50, 150, None)
    assert _floats(row.rest_value, row.difference) == pytest.approx((0.3, -0.2))
    ours, rest = (stats.binomtest(*one).proportion_ci(method="wilson") for one in ((5, 50), (45, 150)))
    low = -0.2 - sqrt((0.1 - ours.low) ** 2 + (rest.high - 0.3) ** 2)
    high = -0.2 + sqrt((ours.high - 0.1) ** 2 + (0.3 - rest.low) ** 2)
    assert _floats(row.ci_low, row.ci_high) == pytest.approx((low, high))
    assert row.method == "Newcombe 95 %, not randomised"


def test_a_mean_is_compared_by_the_spread_of_the_rest() -> None:
    ours, rest = [20, 22, 17, 24, 19], [12, 15, 9, 14, 18, 11, 20]
    cells = {("score", "{}", "28d"): scores(ours + rest), ("score", CALLS, "28d"): scores(ours)}
    (row,) = features.rows(board_of(CATALOG, cells), "score")
    expected = stats.ttest_ind(ours, rest, equal_var=False).confidence_interval(0.95)
    assert _floats(row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high), rel=1e-4)
    assert _floats(row.rest_value) == pytest.approx((sum(rest) / 7,))


def test_where_a_feature_is_all_there_is_or_hidden_nothing_is_compared() -> None:
    cells = {("rate", "{}", "28d"): cell(0.25, 200), ("rate", TEXTS, "28d"): cell(0.25, 200)}
    cells["rate", UNKNOWN, "28d"] = cell(None, None, status="suppressed")
    alone, hidden = features.rows(board_of(CATALOG, cells), "rate")
    assert (alone.rest_value, alone.ci_low) == (None, None)
    assert (hidden.feature, hidden.status, hidden.difference) == ("(unknown)", "suppressed", None)


def test_features_have_trends_though_they_are_not_the_first_dimension() -> None:
    assert to_follow(CATALOG, "visits", ["{}", TEXTS, '{"language":"en"}']) == [
        "{}",
        '{"language":"en"}',
        TEXTS,
    ]


async def test_features_are_in_sql_for_the_mission_and_for_the_business(
    database_url: str, clock: Clock
) -> None:
    kept = [True, False, True, True, False, True]
    visits = [
        visit(f"v{n}", NOON - n * DAY, received_at=NOON, kept=one, arm="texts" if n < 4 else "calls")
        for n, one in enumerate(kept)
    ]
    async with mission(database_url, CATALOG, clock) as clinic:
        await clinic.pipeline.count(visits)
        await clinic.tick()
        found = await clinic.rows(
            "SELECT feature, role, value, share, rest_value, difference, unit FROM feature_results"
            " WHERE metric IN ('visits', 'rate') ORDER BY metric, feature"
        )
    assert found == [
        ("calls", "impact", 0.5, None, 0.25, 0.25, "1"),
        ("texts", "impact", 0.25, None, 0.5, -0.25, "1"),
        ("calls", "impact", 2, pytest.approx(1 / 3), None, None, "1"),
        ("texts", "impact", 4, pytest.approx(2 / 3), None, None, "1"),
    ]
