"""What a catalog says beside metrics is in the database, as it stands in the catalog in force."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Table, select

from impact_aggregator.active import activate
from impact_database import migrate
from impact_database.engine import connect
from impact_schemas.catalog import parse_catalog
from impact_schemas.numbers import from_nanos
from impact_schemas.tables import bet, factor_value, metric_version, need, risk, stakeholder

PLAIN = """
apiVersion: impact/v1
product: clinic
title: Clinic
events:
  clinic.trip.v1:
    data:
      type: object
      properties: {km: {type: number}, haul: {type: string}, language: {type: string}, new: {type: boolean}}
metrics:
  trips: {title: Trips, event: clinic.trip.v1, aggregate: count, role: guardrail,
    dimensions: {language: data.language, new: data.new}, cuts: [[language, new]]}
"""
FULL = (
    PLAIN
    + """
  emissions: {title: Emissions, event: clinic.trip.v1, aggregate: sum, of: data.km, unit: kg, role: impact,
    factor: {set: kg_per_km, key: data.haul}}
needs:
  distance: {statement: The clinic is far away., people: 120000, source: a survey}
bets:
  vans: {title: Vans, need: distance, hypothesis: A van is quicker., feature: vans, launched: 2026-03-01,
    cost: {value: 20000.5, unit: USD},
    expects: [{metric: trips, segment: {language: es, new: null}, change: -0.05, by: 2026-12-31}]}
risks:
  - {id: fumes, statement: Fumes., who: children, metric: trips, review_every: 12w, reviewed: 2026-09-01}
stakeholders:
  - {name: council, audience: public, metrics: [trips]}
factors:
  kg_per_km:
    unit: kg/km
    source: the ministry
    editions:
      - {version: "2024", valid_from: 2024-01-01, values: {short: 0.15, long: 0.11}}
      - {version: "2026", valid_from: 2026-01-01, values: {short: 0.14, long: 0.11}, source: the new table}
"""
)


async def rows(url: str, table: Table) -> list[tuple[Any, ...]]:
    engine = connect(url)
    try:
        async with engine.connect() as connection:
            return sorted(tuple(row) for row in await connection.execute(select(table)))
    finally:
        await engine.dispose()


async def take_up(url: str, text: str) -> None:
    engine = connect(url)
    try:
        await migrate.upgrade(engine)
        await activate(engine, {"clinic": parse_catalog(text, "clinic.yaml")}, 0)
    finally:
        await engine.dispose()


async def test_the_tables_say_what_the_catalog_in_force_says(database_url: str) -> None:
    await take_up(database_url, FULL)
    assert await rows(database_url, need) == [
        ("clinic", "distance", "The clinic is far away.", 120000, "a survey")
    ]
    ((*head, launched, cost, unit, business, expects),) = await rows(database_url, bet)
    assert head == ["clinic", "vans", "Vans", "distance", "A van is quicker.", "vans"]
    assert (launched, from_nanos(cost), unit, business) == (date(2026, 3, 1), Decimal("20000.5"), "USD", None)
    assert expects == (
        '[{"by":"2026-12-31","change":-0.05,"metric":"trips","segment":{"language":"es","new":null}}]'
    )
    assert await rows(database_url, risk) == [
        ("clinic", "fumes", "Fumes.", "children", "trips", 84, date(2026, 9, 1), None)
    ]
    assert await rows(database_url, stakeholder) == [
        ("clinic", "council", None, "public", '["trips"]', "quarter")
    ]
    assert [
        (row[2], row[3], from_nanos(row[5]), row[6], row[7]) for row in await rows(database_url, factor_value)
    ] == [
        ("2024", "long", Decimal("0.11"), "kg/km", "the ministry"),
        ("2024", "short", Decimal("0.15"), "kg/km", "the ministry"),
        ("2026", "long", Decimal("0.11"), "kg/km", "the new table"),
        ("2026", "short", Decimal("0.14"), "kg/km", "the new table"),
    ]

    await take_up(database_url, PLAIN)
    for table in (need, bet, risk, stakeholder, factor_value):
        assert await rows(database_url, table) == []


async def versions(url: str) -> dict[str, int]:
    return {row[1]: row[2] for row in await rows(url, metric_version) if row[4]}


async def test_a_new_edition_makes_a_new_version_and_another_source_does_not(sqlite_url: str) -> None:
    await take_up(sqlite_url, FULL)
    assert await versions(sqlite_url) == {"trips": 1, "emissions": 1}
    await take_up(sqlite_url, FULL.replace("the ministry", "the ministry of roads"))
    assert await versions(sqlite_url) == {"trips": 1, "emissions": 1}
    await take_up(sqlite_url, FULL.replace("short: 0.14", "short: 0.13"))
    assert await versions(sqlite_url) == {"trips": 1, "emissions": 2}


async def test_the_definition_of_a_version_holds_the_factors_that_it_counts_with(sqlite_url: str) -> None:
    await take_up(sqlite_url, FULL)
    place = list(metric_version.c.keys()).index("definition")
    (text,) = [row[place] for row in await rows(sqlite_url, metric_version) if row[1] == "emissions"]
    assert '"factor":{"set":"kg_per_km","key":"data.haul"}' in text
    assert '"factor_set":{"unit":"kg/km","source":"the ministry","editions":[{"version":"2024"' in text
