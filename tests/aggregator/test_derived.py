"""Sums and differences of metrics, and ratios of them: made of what was counted, in every segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from impact_aggregator.windows import DAY
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import NOON, Clock, retraction, visit
from tests.aggregator.pipeline import Pipeline, pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_EVENT = "event: clinic.visit.v1, role: impact, windows: [28d, all]"
_SPLIT = "dimensions: {language: data.language}"
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
        fuel: {{type: number}}
        power: {{type: number}}
        language: {{type: string}}
        city: {{type: string}}
  clinic.empty.v1: {{data: {{type: object, properties: {{kg: {{type: number}}}}}}}}
metrics:
  fuel: {{title: Fuel, {_EVENT}, aggregate: sum, of: data.fuel, unit: kg, {_SPLIT}}}
  power: {{title: Power, {_EVENT}, aggregate: sum, of: data.power, unit: "kg{{CO2e}}",
    dimensions: {{language: data.language, city: data.city}}}}
  visits: {{title: Visits, {_EVENT}, aggregate: count, {_SPLIT}}}
  never: {{title: Never, event: clinic.empty.v1, role: impact, aggregate: sum, of: data.kg, unit: kg}}
  ghg: {{title: GHG, sum_of: [fuel, power], unit: kg, role: guardrail, windows: [28d, all]}}
  more: {{title: More, difference: {{of: fuel, minus: power}}, unit: kg, role: impact, windows: [all]}}
  per_visit: {{title: Each, ratio: {{numerator: ghg, denominator: visits}}, role: impact, windows: [all]}}
  balance: {{title: Balance, ratio: {{numerator: more, denominator: ghg}}, role: impact, windows: [all]}}
  half_known: {{title: Half, sum_of: [fuel, never], unit: kg, role: impact, windows: [all]}}
""".replace(
    "clinic.empty.v1: {}", "clinic.empty.v1: {data: {type: object, properties: {kg: {type: number}}}}"
)


@pytest.fixture
async def one(database_url: str, clock: Clock) -> AsyncIterator[Pipeline]:
    async with pipeline(database_url, parse_catalog(TEXT, "clinic.yaml"), clock) as made:
        yield made


async def test_they_are_worked_out_of_their_parts_in_every_segment_that_all_have(one: Pipeline) -> None:
    await one.count([visit("a", language="es", fuel=3, city="x"), visit("b", language="es", power=0.5)])
    await one.count([visit("c", NOON - 40 * DAY, language="en", power=8)], partition=1)
    await one.rolling.tick()
    assert await one.rolling_values("ghg", "all") == {
        "{}": (11.5, 3, "ok"),
        '{"language":"es"}': (3.5, 2, "ok"),
        '{"language":"en"}': (8, 1, "ok"),
    }
    assert (await one.rolling_values("ghg", "28d"))["{}"] == (3.5, 2, "ok")
    assert (await one.rolling_values("more", "all"))['{"language":"es"}'] == (2.5, 2, "ok")
    assert (await one.rolling_values("more", "all"))["{}"] == (-5.5, 3, "ok")
    assert (await one.rolling_values("per_visit", "all"))["{}"] == (3.833333333, 3, "ok")
    assert (await one.rolling_values("balance", "all"))['{"language":"es"}'] == (0.714285714, 2, "ok")


async def test_what_one_part_does_not_know_the_sum_does_not_know(one: Pipeline) -> None:
    await one.count([visit("a", fuel=3)])
    await one.rolling.tick()
    assert (await one.rolling_values("fuel", "all"))["{}"] == (3, 1, "ok")
    assert await one.rolling_values("half_known", "all") == {"{}": (None, 1, "no_data")}


async def test_they_follow_their_parts_back(one: Pipeline) -> None:
    await one.count([visit("a", language="es", fuel=3), visit("b", language="es", power=1)])
    await one.rolling.tick()
    await one.count([retraction("r", "a")])
    await one.rolling.tick()
    assert (await one.rolling_values("ghg", "all"))['{"language":"es"}'] == (1, 1, "ok")
    (row,) = await one.rows(
        "SELECT value, n FROM period_metrics WHERE metric = 'ghg' AND period = 'year' AND segment = '{}'"
    )
    assert tuple(map(float, row)) == (1, 1)
