"""A rebuild gives what live counting gives; killed anywhere, old or new is served, never a mix."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator import rebuild as module
from impact_aggregator.active import activate
from impact_aggregator.rebuild import CannotRebuild, Rebuild
from impact_aggregator.recount import History
from impact_aggregator.store import ClaimLost, Store
from impact_aggregator.windows import DAY
from impact_eventlog import LogHole
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import EVENTS, NOON, TEXT, Clock, correction, identities, retraction, visit
from tests.aggregator.pipeline import ListReader, Pipeline, pipeline
from tests.aggregator.test_amendments import numbers, story

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from impact_schemas.catalog import Catalog


@pytest.fixture
async def one(database_url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    async with pipeline(database_url, catalog, clock) as made:
        yield made


def rebuild(one: Pipeline, catalog: Catalog | None = None) -> Rebuild:
    return Rebuild(
        engine=one.engine,
        store=Store(one.engine, one.clock, "rebuild"),
        history=History(ListReader(one.log)),
        identities=identities,
        catalogs=one.catalogs if catalog is None else {catalog.product: catalog},
        events_topic=EVENTS,
        clock=one.clock,
    )


async def take_up(one: Pipeline, catalog: Catalog) -> None:
    """As the runner does when the catalog or the generation has changed."""
    one.catalogs = {catalog.product: catalog}
    one.use(await activate(one.engine, one.catalogs, one.clock()))


CHANGED = TEXT.replace(
    "aggregate: sum, of: data.minutes", "aggregate: sum, of: data.minutes, where: {data.kept: false}"
)


@pytest.mark.parametrize("seed", range(6))
async def test_a_rebuild_gives_the_tables_of_live_counting(
    sqlite_url: str, catalog: Catalog, clock: Clock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 4)
    stream, _ = story(seed)
    source = random.Random(seed)
    async with pipeline(sqlite_url, catalog, clock) as one:
        while stream:
            size = source.randint(1, 6)
            await one.count(stream[:size], partition=0)
            stream = stream[size:]
        before = await numbers(one)
        ledger = await one.rows("SELECT * FROM ledger")
        done = await rebuild(one).run()
        assert set(done.versions.values()) == {2}
        assert done.revised == 0
        await take_up(one, catalog)
        assert await numbers(one) == before
        assert await one.rows("SELECT * FROM ledger") == ledger


async def test_a_metric_that_no_event_matched_is_still_shown(one: Pipeline, catalog: Catalog) -> None:
    await one.count([visit("a", kept=True)])
    await one.rolling.tick()
    before = await one.rolling_values("missed", "all")
    await rebuild(one).run()
    await take_up(one, catalog)
    await one.rolling.tick()
    assert await one.rolling_values("missed", "all") == before == {"{}": (0, 0, "ok")}


async def test_a_changed_metric_gets_its_history_back(one: Pipeline) -> None:
    await one.count([visit("a", minutes=5, kept=False), visit("b", minutes=7, kept=True)])
    await one.count([visit("c", minutes=9, kept=True), correction("x", "a", minutes=6, kept=False)])
    changed = parse_catalog(CHANGED, "clinic.yaml")
    await take_up(one, changed)
    await one.count([visit("d", minutes=100, kept=False)])
    await one.rolling.tick()
    assert (await one.rolling_values("minutes", "all"))["{}"] == (100, 1, "ok")
    done = await rebuild(one).run(lambda _product, metric: metric == "minutes")
    assert done.versions == {("clinic", "minutes"): 3}
    await take_up(one, changed)
    await one.rolling.tick()
    assert (await one.rolling_values("minutes", "all"))["{}"] == (106, 2, "ok")
    assert (await one.rolling_values("visits", "all"))["{}"] == (4, 4, "ok")
    await one.count([visit("e", minutes=1, kept=False), retraction("r", "a")])
    await one.rolling.tick()
    assert (await one.rolling_values("minutes", "all"))["{}"] == (101, 2, "ok")
    revisions = await one.rows(
        "SELECT old_value, new_value FROM metric_revisions"
        " WHERE metric = 'minutes' AND segment = '{}' AND reason = 'rebuild'"
    )
    assert [tuple(map(float, row)) for row in revisions] == [(100, 106)]


async def test_live_counting_goes_on_and_is_not_lost(
    one: Pipeline, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under steady load it is level at no moment: the last stretch is counted within the swap."""
    await one.count([visit("a", minutes=5)])
    running = rebuild(one)
    swap, late = running._swap, [visit("b", minutes=7), retraction("r", "a")]

    async def interrupted(*arguments: Any) -> int:
        await one.count([late.pop(0)])
        await one.count([late.pop(0)])
        return await swap(*arguments)

    monkeypatch.setattr(running, "_swap", interrupted)
    done = await running.run()
    assert done.records == 3
    await take_up(one, catalog)
    await one.rolling.tick()
    assert (await one.rolling_values("minutes", "all"))["{}"] == (7, 1, "ok")
    assert await one.rows("SELECT topic FROM log_positions") == [(EVENTS,)]


