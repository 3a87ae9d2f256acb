"""The audit attacks what is published: it holds, and what does not hold is found."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_aggregator.protection import suppression
from impact_aggregator.protection.audit import Audit, audit
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import Clock
from tests.aggregator.pipeline import Pipeline, pipeline
from tests.protection.test_publication import MONDAY, TEXT, WEEK, people, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def three_weeks(url: str) -> AsyncIterator[Pipeline]:
    """Visits in three languages, of which one is of few in two of the weeks."""
    clock = Clock(MONDAY + WEEK)
    async with pipeline(url, parse_catalog(TEXT, "clinic.yaml"), clock) as made:
        for week, counts in enumerate([(1, 9, 7), (5, 9, 1), (4, 4, 4)]):
            at = MONDAY - week * WEEK
            for number, (language, count) in enumerate(zip(("es", "en", "fr"), counts, strict=True)):
                await made.count(people(count, at, 100 * number, language=language, region="n", kept=False))
                await made.count(people(count, at, 100 * number + 50, language=language, kept=True))
        await settle(made, clock)
        yield made


@pytest.fixture
async def one(sqlite_url: str) -> AsyncIterator[Pipeline]:
    async with three_weeks(sqlite_url) as made:
        yield made


async def test_what_is_published_gives_no_hidden_cell_away(database_url: str) -> None:
    async with three_weeks(database_url) as one:
        found = await audit(one.engine)
    assert (found.metrics, found.exposures) == (5, [])
    assert found.blocks == 3 * 4
    assert found.hidden > 0
    assert found.open_parts == ["clinic missed"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("UPDATE block_cell SET is_hidden = FALSE WHERE series_id IN ({en})", "1w"),
        ("UPDATE rolling_value SET n = n + 2 WHERE time_window = 'all' AND series_id IN ({total})", "all"),
        ("UPDATE period_value SET n = n + 2 WHERE series_id IN ({total})", "month"),
    ],
)
async def test_what_gives_a_hidden_cell_away_is_found(one: Pipeline, change: str, place: str) -> None:
    of_visits = "SELECT series_id FROM series WHERE metric = 'visits' AND segment"
    if place != "1w":  # of the total no block is hidden: one is made so
        await _change(
            one, f"UPDATE block_cell SET is_hidden = TRUE WHERE series_id IN ({of_visits} = '{{}}')"
        )
    statement = change.format(en=f"{of_visits} LIKE '%fr%'", total=f"{of_visits} = '{{}}'")
    await _change(one, statement)
    assert place in _places(await audit(one.engine))


async def _change(one: Pipeline, statement: str) -> None:
    async with one.engine.begin() as connection:
        await connection.exec_driver_sql(statement)


async def test_a_numerator_that_follows_from_a_shown_ratio_is_found(one: Pipeline) -> None:
    # of the week only the rate of one group is hidden: its numerator is what the others leave of the total's
    for language, n in (("en", 18), ("fr", 14)):
        series = f"SELECT series_id FROM series WHERE metric = 'missed_rate' AND segment LIKE '%{language}%'"
        await _change(
            one,
            f"UPDATE rolling_value SET status = 'ok', n = {n}, value = '0.5', hidden_blocks = 0"
            f" WHERE time_window = '7d' AND series_id IN ({series})",
        )
    found = await audit(one.engine)
    assert {(exposure.metric, exposure.place, exposure.segment) for exposure in found.exposures} == {
        ("missed_rate", "7d", '{"language":"es"}')
    }


def _places(found: Audit) -> set[str]:
    return {exposure.place for exposure in found.exposures if exposure.metric == "visits"}


LANGUAGES = st.sampled_from(["es", "en", "fr", "de"])
WEEKS = st.lists(
    st.lists(
        st.tuples(st.integers(0, 12), LANGUAGES, st.sampled_from(["n", "s"]), st.booleans()), max_size=40
    ),
    min_size=1,
    max_size=3,
)
Weeks = list[list[tuple[int, str, str, bool]]]


@settings(max_examples=6, deadline=None)  # each is a database, counted and ticked
@given(weeks=WEEKS)
def test_neither_a_cell_nor_a_difference_of_windows_gives_anybody_away(weeks: Weeks) -> None:
    assert asyncio.run(_published_and_attacked(weeks)).exposures == []


def test_the_same_attack_succeeds_without_complementary_suppression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppression._Suppression, "run", lambda self: self._hidden)
    week = [(n, "es" if n < 2 else "en", "n", True) for n in range(9)]
    assert _places(asyncio.run(_published_and_attacked([week]))) == {"1w"}


async def _published_and_attacked(weeks: Weeks) -> Audit:
    clock = Clock(MONDAY + WEEK)
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/metrics.db"
        async with pipeline(url, parse_catalog(TEXT, "clinic.yaml"), clock) as made:
            for number, week in enumerate(weeks):
                at = MONDAY - number * WEEK
                events = [
                    event
                    for person, language, region, kept in week
                    for event in people(1, at, person, language=language, region=region, kept=kept)
                ]
                await made.count(events)
            await settle(made, clock)
            clock.now += WEEK  # the windows move on
            await settle(made, clock)
            return await audit(made.engine)
