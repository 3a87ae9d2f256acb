"""Protected metrics: what is said of them stands on published blocks alone, never on what they hide."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from impact_aggregator.windows import DAY, HOUR, floor
from impact_schemas.catalog import parse_catalog
from tests.mission.conftest import NOON, mission, visit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mission.conftest import Clock, Mission

TEXT = """
apiVersion: impact/v1
product: clinic
title: Clinic
sources: ["/clinic"]
events:
  clinic.visit.v1:
    data:
      type: object
      properties: {language: {type: string}, kept: {type: boolean}, arm: {type: string}}
metrics:
  visits:
    title: Visits
    event: clinic.visit.v1
    aggregate: count
    role: impact
    dimensions: {language: data.language}
    windows: [28d, all]
    privacy: &privacy {min_cell: 5, block: week}
    equity: {dimension: language, reference: en}
  missed:
    title: Missed
    event: clinic.visit.v1
    where: {data.kept: false}
    aggregate: count
    role: guardrail
    direction: down
    dimensions: {language: data.language}
    windows: [28d, all]
    privacy: *privacy
  rate:
    title: No-show rate
    ratio: {numerator: missed, denominator: visits}
    role: impact
    direction: down
    windows: [28d, all]
    privacy: *privacy
    experiment: {arm: data.arm, control: none}
    targets: [{window: 28d, value: 0.1, due: 2026-06-30}]
"""
MONDAY = floor(NOON, DAY) - 3 * DAY  # 2025-12-29


async def _lived(clinic: Mission, clock: Clock) -> None:
    """Ten weeks of 20 visits in English and 10 in Spanish, and 2 in Creole of which nothing may be seen."""
    events = [
        visit(
            f"{week}-{language}-{n}",
            MONDAY - week * 7 * DAY + (n % 7) * DAY,
            f"{language}-{week}-{n}",
            NOON,
            language=language,
            kept=n % 2 == 0,
            arm="none" if n % 4 < 2 else "reminder",
        )
        for week in range(1, 11)
        for language, count in (("en", 20), ("es", 12), ("ht", 2))
        for n in range(count)
    ]
    await clinic.pipeline.count(events)
    for _ in range(8):
        clock.now += 3_000_000  # blocks settle before they are decided
        await clinic.tick()


@pytest.fixture
async def lived(sqlite_url: str, clock: Clock) -> AsyncIterator[Mission]:
    async with mission(sqlite_url, parse_catalog(TEXT, "clinic.yaml"), clock) as clinic:
        await _lived(clinic, clock)
        yield clinic


async def test_trends_of_protected_metrics_move_by_closed_blocks_only(lived: Mission) -> None:
    rows = await lived.rows(
        "SELECT at, value FROM metric_trends"
        " WHERE metric = 'visits' AND time_window = 'all' AND segment = '{}' ORDER BY at"
    )
    days = [(str(at)[:10], value) for at, value in rows]
    changes = [day for (_, before), (day, value) in pairwise([("", 0), *days]) if value != before]
    assert changes == [str(date(2025, 10, 27) + timedelta(weeks=week)) for week in range(10)]
    assert rows[-1][1] == 340


async def test_the_last_day_of_a_trend_is_what_is_published_now(lived: Mission) -> None:
    rows = await lived.rows(
        "SELECT r.metric, r.segment, r.value, r.status, t.value, t.status FROM rolling_metrics r"
        " JOIN metric_trends t ON t.product = r.product AND t.metric = r.metric AND t.segment = r.segment"
        " AND t.time_window = r.time_window WHERE t.at = (SELECT MAX(at) FROM metric_trends)"
    )
    assert len(rows) > 10
    for *_, value, status, then, status_then in rows:
        assert (value, status) == (then, status_then)


async def test_nothing_is_said_of_a_group_of_few(lived: Mission) -> None:
    of_few = {"ht": '{"language":"ht"}'}
    for view in ("metric_trends", "equity_gaps", "intervals"):
        rows = await lived.rows(f"SELECT value FROM {view} WHERE segment = :ht", **of_few)
        assert rows
        assert not any(value is not None for (value,) in rows), view
    arms = await lived.rows(
        "SELECT value, control_value, difference, n FROM contributions WHERE segment = :ht", **of_few
    )
    assert arms
    assert not any(cell is not None for row in arms for cell in row)


async def test_a_target_is_judged_by_what_is_published(lived: Mission) -> None:
    ((value, status, days),) = await lived.rows("SELECT value, status, trend_days FROM target_progress")
    assert value == pytest.approx(0.5, abs=0.05)
    assert days >= 28
    assert status in ("off_track", "at_risk")


async def test_a_block_that_closes_moves_trends_and_meanings(lived: Mission, clock: Clock) -> None:
    before = await lived.rows("SELECT COUNT(*) FROM metric_trends WHERE metric = 'visits' AND segment = '{}'")
    clock.now = MONDAY + 7 * DAY + 2 * HOUR
    for _ in range(3):
        clock.now += 3_000_000
        await lived.tick()
    after = await lived.rows("SELECT COUNT(*) FROM metric_trends WHERE metric = 'visits' AND segment = '{}'")
    assert after[0][0] == before[0][0] + 2 * 4  # four more days of two windows
