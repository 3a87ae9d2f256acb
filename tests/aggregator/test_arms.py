"""Arms of experiments: counted apart with exact sums of squares, and never shown as segments."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from impact_aggregator.exporter import BusinessGauges
from impact_aggregator.windows import DAY
from impact_schemas import numbers
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import NOON, Clock, retraction, visit
from tests.aggregator.pipeline import Pipeline, pipeline
from tests.aggregator.test_rebuild import rebuild, take_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from impact_schemas.catalog import Catalog

_EVENT = "event: clinic.visit.v1, role: impact, dimensions: {language: data.language}"
_ARMS = "experiment: {arm: data.arm, control: none}"
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
        kept: {{type: boolean}}
        minutes: {{type: number}}
        arm: {{enum: [none, reminder]}}
metrics:
  visits: {{title: Visits, {_EVENT}, aggregate: count}}
  missed: {{title: Missed, {_EVENT}, where: {{data.kept: false}}, aggregate: count}}
  minutes: {{title: Minutes, {_EVENT}, aggregate: sum, of: data.minutes}}
  change: {{title: Change, {_EVENT}, aggregate: mean, of: data.minutes, {_ARMS}}}
  no_show_rate:
    title: No-show rate
    ratio: {{numerator: missed, denominator: visits}}
    role: impact
    {_ARMS}
"""
SQUARES = (
    "SELECT b.sum_squares, b.count, b.shard FROM bucket b JOIN series s ON s.series_id = b.series_id"
    " JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version"
    " WHERE m.active AND s.metric = :m AND s.segment = :s AND b.resolution = 'all' ORDER BY b.shard"
)


@pytest.fixture(scope="module")
def trial() -> Catalog:
    return parse_catalog(TEXT, "clinic.yaml")


@pytest.fixture
async def one(database_url: str, trial: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    async with pipeline(database_url, trial, clock) as made:
        yield made


async def squares(one: Pipeline, metric: str, segment: str) -> list[tuple[Fraction | None, int]]:
    rows = await one.rows(SQUARES, m=metric, s=segment)
    return [(None if value is None else Fraction(Decimal(value)), count) for value, count, _ in rows]


def arms(one: Pipeline, metric: str) -> dict[str, tuple[int | None, int | None]]:
    """Segment to (nanos, n) of the arms' series, over all time."""
    return {
        point.series.segment: (point.reading.value, point.reading.n)
        for point in one.rolling.points
        if point.series.metric == metric and point.window == "all" and "@arm" in point.series.segment
    }


STORY = [
    visit("a", arm="none", language="es", kept=False, minutes=0.1),
    visit("b", arm="none", language="en", kept=True, minutes=20),
    visit("c", arm="reminder", language="es", kept=True, minutes=7.000000001),
    visit("d", NOON - 3 * DAY, arm="reminder", language="es", kept=True, minutes=-999_999_999_999_999),
    visit("e", language="en", kept=True),
]


async def test_a_rate_and_a_mean_are_known_for_each_arm_in_the_total_and_in_each_group(one: Pipeline) -> None:
    await one.count(STORY)
    await one.rolling.tick()
    one_half = numbers.ONE // 2
    assert arms(one, "no_show_rate") == {
        '{"@arm":"none"}': (one_half, 2),
        '{"@arm":"reminder"}': (0, 2),
        '{"@arm":null}': (0, 1),
        '{"@arm":"none","language":"es"}': (numbers.ONE, 1),
        '{"@arm":"none","language":"en"}': (0, 1),
        '{"@arm":"reminder","language":"es"}': (0, 2),
        '{"@arm":null,"language":"en"}': (0, 1),
    }
    assert arms(one, "change")['{"@arm":"none"}'] == (10_050_000_000, 2)
    assert '{"@arm":null}' not in arms(one, "change")
    assert arms(one, "minutes") == {}


async def test_arms_are_in_no_view_and_in_no_gauge(one: Pipeline, trial: Catalog) -> None:
    await one.count(STORY)
    one.clock.now += DAY
    await one.rolling.tick()
    await one.count([visit("late", NOON - 3 * DAY, arm="none", language="es", kept=True, minutes=1)])
    one.clock.now += DAY
    await one.rolling.tick()
    for view in (
        "rolling_metrics",
        "rolling_history",
        "period_metrics",
        "metric_buckets",
        "metric_revisions",
    ):
        segments = {segment for (segment,) in await one.rows(f"SELECT DISTINCT segment FROM {view}")}
        assert '{"language":"es"}' in segments, view
        assert not [segment for segment in segments if "@" in segment], view
    gauges = BusinessGauges(lambda: one.rolling.points, lambda: 0)
    gauges.use({"clinic": trial})
    assert b"language" in gauges.lines()
    assert b"@" not in gauges.lines()
    assert b"arm" not in gauges.lines()


async def test_sums_of_squares_are_exact_over_batches_shards_and_what_is_taken_back(one: Pipeline) -> None:
    values = {event.event_id: Fraction(event.data["minutes"]) for event in STORY if "minutes" in event.data}
    await one.count(STORY[:2], partition=0)
    await one.count(STORY[2:], partition=0)
    await one.count([visit("f", arm="none", minutes="3.5")], partition=1)  # no number: not in the metric
    await one.count([visit("g", arm="none", minutes=2)], partition=1)
    total = sum((value**2 for value in values.values()), Fraction())
    assert await squares(one, "change", "{}") == [(total, 4), (4, 1)]
    control = values["a"] ** 2 + values["b"] ** 2
    assert await squares(one, "change", '{"@arm":"none"}') == [(control, 2), (4, 1)]
    assert await squares(one, "minutes", "{}") == [(None, 4), (None, 1)]

    await one.count([retraction("r", "d")], partition=0)
    kept = total - values["d"] ** 2
    assert await squares(one, "change", "{}") == [(kept, 3), (4, 1)]


async def test_a_rebuild_gives_the_same_sums_of_squares_and_arms(one: Pipeline, trial: Catalog) -> None:
    await one.count(STORY)
    await one.rolling.tick()
    before = await squares(one, "change", '{"@arm":"reminder"}'), arms(one, "change")
    await rebuild(one).run()
    await take_up(one, trial)
    await one.rolling.tick()
    assert (await squares(one, "change", '{"@arm":"reminder"}'), arms(one, "change")) == before
