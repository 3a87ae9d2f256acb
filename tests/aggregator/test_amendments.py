"""Retractions and corrections: the numbers are as if what was taken back had never been sent."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator.windows import DAY
from tests.aggregator.conftest import HOUR, NOON, Clock, correction, retraction, visit
from tests.aggregator.pipeline import Pipeline, pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from impact_aggregator.events import Event
    from impact_schemas.catalog import Catalog

NUMBERS = (
    "SELECT metric, resolution, bucket_start, segment, count, sum, mean, min, max, value FROM metric_buckets"
    " ORDER BY metric, resolution, bucket_start, segment",
    "SELECT metric, time_window, segment, value, n, status FROM rolling_metrics"
    " ORDER BY metric, time_window, segment",
    "SELECT metric, period, starts_at, segment, value, n, status FROM period_metrics"
    " ORDER BY metric, period, starts_at, segment",
)


async def numbers(one: Pipeline) -> list[list[tuple[Any, ...]]]:
    assert await one.rolling.tick()
    return [await one.rows(sql) for sql in NUMBERS]


@pytest.fixture
async def one(database_url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    async with pipeline(database_url, catalog, clock) as made:
        yield made


async def numbers_of(events: list[Event], folder: Path, catalog: Catalog, clock: Clock) -> Any:
    """What the tables say when just these events are sent."""
    async with pipeline(f"sqlite:///{folder / 'plain.db'}", catalog, clock) as plain:
        await plain.count(events)
        return [[_floats(row) for row in rows] for rows in await numbers(plain)]


def _floats(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Comparable on both databases: moments as text, numbers as doubles."""
    return tuple(
        str(field)[:19] if hasattr(field, "year") else float(field) if hasattr(field, "quantize") else field
        for field in row
    )


async def same_as(one: Pipeline, events: list[Event], folder: Path, catalog: Catalog, clock: Clock) -> None:
    found = [[_floats(row) for row in rows] for rows in await numbers(one)]
    for mine, plain in zip(found, await numbers_of(events, folder, catalog, clock), strict=True):
        assert mine == plain


