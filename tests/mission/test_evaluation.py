"""The evaluation on both databases: events in, meaning out, for what changed and nothing else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import update

from impact_aggregator.mission import (
    bets,
    comparisons,
    contributions,
    equity,
    features,
    pairs,
    targets,
    violations,
)
from impact_aggregator.mission.gauges import MissionGauges
from impact_aggregator.windows import DAY, HOUR, floor
from impact_schemas import tables
from tests.aggregator.conftest import retraction
from tests.mission.conftest import NOON, Mission, mission, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Table

    from impact_aggregator.events import Event
    from impact_schemas.catalog import Catalog
    from tests.mission.conftest import Clock

VIEWS = (
    "metric_trends",
    "target_progress",
    "equity_gaps",
    "population_coverage",
    "coverage",
    "contributions",
    "net_values",
    "intervals",
    "value_pairs",
    "violations",
    "metric_records",
    "benchmarks",
    "bet_results",
)
TODAY = floor(NOON, DAY)


def _visits(days: range, per_day: int = 3, seed: int = 7) -> list[Event]:
    rng = random.Random(seed)
    return [
        visit(
            f"{seed}-{day}-{number}",
            NOON - day * DAY,
            received_at=NOON,
            language=rng.choice(["en", "es"]),
            kept=rng.random() > 0.2,
            score=rng.randint(0, 25),
            arm=rng.choice(["none", "reminder"]),
        )
        for day in days
        for number in range(per_day)
    ]


async def _all(clinic: Mission) -> dict[str, list[tuple[object, ...]]]:
    found = {view: await clinic.rows(f"SELECT * FROM {view}") for view in VIEWS}
    return {view: sorted(rows, key=str) for view, rows in found.items()}


def test_the_rows_of_rules_are_the_columns_of_their_tables() -> None:
    kinds: dict[Table, Any] = {
        tables.target_state: targets.TargetRow,
        tables.equity_gap: equity.GapRow,
        tables.population_share: equity.PopulationRow,
        tables.dimension_coverage: equity.CoverageRow,
        tables.arm_contribution: contributions.ContributionRow,
        tables.feature_result: features.FeatureRow,
        tables.value_interval: contributions.IntervalRow,
        tables.net_value: contributions.NetRow,
        tables.benchmark: comparisons.BenchmarkRow,
        tables.metric_record: comparisons.RecordRow,
        tables.value_pair: pairs.PairRow,
        tables.violation: violations.ViolationRow,
        tables.bet_result: bets.BetRow,
    }
    assert set(kinds) == set(tables.MEANINGS)
    for table, kind in kinds.items():
        assert tuple(column.name for column in table.c) == kind._fields


async def test_a_year_that_comes_at_once_is_judged_as_one_that_was_lived_through(
    clinic_on_both: Mission,
) -> None:
    clinic = clinic_on_both
    await clinic.pipeline.count(_visits(range(100)))
    await clinic.tick()
    rows = await clinic.rows(
        "SELECT at, value, n FROM metric_trends"
        " WHERE metric = 'visits' AND time_window = '7d' AND segment = '{}' ORDER BY at"
    )
    assert len(rows) == 99
    assert [(value, n) for _, value, n in rows] == [
        *((3 * day, 3 * day) for day in range(1, 7)),
        *[(21, 21)] * 93,
    ]
    (target,) = await clinic.rows("SELECT value, status, trend_days, unit FROM target_progress")
    assert target == (300, "met", 28, "1")
    assert len(await clinic.rows("SELECT * FROM contributions WHERE method IS NOT NULL")) == 12
    assert {row[0] for row in await clinic.rows("SELECT status FROM equity_gaps")} == {"ok"}
    (top,) = await clinic.rows(
        "SELECT top_box_share FROM intervals"
        " WHERE metric = 'wellbeing' AND time_window = 'all' AND segment = '{}'"
    )
    expected = [event.data["score"] >= 20 for event in _visits(range(100))]
    assert top[0] == pytest.approx(sum(expected) / len(expected))


async def test_late_events_a_new_leader_and_small_portions_change_nothing_of_what_comes_out(
    clinic_on_both: Mission,
) -> None:
    clinic = clinic_on_both
    events = _visits(range(60))
    random.Random(1).shuffle(events)
    for start in range(0, len(events), 45):
        await clinic.pipeline.count(events[start : start + 45])
        await clinic.tick()
    lived = await _all(clinic)
    assert all(lived[view] for view in VIEWS if view not in ("violations", "bet_results"))
    fresh = Mission(clinic.pipeline, rows_a_tick=1)
    clinic.pipeline.rolling._forget()
    await fresh.tick()
    assert fresh.evaluation._waiting  # only a portion of the trends is there: SQL keeps what it said
    assert await _all(clinic) == lived
    for _ in range(40):
        await fresh.tick()
    assert not fresh.evaluation._waiting
    assert await _all(clinic) == lived
    for table in tables.MEANINGS:
        name = table.name
        assert sorted(map(str, fresh.of(table))) == sorted(map(str, clinic.of(table))), name


async def test_nothing_is_written_where_nothing_changed(clinic: Mission, clock: Clock) -> None:
    await clinic.pipeline.count(_visits(range(40)))
    await clinic.tick()
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    engine = clinic.pipeline.engine.sync_engine
    sqlalchemy_event.listen(engine, "before_cursor_execute", note)
    await clinic.evaluation.tick()
    assert not statements
    clock.now += HOUR  # an hour later everything is judged again: only what time moves is written
    await clinic.tick()
    written = {word for one in statements for word in one.split() if word in tables.metadata.tables}
    assert written & {table.name for table in tables.MEANINGS} <= {"target_state"}
    sqlalchemy_event.remove(engine, "before_cursor_execute", note)


async def test_a_day_that_ends_joins_the_trends(clinic: Mission, clock: Clock) -> None:
    await clinic.pipeline.count(_visits(range(10)))
    await clinic.tick()
    query = (
        "SELECT COUNT(*) FROM metric_trends"
        " WHERE metric = 'visits' AND segment = '{}' AND time_window = 'all'"
    )
    assert await clinic.rows(query) == [(9,)]
    clock.now = TODAY + DAY
    await clinic.tick()
    assert await clinic.rows(query) == [(10,)]


async def test_a_late_event_moves_every_day_that_contains_it(clinic: Mission) -> None:
    await clinic.pipeline.count(_visits(range(10)))
    await clinic.tick()
    late = visit("late", NOON - 5 * DAY, received_at=NOON, language="en", kept=False)
    await clinic.pipeline.count([late])
    await clinic.tick()
    rows = await clinic.rows(
        "SELECT value FROM metric_trends"
        " WHERE metric = 'visits' AND segment = '{}' AND time_window = 'all' ORDER BY at"
    )
    assert [value for (value,) in rows] == [3, 6, 9, 12, 16, 19, 22, 25, 28]


async def test_a_guardrail_that_is_crossed_is_a_violation_until_it_is_not(
    clinic: Mission, clock: Clock
) -> None:
    for day in (2, 1, 0):
        missed = [visit(f"{day}-{n}", NOON - day * DAY, received_at=NOON, kept=False) for n in range(2)]
        await clinic.pipeline.count(missed)
    await clinic.tick()
    query = "SELECT rule, kind, observed, expected, since, until FROM violations WHERE metric = 'missed'"
    ((rule, kind, observed, expected, since, until),) = await clinic.rows(query)
    assert (rule, kind, observed, expected, until) == ("missed_max", "guardrail", 6, 3, None)
    assert str(since)[:10] == "2025-12-31"  # at the end of that day there were four of three
    clock.now += 7 * DAY
    await clinic.tick()
    ((*_, still),) = await clinic.rows(query)
    assert still is None  # nothing has come since: nobody can say that it is over
    await clinic.pipeline.count([visit("kept", clock.now, kept=True)])
    await clinic.tick()
    ((*_, ended),) = await clinic.rows(query)
    assert str(ended)[:10] == "2026-01-08"


async def test_a_group_that_was_taken_back_is_as_if_never_sent(clinic: Mission) -> None:
    await clinic.pipeline.count(
        [visit("a", NOON - 3 * DAY, received_at=NOON, language="en", kept=True, score=3)]
    )
    await clinic.tick()
    before = await _all(clinic)
    await clinic.pipeline.count(
        [visit("b", NOON - 2 * DAY, received_at=NOON, language="es", kept=True, score=4)]
    )
    await clinic.tick()
    assert await clinic.rows("SELECT * FROM equity_gaps")
    await clinic.pipeline.count([retraction("r", of="b")])
    await clinic.tick()
    assert await _all(clinic) == before


async def test_a_metric_that_leaves_the_catalog_leaves_the_views(
    sqlite_url: str, watched: Catalog, clock: Clock
) -> None:
    async with mission(sqlite_url, watched, clock) as clinic:
        await clinic.pipeline.count(_visits(range(40)))
        await clinic.tick()
    metrics = {name: one for name, one in watched.metrics.items() if name in ("visits", "revenue")}
    smaller = watched.model_copy(update={"metrics": metrics, "consistency": ()})
    async with mission(sqlite_url, smaller, clock) as clinic:
        await clinic.tick()
        assert not await clinic.rows("SELECT * FROM equity_gaps WHERE metric <> 'visits'")
        assert not await clinic.rows("SELECT * FROM violations WHERE until IS NULL")
        found = await clinic.pipeline.rows("SELECT DISTINCT metric FROM metric_trends")
        assert found == [("visits",)]
        assert await clinic.pipeline.rows("SELECT COUNT(DISTINCT series_id) FROM trend_day") == [(3,)]


async def test_whoever_does_not_lead_says_nothing(clinic: Mission) -> None:
    await clinic.pipeline.count(_visits(range(5)))
    await clinic.tick()
    assert clinic.of(tables.target_state)
    async with clinic.pipeline.engine.begin() as connection:
        await connection.execute(
            update(tables.leader).values(holder="other", epoch=99, expires_at=2_000_000_000_000_000)
        )
    assert not await clinic.pipeline.rolling.tick()
    await clinic.evaluation.tick()
    assert not any(clinic.of(table) for table in tables.MEANINGS)
    assert await clinic.rows("SELECT * FROM target_progress")  # what was said stands until another says more


async def test_what_the_numbers_mean_is_scraped(clinic: Mission) -> None:
    await clinic.pipeline.count(_visits(range(60)))
    await clinic.pipeline.count([visit(f"m{n}", NOON, kept=False, score=5) for n in range(9)])
    await clinic.tick()
    registry = CollectorRegistry()
    registry.register(MissionGauges(clinic.evaluation.rows))
    lines = list(_lines(generate_latest(registry).decode()))
    assert 'impact_target_progress_ratio{metric="visits",product="clinic",window="all"} 1.89' in lines
    assert 'impact_target_state{metric="visits",product="clinic",status="met",window="all"} 1.0' in lines
    assert 'impact_target_state{metric="visits",product="clinic",status="at_risk",window="all"} 0.0' in lines
    assert 'impact_violation{kind="guardrail",product="clinic",rule="missed_max"} 1.0' in lines
    total = 'metric="no_show_rate",product="clinic",window="all"'
    (row,) = await clinic.rows(
        "SELECT ci_low, ci_high FROM intervals"
        " WHERE metric = 'no_show_rate' AND segment = '{}' AND time_window = 'all'"
    )
    for bound, value in zip(("low", "high"), row, strict=True):
        assert f'impact_mission_interval{{bound="{bound}",{total}}} {value}' in lines
    behind = [line for line in lines if line.startswith("impact_mission_groups_behind")]
    assert len(behind) == 8  # visits have four windows, the rate and the mean have two each
    for family in (
        *("arm_difference", "benchmark_ratio", "best", "net_value"),
        *("population_share_ratio", "unknown_share_ratio"),
    ):
        assert any(line.startswith(f"impact_mission_{family}{{") for line in lines), family
    gaps = [line for line in lines if line.startswith("impact_equity_gap")]
    labels = 'dimension="language",metric="no_show_rate",product="clinic",segment="(unknown)",window="28d"'
    assert any(line.startswith(f"impact_equity_gap{{{labels}}}") for line in gaps)


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("#") or "{" not in line:
            continue
        name, rest = line.split("{", 1)
        labels, value = rest.rsplit("} ", 1)
        yield f"{name}{{{','.join(sorted(labels.split(',')))}}} {value}"
