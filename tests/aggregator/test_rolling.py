"""Rolling metrics on both databases: every change and every step of time shows, and unknown is not zero."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator.merged import FOLDED, REMEMBERED_BYTES, MergedBuckets, MergedMonths
from impact_aggregator.windows import DAY, MINUTE, WINDOWS
from impact_schemas.catalog import parse_catalog
from impact_schemas.tables import bucket, to_datetime
from tests.aggregator.conftest import HOUR, NOON, TEXT, Clock, visit
from tests.aggregator.pipeline import Pipeline, pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_aggregator.events import Event
    from impact_schemas.catalog import Catalog


@pytest.fixture
async def one(database_url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    async with pipeline(database_url, catalog, clock) as made:
        yield made


async def test_a_metric_without_events_is_no_data_from_the_start(one: Pipeline) -> None:
    assert await one.rolling.tick()
    assert await one.rolling_values("visits", "28d") == {"{}": (None, 0, "no_data")}
    assert await one.rolling_values("no_show_rate", "28d") == {"{}": (None, 0, "no_data")}


async def test_counts_of_nothing_are_zero_once_events_come_but_means_are_no_data(one: Pipeline) -> None:
    await one.count([visit("a", kept=True)])
    await one.rolling.tick()
    assert (await one.rolling_values("missed", "all"))["{}"] == (0, 0, "ok")
    assert (await one.rolling_values("minutes", "all"))["{}"] == (0, 0, "ok")
    assert (await one.rolling_values("mean_minutes", "all"))["{}"] == (None, 0, "no_data")
    assert (await one.rolling_values("no_show_rate", "all"))["{}"] == (0, 1, "ok")


async def test_a_ratio_is_the_quotient_of_sums_in_every_segment(one: Pipeline) -> None:
    kept = [visit(f"k{n}", language="es", kept=True) for n in range(3)]
    missed = [visit(f"m{n}", NOON - 3 * DAY, language="es", kept=False) for n in range(2)]
    await one.count([*kept, *missed, visit("x", language="en", kept=True)])
    await one.rolling.tick()
    assert await one.rolling_values("no_show_rate", "28d") == {
        "{}": (0.333333333, 6, "ok"),
        '{"language":"es"}': (0.4, 5, "ok"),
        '{"language":"en"}': (0, 1, "ok"),
        '{"region":null}': (0.333333333, 6, "ok"),
        '{"language":"es","region":null}': (0.4, 5, "ok"),
        '{"language":"en","region":null}': (0, 1, "ok"),
    }


async def test_an_event_leaves_its_windows_as_time_passes_and_segments_keep_their_state(
    one: Pipeline, clock: Clock
) -> None:
    await one.count([visit("a", NOON, language="es")])
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "5m"))['{"language":"es"}'] == (1, 1, "ok")
    clock.now = NOON + 4 * MINUTE + 59_000_000
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "5m"))["{}"] == (1, 1, "ok")
    clock.now = NOON + 5 * MINUTE
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "5m"))["{}"] == (None, 0, "no_data")
    assert (await one.rolling_values("visits", "1h"))["{}"] == (1, 1, "ok")
    await one.count([visit("b", clock.now, language="en")])
    await one.rolling.tick()
    # the group "es" had nothing, but its metric had events: that is a zero, not an unknown
    assert (await one.rolling_values("visits", "5m"))['{"language":"es"}'] == (0, 0, "ok")


async def test_silence_beyond_the_cadence_is_stale_without_any_event(one: Pipeline, clock: Clock) -> None:
    await one.count([visit("a", NOON, language="es", kept=False)])
    await one.rolling.tick()
    clock.now = NOON + DAY
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "28d"))["{}"] == (1, 1, "ok")
    clock.now = NOON + DAY + 1
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "28d"))['{"language":"es"}'] == (1, 1, "stale")
    assert (await one.rolling_values("no_show_rate", "28d"))["{}"] == (1, 1, "stale")
    await one.count([visit("b", clock.now, language="en", kept=False)])
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "28d"))['{"language":"es"}'] == (1, 1, "ok")


async def test_a_late_event_corrects_every_window_that_contains_it(one: Pipeline, clock: Clock) -> None:
    await one.count([visit("a", NOON)])
    await one.rolling.tick()
    await one.count([visit("late", NOON - 20 * DAY, received_at=NOON)])
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "28d"))["{}"] == (2, 2, "ok")
    assert (await one.rolling_values("visits", "24h"))["{}"] == (1, 1, "ok")
    clock.now = NOON + 8 * DAY
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "28d"))["{}"][0] == 1


async def test_an_event_ahead_of_the_clock_comes_into_its_window(one: Pipeline, clock: Clock) -> None:
    await one.count([visit("ahead", NOON + 2 * MINUTE, received_at=NOON)])
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "5m"))["{}"] == (None, 0, "no_data")
    clock.now = NOON + 2 * MINUTE
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "5m"))["{}"] == (1, 1, "ok")


async def test_only_one_leads_and_another_takes_over_when_the_lease_is_over(
    one: Pipeline, database_url: str, catalog: Catalog, clock: Clock
) -> None:
    await one.count([visit("a")])
    assert await one.rolling.tick()
    async with pipeline(database_url, catalog, clock, "other") as other:
        assert not await other.rolling.tick()
        assert not other.rolling.points
        await _expire_lease(one)
        assert await other.rolling.tick()
        assert other.rolling.points
        assert not await one.rolling.tick()
        assert not one.rolling.points  # business gauges are exported by one only


async def test_a_tick_that_takes_longer_than_the_lease_keeps_the_lead(
    one: Pipeline, database_url: str, catalog: Catalog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_long(connection: AsyncConnection, _: int) -> None:
        await connection.exec_driver_sql("UPDATE leader SET expires_at = '2020-01-01 00:00:00'")

    monkeypatch.setattr(one.rolling, "_write_positions", take_long)
    assert await one.rolling.tick()
    async with pipeline(database_url, catalog, clock, "other") as other:
        assert not await other.rolling.tick()


async def _expire_lease(one: Pipeline) -> None:
    async with one.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE leader SET expires_at = '2020-01-01 00:00:00'")


async def test_a_leader_that_comes_back_catches_up(
    one: Pipeline, database_url: str, catalog: Catalog, clock: Clock
) -> None:
    await one.count([visit("a", NOON)])
    await one.rolling.tick()
    await _expire_lease(one)
    async with pipeline(database_url, catalog, clock, "other") as other:
        clock.now = NOON + 30 * DAY
        await other.count([visit("b", clock.now)])
        await other.rolling.tick()
        await _expire_lease(one)
        clock.now += 30 * DAY
        assert await one.rolling.tick()
    assert (await one.rolling_values("visits", "28d"))["{}"] == (None, 0, "no_data")
    assert (await one.rolling_values("visits", "all"))["{}"] == (2, 2, "stale")


async def test_a_tick_deletes_only_the_changes_that_it_read(one: Pipeline) -> None:
    await one.count([visit("a")])
    await one.rolling.tick()
    assert await one.rows("SELECT COUNT(*) FROM changed_series") == [(0,)]


async def test_fine_buckets_are_deleted_when_they_are_old(one: Pipeline, clock: Clock) -> None:
    await one.count([visit("a", NOON)])
    clock.now = NOON + 8 * DAY
    await one.rolling.tick()
    assert await one.rows("SELECT DISTINCT resolution FROM metric_buckets ORDER BY 1") == [("1d",), ("1h",)]
    clock.now = NOON + 402 * DAY
    await one.rolling.tick()
    assert await one.rows("SELECT DISTINCT resolution FROM metric_buckets") == [("1d",)]


async def test_payloads_of_quarantined_events_are_kept_for_ninety_days(one: Pipeline, clock: Clock) -> None:
    await one.count([visit("a", minutes=1), visit("a", minutes=2)])
    clock.now = NOON + 90 * DAY
    await one.rolling.tick()
    assert [row[0] is None for row in await one.rows("SELECT payload FROM quarantined_events")] == [False]
    clock.now += DAY
    await one.rolling.tick()
    rows = await one.rows("SELECT payload, code, event_id FROM quarantined_events")
    assert rows == [(None, "id_conflict", "a")]


async def test_a_changed_metric_starts_a_new_version_and_the_others_go_on(
    one: Pipeline, database_url: str, clock: Clock
) -> None:
    await one.count([visit("a", minutes=5), visit("b", minutes=7)])
    await one.rolling.tick()
    changed = parse_catalog(
        TEXT.replace("aggregate: sum, of: data.minutes", "aggregate: max, of: data.minutes"), "x"
    )
    async with pipeline(database_url, changed, clock, "one") as after:
        assert await after.rows("SELECT metric, version FROM metrics WHERE version > 1") == [("minutes", 2)]
        await after.count([visit("c", minutes=1)])
        await after.rolling.tick()
        assert (await after.rolling_values("minutes", "all"))["{}"] == (1, 1, "ok")
        assert (await after.rolling_values("visits", "all"))["{}"] == (3, 3, "ok")


def _in_window(event: Event, name: str, now: int) -> bool:
    if name == "all":
        return True
    window = WINDOWS[name]
    return window.first_bucket(now) <= event.time < window.last_bucket(now) + window.step


def _expected(
    events: list[Event], name: str, now: int, language: str | None
) -> tuple[float | None, int, str]:
    inside = [event for event in events if _in_window(event, name, now)]
    mine = [event for event in inside if language is None or event.data["language"] == language]
    if not inside:
        return None, 0, "no_data"
    stale = now - max(event.time for event in events) > DAY
    return sum(event.data["minutes"] for event in mine), len(mine), "stale" if stale else "ok"


def _expected_periods(events: list[Event]) -> list[tuple[str, str, int, int]]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        date = to_datetime(event.time)
        firsts = {"month": date.month, "quarter": (date.month - 1) // 3 * 3 + 1, "year": 1}
        for kind, first in firsts.items():
            found[kind, f"{date.year}-{first:02}"].append(event.data["minutes"])
    return sorted((*place, sum(minutes), len(minutes)) for place, minutes in found.items())


@pytest.mark.parametrize(
    ("seed", "remembered_bytes"), [(0, REMEMBERED_BYTES), (1, REMEMBERED_BYTES), (2, 20_000), (3, 0)]
)
async def test_values_equal_a_recount_of_all_events_after_any_steps_of_time(
    sqlite_url: str, catalog: Catalog, seed: int, remembered_bytes: int
) -> None:
    source = random.Random(seed)
    clock = Clock(NOON)
    events: list[Event] = []
    async with pipeline(sqlite_url, catalog, clock) as one:
        one.rolling._merged = MergedBuckets(remembered_bytes)
        one.rolling._months = MergedMonths(one.rolling._merged, remembered_bytes)
        for step in range(25):
            clock.now += source.choice([1, 20_000_000, MINUTE, 7 * MINUTE, HOUR, 5 * HOUR, DAY, 9 * DAY])
            new = [
                visit(
                    f"{step}-{n}",
                    clock.now - source.choice([0, MINUTE, HOUR, DAY, 30 * DAY, -3 * MINUTE]),
                    received_at=clock.now,
                    language=source.choice(["es", "en"]),
                    minutes=source.randrange(100),
                )
                for n in range(source.randrange(3))
            ]
            events += new
            await one.count(new, partition=step % 2)
            assert await one.rolling.tick()
            for name in ("5m", "1h", "24h", "28d", "all"):
                values = await one.rolling_values("minutes", name)
                assert values["{}"] == _expected(events, name, clock.now, None), (step, name)
                for language in {event.data["language"] for event in events}:
                    key = f'{{"language":"{language}"}}'
                    assert values[key] == _expected(events, name, clock.now, language), (step, name, key)
            rows = await one.rows(
                "SELECT period, SUBSTR(CAST(starts_at AS VARCHAR), 1, 7), CAST(value AS INTEGER), n"
                " FROM period_metrics WHERE metric = 'minutes' AND segment = '{}' AND n > 0"
            )
            assert sorted(rows) == _expected_periods(events), step


async def test_a_tick_reads_the_buckets_that_changed_and_no_others(one: Pipeline) -> None:
    await one.count([visit("old", NOON - 3 * DAY), visit("new", NOON - 1)], partition=0)
    await one.rolling.tick()
    async with one.engine.begin() as connection:  # told to nobody: only one who reads it anew sees it
        visits = "series_id IN (SELECT series_id FROM series WHERE metric = 'visits')"
        await connection.exec_driver_sql(
            f"UPDATE bucket SET count = count + 100 WHERE resolution = '1d' AND {visits}"
        )
    await one.count([visit("another")], partition=1)
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "28d"))["{}"] == (103, 103, "ok")  # today's two shards


async def test_a_new_leader_finds_in_the_shards_what_the_old_one_followed(
    one: Pipeline, database_url: str, catalog: Catalog, clock: Clock
) -> None:
    for step in range(6):
        data: dict[str, Any] = {
            "language": ["es", "en"][step % 2],
            "kept": step % 3 == 0,
            "minutes": 2.5 * step,
        }
        await one.count([visit(f"v{step}", NOON - step * DAY, f"p{step}", **data)], partition=step % 3)
        assert await one.rolling.tick()
    everything = (
        "SELECT metric, time_window, segment, value, n, status FROM rolling_metrics ORDER BY 1, 2, 3",
        "SELECT metric, period, starts_at, segment, value, n, status FROM period_metrics ORDER BY 1, 2, 3, 4",
    )
    followed = [await one.rows(query) for query in everything]
    await _expire_lease(one)
    async with one.engine.begin() as connection:  # what it writes is its own
        await connection.exec_driver_sql("UPDATE rolling_value SET value = NULL, n = NULL, status = 'lost'")
        await connection.exec_driver_sql(
            "INSERT INTO changed_day (series_id, day)"
            " SELECT DISTINCT series_id, bucket_start FROM bucket WHERE resolution = '1d'"
        )
        await connection.exec_driver_sql("UPDATE period_value SET value = NULL, n = NULL, status = 'lost'")
    async with pipeline(database_url, catalog, clock, "other") as other:
        assert await other.rolling.tick()
    assert [await one.rows(query) for query in everything] == followed


def test_of_every_column_of_a_bucket_it_is_said_how_shards_of_numbers_are_merged() -> None:
    keys = {"series_id", "resolution", "bucket_start"}
    not_of_numbers = {"latest_time", "latest_tiebreak", "latest_value", "estimate", "subjects", "sketch"}
    assert {column.name for column in bucket.c} == keys | not_of_numbers | FOLDED.keys()


async def test_periods_are_calendar_months_quarters_and_years(one: Pipeline, clock: Clock) -> None:
    month = 31 * DAY
    await one.count([visit("a", NOON, "p1"), visit("b", NOON - DAY, "p1"), visit("c", NOON - month, "p2")])
    await one.rolling.tick()
    rows = await one.rows(
        "SELECT period, SUBSTR(CAST(starts_at AS VARCHAR), 1, 10), value, n, closed FROM period_metrics"
        " WHERE metric = 'patients' AND segment = '{}' ORDER BY 1, 2"
    )
    assert [(period, start, float(value), n, bool(closed)) for period, start, value, n, closed in rows] == [
        ("month", "2025-12-01", 2, 2, True),
        ("month", "2026-01-01", 1, 1, False),
        ("quarter", "2025-10-01", 2, 2, True),
        ("quarter", "2026-01-01", 1, 1, False),
        ("year", "2025-01-01", 2, 2, True),
        ("year", "2026-01-01", 1, 1, False),
    ]
    clock.now = NOON + month
    await one.count([visit("late", NOON - DAY, "p3", received_at=clock.now)])
    await one.rolling.tick()
    rows = await one.rows(
        "SELECT value FROM period_metrics WHERE metric = 'patients' AND segment = '{}' AND period = 'year'"
        " ORDER BY starts_at"
    )
    assert [float(value) for (value,) in rows] == [3, 1]


async def test_a_ratio_has_its_periods_too(one: Pipeline) -> None:
    await one.count([visit(f"e{n}", language="es", kept=n > 0) for n in range(4)])
    await one.rolling.tick()
    rows = await one.rows(
        "SELECT segment, value, n FROM period_metrics WHERE metric = 'no_show_rate' AND period = 'month'"
    )
    values = {segment: (float(value), n) for segment, value, n in rows}
    assert values["{}"] == (0.25, 4)
    assert values['{"language":"es"}'] == (0.25, 4)


async def test_history_keeps_each_day_as_it_stood_at_its_end(one: Pipeline, clock: Clock) -> None:
    await one.count([visit("a", NOON)])
    await one.rolling.tick()
    clock.now = NOON + DAY
    await one.count([visit("b", clock.now), visit("late", NOON, received_at=clock.now)])
    await one.rolling.tick()
    clock.now = NOON + 2 * DAY
    await one.rolling.tick()
    await one.rolling.tick()
    rows = await one.rows(
        "SELECT SUBSTR(CAST(at AS VARCHAR), 1, 10), value, status FROM rolling_history"
        " WHERE metric = 'visits' AND time_window = 'all' AND segment = '{}' ORDER BY 1"
    )
    assert [(at, float(value), status) for at, value, status in rows] == [
        ("2026-01-02", 1, "ok"),
        ("2026-01-03", 3, "ok"),
    ]


async def test_latest_per_place_is_the_sum_of_each_places_latest(database_url: str, clock: Clock) -> None:
    text = TEXT.replace(
        "aggregate: latest, of: data.minutes", "aggregate: latest, of: data.minutes, per: data.region"
    )
    async with pipeline(database_url, parse_catalog(text, "clinic.yaml"), clock) as one:
        await one.count(
            [
                visit("a", NOON - 2, region="north", minutes=5),
                visit("b", NOON - 1, region="north", minutes=7),
                visit("c", NOON - 9, region="south", minutes=100),
                visit("d", NOON, minutes=1000),  # of no place
            ]
        )
        await one.count([visit("e", NOON - 3, region="south", minutes=1)], partition=1)
        await one.rolling.tick()
        assert (await one.rolling_values("last", "all"))["{}"] == (8, 4, "ok")
        ((value,),) = await one.rows(
            "SELECT value FROM metric_buckets WHERE metric = 'last' AND resolution = '1d' AND segment = '{}'"
        )
        assert float(value) == 8
