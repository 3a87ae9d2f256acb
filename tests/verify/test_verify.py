"""`verify` finds the numbers equal after everything that may happen to events, and names what is not."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.verify.counting import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    Counting,
    correction,
    embedded,
    event,
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
    assert all(one.periods for one in compared.values())


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
    async with embedded(tmp_path, database_url, partitions=3) as counting:
        for start in range(0, 1_500, 500):
            await counting.send(
                *[
                    event(
                        f"{n}",
                        NOON - n * 7 * MINUTE,
                        f"p{n}",
                        language="es" if n % 3 else "en",
                        minutes=n,
                        kept=n % 2 == 0,
                    )
                    for n in range(start, start + 500)
                ]
            )
        await counting.count()
        for now in (NOON + 40 * MINUTE, NOON + 8 * DAY):
            counting.now = now
            await counting.count()
            report = await counting.verify()
            assert told(report) == []
        assert report.equal


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
    counting: Counting, change: str, expected: list[tuple[str, ...]] | None
) -> None:
    await counting.send(
        event("a", language="es", kept=False, minutes=1), event("b", language="en", kept=True, minutes=2)
    )
    await counting.count()
    assert told(await counting.verify()) == []
    await counting.change(change)
    report = await counting.verify()
    assert not report.equal
    if expected is not None:
        assert [one for one in told(report) if one[5] != "mean"] == expected
    else:
        assert {one[5] for one in told(report)} == {"window_start"}


async def test_a_small_cell_that_is_shown_is_a_difference(counting: Counting) -> None:
    await counting.send(event("a", language="es"))
    await counting.count()
    await counting.change(
        "UPDATE rolling_value SET status = 'ok', n = 1, value = '1' WHERE time_window = 'all' AND series_id ="
        " (SELECT series_id FROM series WHERE metric = 'few' AND segment = '{}')"
    )
    assert told(await counting.verify()) == [
        ("few", "rolling", "all", "", "{}", "suppression", "hidden", "shown")
    ]
