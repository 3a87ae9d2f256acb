"""`verify` recomputes units, factors, consent, sums and differences in its own way, and finds what is wrong."""

# ruff: noqa: E501 (the catalog has one metric a line)

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.verify.counting import DAY, NOON, Counting, correction, embedded, event, retraction, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NEW_YEAR = NOON - DAY // 2
_VISIT = "event: clinic.visit.v1, role: impact, windows: [24h, 28d, all], dimensions: {haul: data.haul}"
CATALOG = f"""
apiVersion: impact/v1
product: clinic
title: Clinic
sources: ["/clinic/*"]
events:
  clinic.visit.v1:
    data:
      type: object
      properties: {{amount: {{type: number}}, unit: {{type: string}}, km: {{type: number}}, haul: {{type: string}},
        usd: {{type: number}}, score: {{type: integer}}, consent: {{type: boolean}}}}
  clinic.quiet.v1: {{data: {{type: object, properties: {{kg: {{type: number}}}}}}}}
metrics:
  waste: {{title: Waste, {_VISIT}, aggregate: sum, of: data.amount, unit: "kg{{waste}}", unit_path: data.unit}}
  mean_waste: {{title: Mean, {_VISIT}, aggregate: mean, of: data.amount, unit: t, unit_path: data.unit}}
  most_waste: {{title: Most, {_VISIT}, aggregate: max, of: data.amount, unit: "[lb_av]", unit_path: data.unit}}
  trips: {{title: Trips, {_VISIT}, aggregate: sum, of: data.km, unit: kg, factor: {{set: kg_per_km, key: data.haul}}}}
  last: {{title: Last, {_VISIT}, aggregate: latest, of: data.km, unit: kg, factor: {{set: kg_per_km, key: data.haul}}}}
  burnt: {{title: Burnt, {_VISIT}, aggregate: sum, of: data.amount, unit: kg, unit_path: data.unit, factor: plain}}
  shillings: {{title: Money, {_VISIT}, aggregate: sum, of: data.usd, unit: KES, factor: rate}}
  score: {{title: Score, {_VISIT}, aggregate: mean, of: data.score, consent: data.consent, scale: {{min: 0, max: 25, top_box: 20}}}}
  visits: {{title: Visits, {_VISIT}, aggregate: count}}
  quiet: {{title: Quiet, event: clinic.quiet.v1, role: impact, aggregate: sum, of: data.kg, unit: kg}}
  ghg: {{title: GHG, sum_of: [trips, burnt], unit: kg, role: impact, windows: [28d, all]}}
  rest: {{title: Rest, difference: {{of: waste, minus: trips}}, unit: kg, role: impact, windows: [all]}}
  known_later: {{title: Later, sum_of: [trips, quiet], unit: kg, role: impact, windows: [28d, all]}}
  each: {{title: Each, ratio: {{numerator: ghg, denominator: visits}}, role: impact, windows: [24h, all]}}
factors:
  kg_per_km:
    unit: kg/km
    editions:
      - {{version: "2024", valid_from: 2024-01-01, values: {{short: 0.15, long: 0.1111111111111}}}}
      - {{version: "2026", valid_from: 2026-01-01, values: {{short: 0.14, long: 0.11}}}}
  plain: {{unit: "kg{{CO2e}}/kg", editions: [{{version: one, valid_from: 2000-01-01, value: 3}}]}}
  rate: {{unit: KES/USD, editions: [{{version: one, valid_from: 2000-01-01, value: 129.35}}]}}
"""


@pytest.fixture
async def counting(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Counting]:
    async with embedded(tmp_path, sqlite_url, catalog=CATALOG, partitions=2) as made:
        yield made


EVENTS = (
    event("a", amount=Decimal("1.5"), unit="t", km=100, haul="short", usd=Decimal("0.07")),
    event(
        "b",
        NEW_YEAR - 1,
        amount=7,
        unit="[lb_av]",
        km=Decimal("33.3333333333"),
        haul="long",
        score=25,
        consent=True,
    ),
    event(
        "c", NEW_YEAR, amount=3, unit="g{wet}", km=Decimal("0.000000001"), haul="long", score=4, consent=False
    ),
    event(
        "d", NEW_YEAR - 40 * DAY, amount=-2, unit="kg", km=12, haul="short", score=19, consent=True, usd=-3
    ),
    event("e", amount=1, unit="L"),
    event("f", km=1, haul="middle"),
    event("g", NEW_YEAR - 1000 * DAY, km=1, haul="short"),
    event("h", score=99, consent=True),
    event("i", NEW_YEAR - 2 * DAY, km=10, haul="short"),
    correction("i1", "i", {"km": 20, "haul": "long"}, NOON),  # its factor is that of the time of "i"
    event("j", amount=5, unit="kg"),
    retraction("j1", "j"),
    event("k", amount=5, unit="kg"),
    correction("k1", "k", {"amount": 5, "unit": "m"}),
)


async def test_what_is_converted_multiplied_agreed_to_and_added_up_is_found_equal(counting: Counting) -> None:
    await counting.send(*EVENTS)
    await counting.count()
    report = await counting.verify()
    assert told(report) == []
    codes = await counting.rows("SELECT event_id, code FROM quarantined_events ORDER BY event_id")
    assert codes == [
        ("e", "unit_mismatch"),
        ("f", "factor_missing"),
        ("g", "factor_missing"),
        ("h", "value_out_of_range"),
        ("k1", "unit_mismatch"),
    ]
    await counting.send(event("q", event_type="clinic.quiet.v1", kg=8))
    await counting.count()
    assert told(await counting.verify()) == []
    assert told(await counting.verify("clinic", "each")) == []


@pytest.mark.parametrize(
    ("metric", "column"),
    [("waste", "sum"), ("trips", "sum"), ("shillings", "sum"), ("score", "sum"), ("last", "latest_value")],
)
async def test_a_wrong_bucket_of_such_a_metric_is_named(counting: Counting, metric: str, column: str) -> None:
    await counting.send(*EVENTS)
    await counting.count()
    await counting.change(
        f"UPDATE bucket SET \"{column}\" = '0.000001000' WHERE resolution = '1d' AND bucket_start >= '2025-12-31'"
        f" AND series_id IN (SELECT series_id FROM series WHERE metric = '{metric}' AND segment = '{{}}')"
        f" AND \"{column}\" <> '0.000001000'"
    )
    assert {(one.metric, one.kind) for one in (await counting.verify()).differences} == {(metric, "bucket")}


@pytest.mark.parametrize("metric", ["ghg", "rest", "each"])
async def test_a_wrong_value_of_a_derived_metric_is_named(counting: Counting, metric: str) -> None:
    await counting.send(*EVENTS)
    await counting.count()
    await counting.change(
        "UPDATE rolling_value SET value = '1.000000000' WHERE time_window = 'all' AND series_id IN"
        f" (SELECT series_id FROM series WHERE metric = '{metric}' AND segment = '{{}}')"
    )
    found = {(one.metric, one.kind, one.field) for one in (await counting.verify()).differences}
    assert found == {(metric, "rolling", "value")}


async def test_explain_names_what_a_derived_number_is_made_of(counting: Counting) -> None:
    await counting.send(*EVENTS)
    await counting.count()
    told_of = await counting.explain("each", window="all")
    assert [facts.metric for facts in told_of.facts or ()] == ["trips", "burnt", "visits"]
    assert "metric IN ('trips', 'burnt', 'visits')" in told_of.sql[1]
