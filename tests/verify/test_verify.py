"""`verify` finds the numbers equal after everything that may happen to events, and names what is not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from impact_aggregator.verify import Facts, LogBeginsLate, TooLittleMemory, run
from impact_eventlog import LogError
from impact_schemas.wire import partition_of
from tests.verify.counting import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    SMALL_CATALOG,
    Counting,
    correction,
    embedded,
    event,
    keyed,
    retraction,
    told,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def counting(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Counting]:
    async with embedded(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
async def small(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Counting]:
    async with embedded(tmp_path, sqlite_url, catalog=SMALL_CATALOG) as made:
        yield made


async def test_every_aggregate_condition_and_cut_is_found_equal(counting: Counting) -> None:
    await counting.send(
        event("a", language="es", region="north", kept=True, minutes=Decimal("1.5")),
        event(
            "b",
            NOON - 3 * MINUTE,
            "p2",
            language="es",
            region="3",
            kept=False,
            minutes=Decimal("1.50000000000000001"),
        ),
        event("c", NOON - HOUR, "p3", language=None, region=3, kept=True, minutes=0),
        event("d", NOON - 23 * HOUR, None, region=Decimal("2.5"), minutes=Decimal("-0.0000000015")),
        event(
            "e",
            NOON - 27 * DAY,
            "p1",
            language='a"b\\c\u00e9',
            region={"deep": 1},
            minutes=Decimal("999999999999999.999999999"),
        ),
        event("f", NOON + 2 * MINUTE, "p4", language="en", kept=True, minutes=Decimal("0.0000000005")),
        event("g", None, "p5", language="en", region=True, ward={"place": "x", "beds": 3}),
        event("h", NOON - DAY, "p5", language="en", ward={"place": "x", "beds": 9}, minutes=100),
        event("i", NOON, "p5", language="en", ward={"place": "y", "beds": 4}),
        event("j", event_type="clinic.closed.v1"),
    )
    await counting.count()
    report = await counting.verify()
    assert told(report) == []
    assert report.equal
    assert report.events == 10
    compared = {one.metric: one for one in report.metrics}
    assert compared.keys() == counting.catalogs["clinic"].metrics.keys()
    assert all(
        one.buckets >= 6 for one in compared.values() if one.metric in ("visits", "minutes", "p50", "last")
    )
    assert all(one.rolling for one in compared.values())
    undecided = {"few"}  # its blocks settle first
    assert all(one.periods for one in compared.values() if one.metric not in undecided)


async def test_late_duplicate_conflicting_taken_back_and_corrected_events_are_found_equal(
    counting: Counting,
) -> None:
    first = event("a", language="es", minutes=1)
    await counting.send(first, event("b", NOON - 10 * DAY, language="es", minutes=5), event("c", minutes=2))
    await counting.send(retraction("r1", "before"), correction("k1", "b", {"language": "en", "minutes": 7}))
    await counting.count()
    await counting.send(
        first,
        event("a", language="es", minutes=9),  # a conflict
        event("before", language="es", minutes=50),
        retraction("r2", "c"),
        correction("k2", "b", {"language": "fr", "minutes": Decimal("0.1")}, NOON + 1),
        correction("k3", "a", {"minutes": "many"}),  # does not fit
        correction("k4", "never", {"minutes": 1}),
        event("late", NOON - 500 * DAY, minutes=4),
        received_at=NOON + HOUR,
    )
    counting.now = NOON + HOUR
    await counting.count()
    report = await counting.verify()
    assert told(report) == []
    assert report.ledgers == ["clinic"]
    ((counted, duplicates, quarantined),) = await counting.rows(
        "SELECT counted, duplicates, quarantined FROM ledger"
    )
    assert (counted, duplicates, quarantined) == (10, 1, 2)
    corrected = await counting.rows(
        "SELECT value FROM rolling_metrics WHERE metric = 'minutes' AND time_window = 'all'"
        ' AND segment = \'{"language":"fr"}\''
    )
    assert corrected == [(0.1,)]


async def test_several_partitions_and_time_that_went_on_are_found_equal(
    tmp_path: Path, database_url: str
) -> None:
    """More different patients than are counted exactly, so that estimates are compared too."""
    async with embedded(tmp_path, database_url, partitions=3, catalog=SMALL_CATALOG) as counting:
        visits = [
            event(
                f"{n}",
                NOON - n % 40 * 37 * MINUTE,
                f"p{n}",
                language="es" if n % 3 else "en",
                minutes=Decimal(n) / 7,
                kept=n % 2 == 0,
            )
            for n in range(1_200)
        ]
        await counting.send(*visits)
        await counting.count()
        assert told(await counting.verify()) == []
        counting.now = NOON + 8 * DAY
        await counting.count()
        assert told(await counting.verify()) == []


async def test_a_shard_with_nothing_of_the_metric_does_not_hide_what_another_counted(
    tmp_path: Path, database_url: str
) -> None:
    async with embedded(tmp_path, database_url, partitions=3, catalog=SMALL_CATALOG) as counting:
        await counting.send(event("a", subject="p1", minutes=3))
        await counting.count()
        others = [event(f"{n}", subject=None) for n in range(20)]
        place = partition_of(keyed(event("a")).key, 3)
        await counting.send(*[one for one in others if partition_of(keyed(one).key, 3) != place])
        await counting.count()
        assert told(await counting.verify()) == []
        days = "SELECT metric, value FROM metric_buckets WHERE segment = '{}' AND resolution = '1d'"
        found = {name: float(value) for name, value in await counting.rows(days) if value is not None}
        assert found["patients"] == 1.0
        assert found["p50"] == pytest.approx(3.0, rel=0.01)


async def test_a_percentile_of_nothing_is_unknown(small: Counting) -> None:
    await small.send(event("a", subject="p1"))
    await small.count()
    found = await small.rows("SELECT DISTINCT value FROM metric_buckets WHERE metric = 'p50'")
    assert found == [(None,)]
    assert told(await small.verify()) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            "UPDATE bucket SET count = count + 1 WHERE resolution = '1h' AND series_id ="
            " (SELECT series_id FROM series WHERE metric = 'kept' AND segment = '{\"language\":\"en\"}')",
            [
                ("kept", "bucket", "1h", "2026-01-01 12:00:00", '{"language":"en"}', field, "1", "2")
                for field in ("count", "value")
            ],
        ),
        (
            "UPDATE bucket SET sum = '3.000000001' WHERE resolution = '1d' AND series_id ="
            " (SELECT series_id FROM series WHERE metric = 'minutes' AND segment = '{}')",
            [
                ("minutes", "bucket", "1d", "2026-01-01 00:00:00", "{}", field, "3", "3.000000001")
                for field in ("sum", "value")
            ],
        ),
        (
            "DELETE FROM bucket WHERE resolution = '1m' AND series_id ="
            " (SELECT series_id FROM series WHERE metric = 'most' AND segment = '{}')",
            [("most", "bucket", "1m", "2026-01-01 12:00:00", "{}", "row", "n = 2", "None")],
        ),
        (
            "UPDATE rolling_value SET status = 'stale' WHERE time_window = '24h' AND series_id ="
            " (SELECT series_id FROM series WHERE metric = 'last' AND segment = '{}')",
            [("last", "rolling", "24h", "", "{}", "status", "ok", "stale")],
        ),
        (
            "UPDATE rolling_value SET value = '0.6' WHERE time_window = '90d' AND series_id ="
            " (SELECT series_id FROM series WHERE metric = 'kept_rate' AND segment = '{}')",
            [("kept_rate", "rolling", "90d", "", "{}", "value", "0.5", "0.6")],
        ),
        (
            "UPDATE period_value SET n = 3 WHERE period = 'year' AND series_id ="
            " (SELECT series_id FROM series WHERE metric = 'mean' AND segment = '{}')",
            [("mean", "period", "year", "2026-01-01 00:00:00", "{}", "n", "2", "3")],
        ),
        (
            "UPDATE ledger_count SET duplicates = 4",
            [("", "ledger", "", "", "", "duplicates", "0", "4")],
        ),
        (
            "UPDATE window_position SET window_start = '2025-12-06 00:00:00' WHERE time_window = '28d'",
            None,
        ),
    ],
)
async def test_one_wrong_row_is_named_and_nothing_else(
    small: Counting, change: str, expected: list[tuple[str, ...]] | None
) -> None:
    await small.send(
        event("a", language="es", kept=False, minutes=1), event("b", language="en", kept=True, minutes=2)
    )
    await small.count()
    assert told(await small.verify()) == []
    await small.change(change)
    report = await small.verify()
    assert not report.equal
    if expected is not None:
        assert [one for one in told(report) if one[5] != "mean"] == expected
    else:
        assert {one[5] for one in told(report)} == {"window_start"}


async def test_a_small_cell_that_is_shown_is_a_difference(small: Counting) -> None:
    await _decide(small, event("a", NOON - 7 * DAY, language="es"))
    assert told(await small.verify()) == []
    await small.change(
        "UPDATE rolling_value SET status = 'ok', n = 1, value = '1' WHERE time_window = 'all' AND series_id ="
        " (SELECT series_id FROM series WHERE metric = 'few' AND segment = '{}')"
    )
    assert told(await small.verify()) == [
        ("few", "rolling", "all", "", "{}", "suppression", "hidden", "shown")
    ]


async def test_a_small_cell_of_a_block_that_is_decided_to_be_shown_is_a_difference(small: Counting) -> None:
    await _decide(small, event("a", NOON - 7 * DAY, language="es"))
    await small.change("UPDATE block_cell SET is_hidden = FALSE")
    differences = told(await small.verify())
    week = ("2025-12-22 00:00:00", "{}", "suppression", "hidden", "shown")
    assert ("few", "block", "week", *week) in differences


async def test_a_group_that_comes_late_is_found_in_the_next_block(small: Counting) -> None:
    await _decide(small, *(event(f"e{n}", NOON - 7 * DAY, f"p{n}", language="es") for n in range(5)))
    late = [event(f"l{n}", NOON - 7 * DAY, f"q{n}", language="en") for n in range(5)]
    await small.send(*late, *(event(f"n{n}", NOON, f"p{n}", language="es") for n in range(5)))
    small.now += 7 * DAY
    await small.count()
    await _decide(small)
    assert told(await small.verify()) == []
    rows = await small.rows(
        "SELECT n FROM rolling_metrics WHERE metric = 'few' AND time_window = 'all' AND segment LIKE '%en\"}'"
    )
    assert rows == [(5,)]


async def test_a_block_that_lost_something_is_a_difference_and_tells_no_number(small: Counting) -> None:
    await _decide(small, *(event(f"e{n}", NOON - 7 * DAY, f"p{n}", language="es") for n in range(5)))
    assert told(await small.verify()) == []
    await small.change("UPDATE block_cell SET count = count - 1 WHERE is_hidden = FALSE")
    assert ("few", "block", "all", "", "{}", "carried", "what came in", "other than that") in told(
        await small.verify()
    )
    await small.change("UPDATE bucket SET count = count + 1 WHERE resolution = '1d'")
    of_few = [one for one in told(await small.verify()) if one[:2] == ("few", "bucket")]
    assert {one[-2:] for one in of_few} == {("(protected)", "(other)")}


async def _decide(small: Counting, *events: dict[str, Any]) -> None:
    """Counts events of a closed block, and waits until it is decided."""
    if events:
        await small.send(*events)
        await small.count()
    small.now += 3 * SECOND
    await small.count()


async def test_a_metric_is_verified_alone_and_a_ratio_with_its_parts(small: Counting) -> None:
    await small.send(event("a", kept=True))
    await small.count()
    report = await small.verify("clinic", "kept_rate")
    assert [one.metric for one in report.metrics] == ["kept", "kept_rate", "visits"]
    assert report.equal
    with pytest.raises(LookupError, match="no metric 'other'"):
        await small.verify("clinic", "other")
    with pytest.raises(LookupError, match="no product 'other'"):
        await small.verify("other")


async def test_events_after_the_snapshot_are_left_alone(small: Counting) -> None:
    await small.send(event("a"))
    await small.count()
    await small.send(event("b"))  # in the log, not counted yet
    report = await small.verify()
    assert report.equal
    assert report.events == 1


async def test_values_that_are_about_to_change_are_skipped_and_said_so(small: Counting) -> None:
    await small.send(event("a"))
    await small.count()
    await small.change(
        "INSERT INTO changed_series (series_id) SELECT series_id FROM series WHERE metric = 'kept'"
    )
    report = await small.verify()
    assert report.equal
    assert {one.metric for one in report.metrics if one.skipped} == {"kept", "kept_rate"}


async def test_a_log_that_begins_late_is_refused_by_its_first_offset(small: Counting, tmp_path: Path) -> None:
    for number in range(3):
        await small.send(event(f"{number}"))
    await small.count()
    with closing(sqlite3.connect(tmp_path / "events.db")) as database, database:
        database.execute("DELETE FROM record WHERE offset < 2")
    with pytest.raises(LogBeginsLate, match="begins at offset 2, not at 0"):
        await small.verify()


async def test_a_log_that_ends_before_what_is_counted_is_refused(small: Counting, tmp_path: Path) -> None:
    for number in range(3):
        await small.send(event(f"{number}"))
    await small.count()
    with closing(sqlite3.connect(tmp_path / "events.db")) as database, database:
        database.execute("DELETE FROM record WHERE offset > 0")
    with pytest.raises(LogError, match="ends at offset 1, but 3 of its records are counted"):
        await small.verify()


# --- explain ------------------------------------------------------------------------------------------


async def test_explain_says_what_a_number_is_made_of_and_its_sql_gives_it(small: Counting) -> None:
    day_late = NOON + DAY
    await small.send(event("a", language="es", minutes=1), event("b", language="en", minutes=2))
    await small.send(event("late", language="es", minutes=4), event("none"), received_at=day_late)
    await small.send(
        event("a", language="es", minutes=1),
        event("a", language="es", minutes=9),
        event("gone", language="es", minutes=8),
        retraction("r", "gone"),
        correction("k", "b", {"language": "es", "minutes": 5}),
    )
    small.now = day_late
    await small.count()
    found = await small.explain("minutes", segment='{"language":"es"}')
    assert (float(found.value), found.n, found.status, found.window) == (10.0, 3, "ok", "all")
    assert found.facts == [Facts("minutes", counted=3, late=1, corrected=1, retracted=1, left_out=1)]
    assert found.duplicates == 1
    assert found.quarantined == {"id_conflict": 1}
    assert found.log_range == {"impact.events.v1-0": 3, "impact.quarantine.v1-0": 0}
    assert (await small.rows(found.sql[0].rstrip(";")))[0][:3] == (10.0, 3, "ok")
    buckets = await small.rows(found.sql[1].rstrip(";"))
    assert sum(row[3] for row in buckets) == 10.0


async def test_explain_reads_no_log_for_a_protected_metric_and_its_sql_gives_the_blocks(
    small: Counting,
) -> None:
    await _decide(small, *(event(f"e{n}", NOON - 7 * DAY, f"p{n}", language="es") for n in range(5)))
    found = await small.explain("few")
    assert (found.n, found.facts) == (5, None)
    assert "resolution = '1w'" in found.sql[1]
    assert len(await small.rows(found.sql[1])) == 1


async def test_explain_without_the_log_says_so_and_unknown_numbers_are_refused(small: Counting) -> None:
    await small.send(event("a", kept=True))
    await small.count()
    found = await small.explain("kept_rate", with_log=False, window="1h")
    assert found.facts is None
    assert found.window_start == "2026-01-01 11:01:00"
    with pytest.raises(LookupError, match="no value in window '28d'"):
        await small.explain("kept_rate", window="28d")


async def test_too_little_memory_is_said(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_out(*_: object) -> None:
        raise duckdb.OutOfMemoryException("could not allocate block")

    await counting.send(event("a", minutes=1))
    await counting.count()
    monkeypatch.setattr(run, "load", run_out)
    with pytest.raises(TooLittleMemory, match="MiB are not enough"):
        await counting.verify()