async def test_a_commit_under_the_old_versions_fails_after_the_swap(one: Pipeline, catalog: Catalog) -> None:
    await one.count([visit("a", minutes=5)])
    batch = await one.batch([visit("b", minutes=7)])
    one.log.pop()
    await rebuild(one).run()
    with pytest.raises(ClaimLost):
        await one.store.commit([batch], one.rules, one.active.generation)
    await take_up(one, catalog)
    await one.claim()
    await one.count([visit("b", minutes=7)])
    await one.rolling.tick()
    assert (await one.rolling_values("minutes", "all"))["{}"] == (12, 2, "ok")


@pytest.mark.parametrize("point", ["_count", "_swap", "_activate"])
async def test_killed_anywhere_the_old_numbers_are_served_and_a_new_rebuild_works(
    one: Pipeline, catalog: Catalog, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.count([visit("a", minutes=5)])
    await one.count([visit("b", minutes=7)])
    before = await numbers(one)
    running = rebuild(one)

    async def die(*_: Any) -> None:
        raise KeyboardInterrupt

    owner = module._Counting if point == "_count" else running
    with monkeypatch.context() as patched:
        patched.setattr(owner, point, die)
        with pytest.raises(KeyboardInterrupt):
            await running.run()
    assert await numbers(one) == before
    await one.count([visit("c", minutes=9)])
    await rebuild(one).run()
    await take_up(one, catalog)
    await one.rolling.tick()
    assert (await one.rolling_values("minutes", "all"))["{}"] == (21, 3, "ok")
    assert await one.rows("SELECT DISTINCT version FROM metrics WHERE metric = 'visits'") == [(2,)]
    assert await one.rows("SELECT COUNT(*) FROM log_positions") == [(1,)]


async def test_history_and_revisions_outlive_the_versions_that_they_speak_of(
    one: Pipeline, catalog: Catalog, clock: Clock
) -> None:
    await one.count([visit("a", minutes=5), visit("b", minutes=7)])
    await one.rolling.tick()
    clock.now += DAY
    await one.rolling.tick()
    await one.count([retraction("r", "a", time=clock.now)])
    history, revisions = "SELECT COUNT(*) FROM rolling_history", "SELECT COUNT(*) FROM metric_revisions"
    before = [await one.rows(history), await one.rows(revisions)]
    assert before[0] > [(0,)]
    assert before[1] > [(0,)]
    for _ in range(3):
        await rebuild(one).run()
        await take_up(one, catalog)
        await one.rolling.tick()
    assert [await one.rows(history), await one.rows(revisions)] == before


async def test_a_rebuild_needs_the_active_catalog(one: Pipeline) -> None:
    changed = parse_catalog(CHANGED, "clinic.yaml")
    with pytest.raises(CannotRebuild, match="not the active ones"):
        await rebuild(one, changed).run()


async def test_a_log_that_begins_after_zero_is_refused(one: Pipeline) -> None:
    await one.count([visit("a", NOON)])
    await one.count([visit("b", NOON)])
    del one.log[0]
    with pytest.raises(LogHole, match="0 to 0"):
        await rebuild(one).run()
