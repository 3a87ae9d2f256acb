"""Protected metrics on both databases: closed blocks, decided once, and no small cell in any view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator.protection.forgetting import forget_subject
from impact_aggregator.protection.grids import GRACE, SETTLE
from impact_aggregator.sketches import Distinct, hash64
from impact_aggregator.windows import DAY
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import Clock, correction, retraction, visit
from tests.aggregator.pipeline import Pipeline, pipeline
from tests.aggregator.test_rebuild import rebuild, take_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from impact_aggregator.events import Event
    from impact_schemas.catalog import Catalog

MONDAY = 1_767_571_200_000_000 + 9 * 3_600_000_000  # 2026-01-05T09:00:00Z
WEEK = 7 * DAY
PRIVACY = "privacy: {min_cell: 3, block: week}"
COUNTED = "event: clinic.visit.v1, role: impact, windows: [24h, 7d, 28d, all]"
LANGUAGE = "dimensions: {language: data.language}"
TEXT = f"""
apiVersion: impact/v1
product: clinic
title: Clinic
sources: ["/clinic"]
events:
  clinic.visit.v1:
    data:
      type: object
      properties:
        language: {{type: string}}
        region: {{type: string}}
        kept: {{type: boolean}}
        minutes: {{type: number}}
metrics:
  visits: {{title: Visits, {COUNTED}, {LANGUAGE}, {PRIVACY}, aggregate: count}}
  missed: {{title: Missed, {COUNTED}, {LANGUAGE}, where: {{data.kept: false}}, aggregate: count}}
  patients: {{title: Patients, {COUNTED}, {LANGUAGE}, {PRIVACY}, aggregate: unique, of: subject}}
  minutes: {{title: Minutes, {COUNTED}, {LANGUAGE}, {PRIVACY}, aggregate: sum, of: data.minutes}}
  places:
    title: Places
    event: clinic.visit.v1
    aggregate: count
    role: impact
    dimensions: {{language: data.language, region: data.region}}
    cuts: [[language, region]]
    {PRIVACY}
  missed_rate:
    {{title: Rate, ratio: {{numerator: missed, denominator: visits}}, role: impact, windows: [7d, all]}}
  open: {{title: Open, {COUNTED}, {LANGUAGE}, aggregate: count}}