A = visit("a", NOON, "p1", language="es", minutes=5, kept=False)
B = visit("b", NOON + HOUR // 2, "p2", language="en", minutes=50)
C = visit("c", NOON - DAY, "p3", language="es", minutes=7)


@pytest.mark.parametrize("order", ["ABCr", "rABC", "A r BC", "r A BC", "A B C r r", "BC A r"])
async def test_a_retracted_event_is_as_if_never_sent(
    one: Pipeline, order: str, tmp_path: Path, catalog: Catalog, clock: Clock
) -> None:
    events = {"A": A, "B": B, "C": C, "r": retraction("r1", of="a")}
    for batch in order.split(" "):
        await one.count([events[letter] for letter in batch])
    await same_as(one, [B, C], tmp_path, catalog, clock)
    ((received, counted, duplicates, quarantined),) = await one.rows(
        "SELECT received, counted, duplicates, quarantined FROM ledger"
    )
    assert (received, counted, quarantined) == (received, 4, 0)
    assert received == counted + duplicates


@pytest.mark.parametrize("order", ["ABC x y", "x y ABC", "A y BC x", "ABCxy", "y A x BC", "yxABC"])
async def test_the_latest_correction_holds_whatever_the_order(
    one: Pipeline, order: str, tmp_path: Path, catalog: Catalog, clock: Clock
) -> None:
    early = correction("x", "a", NOON + 1, language="en", minutes=1)
    late = correction("y", "a", NOON + 2, language="fr", minutes=2, kept=True)
    events = {"A": A, "B": B, "C": C, "x": early, "y": late}
    for batch in order.split(" "):
        await one.count([events[letter] for letter in batch])
    corrected = visit("a", NOON, "p1", language="fr", minutes=2, kept=True)
    await same_as(one, [corrected, B, C], tmp_path, catalog, clock)


@pytest.mark.parametrize("order", ["A x r", "r x A", "x A r", "A r x"])
async def test_a_retraction_is_for_good(
    one: Pipeline, order: str, tmp_path: Path, catalog: Catalog, clock: Clock
) -> None:
    events = {"A": A, "x": correction("x", "a", NOON + 9, minutes=1), "r": retraction("r", "a")}
    await one.count([B])
    for letter in order.split(" "):
        await one.count([events[letter]])
    await one.count([A])  # a resend of what was taken back is a duplicate
    await same_as(one, [B], tmp_path, catalog, clock)


@pytest.mark.parametrize("order", ["A x", "x A", "xA", "A xy", "y x A", "A y x"])
async def test_a_correction_that_does_not_fit_the_schema_is_quarantined_and_a_fitting_one_holds(
    one: Pipeline, order: str, tmp_path: Path, catalog: Catalog, clock: Clock
) -> None:
    bad, good = correction("x", "a", NOON + 2, minutes="many"), correction("y", "a", NOON + 1, minutes=3)
    events = {"A": A, "x": bad, "y": good}
    for batch in order.split(" "):
        await one.count([events[letter] for letter in batch])
    expected = visit("a", NOON, "p1", minutes=3) if "y" in order else A
    await same_as(one, [expected], tmp_path, catalog, clock)
    rows = await one.rows("SELECT code, event_id, detail FROM quarantined_events")
    assert [row[:2] for row in rows] == [("schema_violation", "x")]
    assert "/data/minutes" in rows[0][2]
    assert await one.rows("SELECT counted, quarantined FROM ledger") == [(2 if "y" in order else 1, 1)]


async def test_an_amendment_of_an_amendment_is_refused(one: Pipeline) -> None:
    first = retraction("r1", of="a")
    await one.count([A, first])
    await one.count([retraction("r2", of="r1")])
    assert await one.rows("SELECT code, event_id FROM quarantined_events") == [("unknown_target", "r2")]


async def test_revisions_say_what_was_reported_and_what_is_known(one: Pipeline, clock: Clock) -> None:
    await one.count([A, B])
    clock.now += HOUR
    await one.count([retraction("r1", of="a")])
    rows = await one.rows(
        "SELECT old_value, new_value, reason, caused_by FROM metric_revisions"
        " WHERE metric = 'minutes' AND segment = '{}'"
    )
    assert [(float(old), float(new), why, by) for old, new, why, by in rows] == [(55, 50, "retraction", "r1")]


async def test_late_events_write_one_revision_a_bucket_and_day_of_arrival(
    one: Pipeline, clock: Clock
) -> None:
    await one.count([A])
    await one.count([B])
    assert await one.rows("SELECT COUNT(*) FROM metric_revisions") == [(0,)]
    for days, minutes in ((1, 10), (1, 20), (2, 40)):
        clock.now = NOON + days * DAY
        late = visit(f"late-{minutes}", NOON, received_at=clock.now, minutes=minutes)
        await one.count([late])
    rows = await one.rows(
        "SELECT old_value, new_value, reason FROM metric_revisions"
        " WHERE metric = 'minutes' AND segment = '{}' ORDER BY reported_at"
    )
    assert [(float(old), float(new), why) for old, new, why in rows] == [(55, 85, "late"), (85, 125, "late")]


def story(seed: int) -> tuple[list[Event], list[Event]]:
    """Random events and amendments in any order, and the events that should count."""
    source = random.Random(seed)
    languages, stream = ["es", "en", None], []
    plain: dict[str, dict[str, Any]] = {}
    for n in range(14):
        time = NOON - source.randrange(4) * DAY - source.randrange(10) * HOUR
        fields = {"language": source.choice(languages), "minutes": source.randrange(60)}
        plain[f"e{n}"] = {"time": time, "subject": f"p{n % 4}", "received_at": NOON, **fields}
        stream.append(visit(f"e{n}", **plain[f"e{n}"]))
    for n in range(8):
        target = f"e{source.randrange(16)}"  # two that never come
        if source.random() < 0.4:
            stream.append(retraction(f"r{n}", target))
            plain.pop(target, None)
        else:
            data = {"language": source.choice(languages[:2]), "minutes": source.randrange(60), "kept": False}
            stream.append(correction(f"x{n}", target, NOON + n, **data))
            if target in plain:
                kept = {name: plain[target][name] for name in ("time", "subject", "received_at")}
                plain[target] = {**kept, **data}
    stream += source.sample(stream, 5)  # copies
    source.shuffle(stream)
    return stream, [visit(name, **fields) for name, fields in plain.items()]


@pytest.mark.parametrize("seed", range(12))
async def test_any_interleaving_over_two_aggregators_gives_the_tables_of_what_counts(
    sqlite_url: str, tmp_path: Path, catalog: Catalog, clock: Clock, seed: int
) -> None:
    stream, counts = story(seed)
    source, log = random.Random(seed), list[Any]()
    async with (
        pipeline(sqlite_url, catalog, clock, "one", log) as one,
        pipeline(sqlite_url, catalog, clock, "two", log) as two,
    ):
        while stream:
            size = source.randint(1, 6)
            batch, stream = stream[:size], stream[size:]
            worker = source.choice([one, two])
            await worker.claim()  # taken over from the other
            await worker.count(batch)
            if source.random() < 0.3:
                await one.rolling.tick()
        await same_as(one, counts, tmp_path, catalog, clock)
