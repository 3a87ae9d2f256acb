"""Exactly once, on both databases: what commits counts once, and nothing else counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator import store as store_module
from impact_aggregator.batches import Claim
from impact_aggregator.fold import Known
from impact_aggregator.store import ClaimLost, LogReplaced
from impact_eventlog import LogHole, Partition
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import EVENTS, HOUR, NOON, TEXT, Clock, visit
from tests.aggregator.pipeline import Pipeline, pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from impact_schemas.catalog import Catalog


@pytest.fixture
async def one(database_url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    async with pipeline(database_url, catalog, clock) as made:
        yield made


@pytest.fixture
async def other(one: Pipeline, database_url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    """A second aggregator on the same database."""
    assert one.engine is not None  # made first: it migrates
    async with pipeline(database_url, catalog, clock, "other") as made:
        yield made


EVERYTHING = (
    "SELECT product, received, counted, duplicates, quarantined FROM ledger",
    "SELECT topic, partition, next_offset FROM log_positions",
    "SELECT metric, resolution, bucket_start, segment, count, sum, mean, min, max, value FROM metric_buckets"
    " ORDER BY metric, resolution, bucket_start, segment",
)


async def everything(one: Pipeline) -> list[list[tuple[Any, ...]]]:
    return [await one.rows(sql) for sql in EVERYTHING]


async def test_a_batch_shows_in_buckets_ledger_and_positions(one: Pipeline) -> None:
    await one.count(
        [
            visit("a", language="es", minutes=2),
            visit("b", language="en", minutes=3),
            visit("a", language="es", minutes=2),
        ]
    )
    ledger, positions, _ = await everything(one)
    assert ledger == [("clinic", 3, 2, 1, 0)]
    assert positions == [(EVENTS, 0, 1)]
    rows = await one.rows(
        "SELECT count, sum, mean, min, max, value FROM metric_buckets"
        " WHERE metric = 'minutes' AND resolution = '1d' AND segment = '{}'"
    )
    assert [tuple(map(float, row)) for row in rows] == [(2, 5, 2.5, 2, 3, 5)]


async def test_batches_add_up_with_and_without_the_cache(
    one: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (store_module.CACHE_BYTES, 0):
        monkeypatch.setattr(one.store._cache, "_half_bytes", size)
        for n in range(5):
            await one.count([visit(f"{size}-{n}", NOON + n, f"p{n}", language="es", minutes=n)])
        one.store.forget()
    values = {
        metric: float(value)
        for metric, value in await one.rows(
            "SELECT metric, value FROM metric_buckets WHERE resolution = '1h' AND segment = :segment",
            segment='{"language":"es"}',
        )
    }
    assert values == {
        "visits": 10,
        "patients": 5,
        "minutes": 20,
        "mean_minutes": 2,
        "least": 0,
        "longest": 4,
        "last": 4,
        "median": pytest.approx(2, rel=0.01),
    }


async def test_what_was_counted_is_known_by_its_digest(one: Pipeline) -> None:
    event = visit("a", minutes=1)
    await one.count([event])
    assert await one.store.known_identities([event.identity, b"x" * 16]) == {
        event.identity: Known(event.digest, 0, 0, 0)
    }


async def test_a_zombie_changes_nothing(one: Pipeline, other: Pipeline) -> None:
    await one.count([visit("a")])
    stale = await one.batch([visit("b", minutes=9)])
    await other.claim()
    before = await everything(one)
    with pytest.raises(ClaimLost):
        await one.store.commit([stale], one.rules, one.active.generation)
    assert await everything(one) == before
    await other.count([visit("b", minutes=9)])
    assert (await everything(one))[0] == [("clinic", 2, 2, 0, 0)]


async def test_a_takeover_goes_on_from_what_was_committed(one: Pipeline, other: Pipeline) -> None:
    await one.count([visit("a", minutes=1)])
    await one.count([visit("b", minutes=2)])
    claim = await other.claim()
    assert (claim.epoch, claim.next_offset) == (2, 2)
    await other.count([visit("c", minutes=4)])
    back = await one.claim()
    assert back.next_offset == 3
    await one.count([visit("d", minutes=8)])
    (row,) = await one.rows(
        "SELECT sum FROM metric_buckets WHERE metric = 'minutes' AND resolution = '1d' AND segment = '{}'"
    )
    assert float(row[0]) == 15


async def test_an_offset_that_is_not_expected_is_refused(one: Pipeline) -> None:
    await one.claim()
    batch = await one.batch([visit("a")])
    await one.store.commit([batch], one.rules, one.active.generation)
    before = await everything(one)
    with pytest.raises(ClaimLost):  # the same batch again, as if the answer of COMMIT had been lost
        await one.store.commit([batch], one.rules, one.active.generation)
    assert await everything(one) == before


async def test_another_catalog_stops_the_commit(one: Pipeline, database_url: str, clock: Clock) -> None:
    await one.claim()
    batch = await one.batch([visit("a")])
    changed = parse_catalog(TEXT.replace("Clinic", "Clinics"), "clinic.yaml")
    async with pipeline(database_url, changed, clock, "other"):
        with pytest.raises(ClaimLost):
            await one.store.commit([batch], one.rules, one.active.generation)


async def test_a_failure_in_mid_transaction_leaves_no_trace(
    one: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.count([visit("a", minutes=1)])
    before = await everything(one)
    batch = await one.batch([visit("b", minutes=2)])

    async def fail(*_: object) -> None:
        raise ConnectionError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(one.store, "_write_buckets", fail)
        with pytest.raises(ConnectionError):
            await one.store.commit([batch], one.rules, one.active.generation)
    assert await everything(one) == before
    one.claims.clear()
    await one.count([visit("b", minutes=2)])
    assert (await everything(one))[0] == [("clinic", 2, 2, 0, 0)]


async def test_a_lost_answer_of_commit_counts_once(one: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    await one.claim()
    batch = await one.batch([visit("a", minutes=1)])
    dialect = one.engine.sync_engine.dialect
    commit = dialect.do_commit

    def commit_and_cut(connection: Any) -> None:
        commit(connection)
        raise ConnectionError("the answer is lost")

    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_commit", commit_and_cut)
        with pytest.raises(ConnectionError):
            await one.store.commit([batch], one.rules, one.active.generation)
    claim = await one.claim()
    assert claim.next_offset == 1  # the claim says what is true: it was committed
    assert (await everything(one))[0] == [("clinic", 1, 1, 0, 0)]


async def test_another_log_is_refused(one: Pipeline) -> None:
    await one.claim()
    with pytest.raises(LogReplaced, match="log-2"):
        await one.store.claim(Partition(EVENTS, 0), "log-2")


async def test_a_hole_is_written_down_and_passed(one: Pipeline) -> None:
    claim = await one.claim()
    await one.store.skip_hole(claim, LogHole(claim.partition, 0, 6, "corrupt"), one.active.generation)
    assert await one.rows("SELECT topic, partition, first_offset, last_offset, reason FROM log_holes") == [
        (EVENTS, 0, 0, 6, "corrupt")
    ]
    assert (await one.claim()).next_offset == 7
    with pytest.raises(ClaimLost):
        await one.store.skip_hole(Claim(claim.partition, 1, 0), LogHole(claim.partition, 0, 9, "x"), 1)


async def test_quarantined_events_show_with_their_reason(one: Pipeline) -> None:
    await one.count([visit("a", minutes=1), visit("a", minutes=2)])
    rows = await one.rows(
        "SELECT product, code, event_id, event_source, event_type, payload FROM quarantined_events"
    )
    assert [row[:5] for row in rows] == [("clinic", "id_conflict", "a", "/clinic", "clinic.visit.v1")]
    assert '"id":"a"' in rows[0][5]


async def test_the_same_events_give_the_same_rows_over_any_partitions_and_aggregators(
    one: Pipeline, other: Pipeline
) -> None:
    """Unique and percentile included: their shards are merged, never added."""
    events = [
        visit(f"e{n}", NOON - n * HOUR, f"p{n % 7}", language=["es", "en"][n % 2], kept=n % 3 == 0, minutes=n)
        for n in range(40)
    ]
    for n in range(4):
        await [one, other][n % 2].count(events[n::4], partition=n)
    assert await one.rolling.tick()
    rows = await one.rows(
        "SELECT metric, segment, SUM(count), SUM(value), MIN(min), MAX(max) FROM metric_buckets"
        " WHERE resolution = '1d' AND metric IN ('visits', 'minutes') GROUP BY metric, segment"
    )
    by_name = {(metric, segment): tuple(map(float, rest[:2])) for metric, segment, *rest in rows}
    assert by_name["visits", "{}"] == (40, 40)
    assert by_name["minutes", "{}"] == (40, sum(range(40)))
    assert (await one.rolling_values("patients", "all"))["{}"] == (7, 40, "ok")
    assert (await one.rolling_values("last", "all"))["{}"] == (0, 40, "ok")
    days = await one.rows(
        "SELECT bucket_start, value FROM metric_buckets WHERE metric = 'patients' AND resolution = '1d'"
        " AND segment = '{}' ORDER BY bucket_start"
    )
    assert [float(value) for _, value in days] == [3, 7, 7]


async def test_a_percentile_can_be_had_in_plain_sql(one: Pipeline) -> None:
    values = [-5, 0, 1, 2, 3, 50, 100, 200, 1000]
    for partition, part in enumerate((values[::2], values[1::2])):
        await one.count([visit(f"e{value}", minutes=value) for value in part], partition=partition)
    rows = await one.rows(
        "SELECT value FROM (SELECT value, SUM(SUM(count)) OVER (ORDER BY value) AS rank,"
        " SUM(SUM(count)) OVER () AS n"
        " FROM metric_distributions WHERE metric = 'median' AND resolution = '1d' AND segment = '{}'"
        " GROUP BY value) AS ranked WHERE rank >= 0.5 * n ORDER BY value LIMIT 1"
    )
    assert [float(value) for (value,) in rows] == [pytest.approx(3, rel=0.01)]