"""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return parse_catalog(TEXT, "clinic.yaml")


@pytest.fixture
def clock() -> Clock:
    return Clock(MONDAY + WEEK)


@pytest.fixture
async def one(sqlite_url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    async with pipeline(sqlite_url, catalog, clock) as made:
        yield made


@pytest.fixture
async def each(database_url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    """On SQLite and on PostgreSQL, for what is not only a rule but SQL too."""
    async with pipeline(database_url, catalog, clock) as made:
        yield made


_next = iter(range(10**9))


def people(count: int, time: int = MONDAY, first: int = 0, **data: Any) -> list[Event]:
    """One visit each of so many people."""
    return [visit(f"v{next(_next)}", time, f"p{first + n}", **data) for n in range(count)]


async def settle(one: Pipeline, clock: Clock) -> None:
    """A tick that sees the events, and one after they have settled."""
    assert await one.rolling.tick()
    clock.now += SETTLE
    assert await one.rolling.tick()


async def blocks(one: Pipeline, metric: str) -> dict[tuple[str, str], Any]:
    rows = await one.rows(
        "SELECT bucket_start, segment, value FROM metric_buckets WHERE metric = :metric", metric=metric
    )
    return {(str(start)[:10], segment): None if v is None else float(v) for start, segment, v in rows}


async def test_large_cells_of_a_closed_week_show_and_small_ones_are_suppressed(
    each: Pipeline, clock: Clock
) -> None:
    await each.count([*people(5, language="es"), *people(9, first=20, language="en"), *people(1, first=40)])
    await settle(each, clock)
    assert await each.rolling_values("visits", "28d") == {
        "{}": (15, 15, "ok"),
        '{"language":"es"}': (None, None, "suppressed"),  # else the one without a language is the rest
        '{"language":"en"}': (9, 9, "ok"),
        '{"language":null}': (None, None, "suppressed"),
    }
    assert await each.rolling_values("visits", "7d") == await each.rolling_values("visits", "all")


async def test_what_is_published_appears_within_seconds_of_an_import(one: Pipeline, clock: Clock) -> None:
    for week in range(1, 53):
        await one.count(people(4, MONDAY - week * WEEK, language="es"))
        clock.now += 50_000
    await settle(one, clock)
    assert (await one.rolling_values("visits", "all"))["{}"] == (208, 208, "ok")
    assert (await one.rolling_values("patients", "all"))["{}"] == (4, 208, "ok")
    assert (await one.rolling_values("visits", "28d"))["{}"] == (12, 12, "ok")


async def test_events_of_the_running_block_do_not_show(one: Pipeline, clock: Clock) -> None:
    await one.count(people(8, MONDAY + WEEK, language="es"))
    await settle(one, clock)
    for window in ("24h", "28d", "all"):
        assert set((await one.rolling_values("visits", window)).values()) == {(None, None, "suppressed")}
    assert (await one.rolling_values("open", "all"))["{}"] == (8, 8, "ok")
    clock.now = MONDAY - 9 * 3_600_000_000 + 2 * WEEK + GRACE
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "all"))["{}"] == (8, 8, "ok")
    # a day is shorter than the grid: it can never show anything
    assert (await one.rolling_values("visits", "24h"))["{}"] == (None, None, "suppressed")


async def test_a_metric_without_events_is_no_data(one: Pipeline, clock: Clock) -> None:
    await settle(one, clock)
    assert await one.rolling_values("visits", "28d") == {"{}": (None, 0, "no_data")}


async def test_windows_leave_blocks_behind_as_time_passes(one: Pipeline, clock: Clock) -> None:
    await one.count([*people(5, language="es"), *people(4, MONDAY - WEEK, language="en")])
    await settle(one, clock)
    assert (await one.rolling_values("visits", "7d"))["{}"] == (5, 5, "ok")
    assert (await one.rolling_values("visits", "7d"))['{"language":"en"}'] == (0, 0, "ok")
    clock.now += WEEK
    await one.rolling.tick()
    assert (await one.rolling_values("visits", "7d"))["{}"] == (None, 0, "no_data")
    assert (await one.rolling_values("visits", "28d"))["{}"] == (9, 9, "ok")


async def test_a_decided_block_does_not_change_and_late_events_go_into_the_next(
    each: Pipeline, clock: Clock
) -> None:
    await each.count(people(5, language="es", minutes=10))
    await settle(each, clock)
    before = await blocks(each, "minutes")
    await each.count(people(1, MONDAY + 1, first=70, language="es", minutes=7))
    await settle(each, clock)
    assert await blocks(each, "minutes") == before
    await each.count(people(4, MONDAY + WEEK, language="es", minutes=1))
    clock.now += WEEK
    await settle(each, clock)
    shown = await blocks(each, "minutes")
    assert shown["2026-01-05", "{}"] == 50
    assert shown["2026-01-12", "{}"] == 4 + 7
    assert (await each.rolling_values("minutes", "all"))["{}"] == (61, 10, "ok")
    assert (await each.rolling_values("patients", "all"))["{}"] == (6, 10, "ok")
    rows = await each.rows(
        "SELECT DISTINCT bucket_start, restated FROM metric_buckets WHERE metric = 'minutes' ORDER BY 1"
    )
    assert [bool(restated) for _, restated in rows] == [False, True]


async def test_what_is_taken_back_is_taken_from_the_next_block(each: Pipeline, clock: Clock) -> None:
    await each.count([visit(f"a{n}", MONDAY, f"p{n}", language="es", minutes=10) for n in range(5)])
    await settle(each, clock)
    late = MONDAY + WEEK
    await each.count([retraction("r", "a0", late), correction("c", "a1", late, language="es", minutes=4)])
    await each.count(people(5, late, first=20, language="es", minutes=1))
    await settle(each, clock)
    clock.now += WEEK
    await settle(each, clock)
    assert (await blocks(each, "minutes"))["2026-01-05", "{}"] == 50
    assert (await each.rolling_values("minutes", "all"))["{}"] == (50 - 10 - 6 + 5, 9, "ok")


async def test_one_late_person_alone_is_never_a_cell(one: Pipeline, clock: Clock) -> None:
    await one.count(people(5, language="es"))
    await settle(one, clock)
    await one.count(people(1, language="es"))  # known from before: no new person, but one more visit
    await one.count(people(6, MONDAY + WEEK, first=20, language="en"))
    clock.now += WEEK
    await settle(one, clock)
    shown = await blocks(one, "visits")
    assert shown["2026-01-12", '{"language":"es"}'] is None
    assert shown["2026-01-12", '{"language":"en"}'] is None
    assert shown["2026-01-12", "{}"] == 7


async def test_a_ratio_is_hidden_with_its_parts_where_one_of_them_is_of_few(
    one: Pipeline, clock: Clock
) -> None:
    for language, kept, missed in (("es", 6, 1), ("en", 6, 4), ("fr", 4, 4), ("de", 4, 0)):
        await one.count(people(kept, first=1000 * ord(language[1]), language=language, kept=True))
        await one.count(people(missed, first=1000 * ord(language[1]) + 50, language=language, kept=False))
    await settle(one, clock)
    rates = await one.rolling_values("missed_rate", "all")
    assert rates["{}"] == (pytest.approx(9 / 29), 29, "ok")
    assert rates['{"language":"es"}'] == (None, None, "suppressed")
    assert rates['{"language":"en"}'] == (None, None, "suppressed")  # with it, enough have missed
    assert rates['{"language":"fr"}'] == (0.5, 8, "ok")
    assert rates['{"language":"de"}'] == (0, 4, "ok")
    visits = await one.rolling_values("visits", "all")
    assert {segment for segment, (value, _, _) in visits.items() if value is None} == {
        '{"language":"es"}',
        '{"language":"en"}',
    }


async def test_a_part_of_a_protected_ratio_without_privacy_of_its_own_shows_as_it_is(
    one: Pipeline, clock: Clock
) -> None:
    await one.count(people(1, MONDAY + WEEK, language="es", kept=False))
    await settle(one, clock)
    assert (await one.rolling_values("missed", "all"))["{}"] == (1, 1, "ok")


async def test_in_a_cut_cells_without_events_are_hidden_among_the_others(one: Pipeline, clock: Clock) -> None:
    for language, region, count in (("es", "n", 1), ("es", "s", 5), ("en", "n", 9), ("en", "s", 9)):
        await one.count(people(count, first=next(_next), language=language, region=region))
    await one.count(people(9, first=10**6, language="fr", region="n"))
    await settle(one, clock)
    values = await one.rolling_values("places", "all")
    hidden = {segment for segment, (_, _, status) in values.items() if status == "suppressed"}
    assert '{"language":"es","region":"n"}' in hidden
    assert len(hidden) == 4
    assert values['{"language":"es"}'] == (6, 6, "ok")


async def test_periods_are_unions_of_the_blocks_within_them(each: Pipeline, clock: Clock) -> None:
    await each.count([*people(5, language="es"), *people(4, MONDAY - WEEK, language="es")])  # 5 Jan, 29 Dec
    await settle(each, clock)
    rows = await each.rows(
        "SELECT period, starts_at, value, status FROM period_metrics WHERE metric = 'visits'"
        " AND segment = '{}' ORDER BY period, starts_at"
    )
    found = [(period, str(start)[:7], value, status) for period, start, value, status in rows]
    assert found == [
        ("month", "2026-01", 5, "ok"),  # the week of 29 December lies in no month, quarter or year
        ("quarter", "2026-01", 5, "ok"),
        ("year", "2026-01", 5, "ok"),
    ]


async def test_no_view_shows_a_small_cell_or_anything_finer_than_a_block(
    each: Pipeline, clock: Clock
) -> None:
    await each.count([*people(9, language="en", minutes=1), *people(2, first=50, language="es", minutes=1)])
    await settle(each, clock)
    await each.count(people(1, MONDAY + 1, first=80, language="es", minutes=1))
    clock.now += DAY
    await settle(each, clock)
    protected = "metric IN ('visits', 'patients', 'minutes', 'places', 'missed_rate')"
    assert await each.rows(f"SELECT DISTINCT resolution FROM metric_buckets WHERE {protected}") == [("1w",)]
    assert await each.rows(f"SELECT * FROM metric_revisions WHERE {protected}") == []
    assert await each.rows(f"SELECT * FROM metric_distributions WHERE {protected}") == []
    for view, value in (
        ("rolling_metrics", "n"),
        ("rolling_history", "n"),
        ("period_metrics", "n"),
        ("metric_buckets", "count"),
    ):
        rows = await each.rows(f"SELECT \"{value}\" FROM {view} WHERE {protected} AND segment LIKE '%es%'")
        assert {shown for (shown,) in rows} <= {None, 0}


async def test_a_new_leader_goes_on_with_what_is_decided(
    each: Pipeline, database_url: str, catalog: Catalog, clock: Clock
) -> None:
    await each.count(people(5, language="es"))
    await settle(each, clock)
    decided = await each.rows("SELECT * FROM block_cell ORDER BY series_id, block_start")
    async with each.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE leader SET expires_at = '2020-01-01 00:00:00'")
    async with pipeline(database_url, catalog, clock, "other") as other:
        await other.count(people(4, MONDAY - WEEK, language="es"))
        await settle(other, clock)
        rows = await other.rows("SELECT * FROM block_cell ORDER BY series_id, block_start")
        assert set(decided) < set(rows)
        assert (await other.rolling_values("visits", "all"))["{}"] == (9, 9, "ok")


async def test_a_rebuild_keeps_what_was_published_and_what_it_finds_goes_into_the_next_block(
    each: Pipeline, catalog: Catalog, clock: Clock
) -> None:
    await each.count(people(5, language="es", minutes=10))
    await settle(each, clock)
    await each.count(people(1, first=70, language="es", minutes=7))
    before = await blocks(each, "minutes")
    await rebuild(each).run()
    await take_up(each, catalog)
    await settle(each, clock)
    assert await blocks(each, "minutes") == before
    assert (await each.rolling_values("minutes", "all"))["{}"] == (50, 5, "ok")
    await each.count(people(4, MONDAY + WEEK, language="es", minutes=1))
    clock.now += WEEK
    await settle(each, clock)
    assert (await blocks(each, "minutes"))["2026-01-12", "{}"] == 4 + 7
    assert (await each.rolling_values("missed_rate", "all"))["{}"][1:] == (10, "ok")


async def test_another_grid_starts_a_new_version(one: Pipeline, clock: Clock) -> None:
    await one.count(people(5, language="es"))
    await settle(one, clock)
    await take_up(one, parse_catalog(TEXT.replace("block: week", "block: day"), "clinic.yaml"))
    versions = dict(await one.rows("SELECT metric, version FROM metrics"))
    assert versions == {name: 1 if name == "open" else 2 for name in versions}


async def test_an_erased_person_is_in_no_block_any_more_and_what_was_published_stays(
    each: Pipeline, clock: Clock
) -> None:
    await each.count(people(5, language="es"))
    await each.count(people(5, MONDAY - WEEK, first=3, language="es"))
    await settle(each, clock)
    before = await blocks(each, "patients")
    everybody = await _in_sketches(each)
    assert hash64("p3") in everybody
    async with each.engine.begin() as connection:
        await forget_subject(connection, "clinic", "p3")
    assert hash64("p3") not in await _in_sketches(each)
    assert len(await _in_sketches(each)) == len(everybody)
    clock.now += WEEK
    await settle(each, clock)
    assert await blocks(each, "patients") == before
    assert (await each.rolling_values("patients", "all"))["{}"] == (8, 10, "ok")


async def _in_sketches(one: Pipeline) -> set[int]:
    rows = await one.rows("SELECT substr(sketch, 2) FROM block_cell UNION SELECT subjects FROM block_account")
    return {member for (data,) in rows if data for member in Distinct.from_bytes(bytes(data))._members}
