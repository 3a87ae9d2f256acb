# ruff: noqa: E501  a case is one line
"""CSV files beside a catalog: their rows become part of it, and their faults have their own lines."""

from __future__ import annotations

import contextlib
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_schemas.catalog import CatalogFaults, files_beside, parse_catalogs

CATALOG = """\
apiVersion: impact/v1
product: shop
title: Shop
events:
  shop.sold.v1: {data: {type: object, properties: {km: {type: number}, haul: {type: string}, city: {type: string}}}}
metrics:
  trips: {title: Trips, event: shop.sold.v1, aggregate: count, role: impact, dimensions: {city: data.city},
    equity: {dimension: city, reference: north, population: {file: people.csv, year: 2024}}}
  co2: {title: CO2, event: shop.sold.v1, aggregate: sum, of: data.km, unit: kg, role: guardrail,
    factor: {set: co2, key: data.haul}}
  fuel: {title: Fuel, event: shop.sold.v1, aggregate: sum, of: data.km, unit: L, role: guardrail, factor: fuel}
factors:
  co2: {unit: kg/km, file: co2.csv}
  fuel: {unit: L/km, file: fuel.csv}
"""
PEOPLE = "segment,people\nnorth,120000\nsouth,80000\n"
CO2 = "version,valid_from,key,value,source\n2024,2024-01-01,short,0.15,A\n2024,2024-01-01,long,0.11,A\n2026,2026-01-01,short,0.14,B\n"
FUEL = "valid_from,version,value\r\n2024-01-01,one,0.07\r\n"
FILES = {"a/people.csv": PEOPLE, "a/co2.csv": CO2, "a/fuel.csv": FUEL}


def faults(**changed: str | None) -> list[str]:
    """What is wrong when a table is another one; None takes the file away."""
    texts: dict[str, str | None] = {"a/shop.yaml": CATALOG, **FILES}
    texts |= {f"a/{name}.csv": text for name, text in changed.items()}
    with pytest.raises(CatalogFaults) as caught:
        parse_catalogs({name: text for name, text in texts.items() if text is not None})
    return [str(fault) for fault in caught.value.faults]


def test_the_rows_are_part_of_the_catalog() -> None:
    assert files_beside(CATALOG) == ("co2.csv", "fuel.csv", "people.csv")
    catalog = parse_catalogs({"a/shop.yaml": CATALOG, **FILES})["shop"]
    assert [
        (one.version, one.valid_from, one.by_key(), one.source) for one in catalog.factors["co2"].editions
    ] == [
        ("2024", date(2024, 1, 1), {"short": Decimal("0.15"), "long": Decimal("0.11")}, "A"),
        ("2026", date(2026, 1, 1), {"short": Decimal("0.14")}, "B"),
    ]
    assert catalog.factors["fuel"].editions[0].value == Decimal("0.07")
    equity = catalog.metrics["trips"].equity
    assert equity is not None
    assert equity.population is not None
    assert equity.population.values == {"north": 120000, "south": 80000}
    assert equity.population.year == 2024


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"people": None}, "a/shop.yaml:8:"),
        ({"people": ""}, "a/people.csv:1:1: expected the columns segment, people, found none"),
        ({"people": "segment,people\n"}, "a/people.csv:1:1: the table has no rows"),
        ({"people": "segment,number\na,1\n"}, "a/people.csv:1:1: expected the columns"),
        ({"people": PEOPLE + "north,1\n"}, "a/people.csv:4:1: north is there twice"),
        (
            {"people": PEOPLE + "east,many\n"},
            "a/people.csv:4:1: expected a whole number of people, found many",
        ),
        ({"people": PEOPLE + "east,0\n"}, "a/people.csv:4:1: expected a whole number of people, found 0"),
        ({"people": PEOPLE + 'east,"1\n'}, "a/people.csv:1:1: this is not CSV"),
        ({"people": PEOPLE + "east,1,2\n"}, "a/people.csv:1:1: line 4 has more fields"),
        (
            {"co2": CO2 + "2026,2026-01-01,long,much,B\n"},
            "a/co2.csv:5:1: expected a number as value, found much",
        ),
        (
            {"co2": CO2 + "2026,2026-01-01,long,NaN,B\n"},
            "a/co2.csv:5:1: expected a number as value, found NaN",
        ),
        (
            {"co2": CO2 + "2026,2026-02-01,long,1,B\n"},
            "a/co2.csv:5:1: edition 2026 is valid from 2026-01-01 and from",
        ),
        ({"co2": CO2 + "2026,2026-01-01,short,1,B\n"}, "a/co2.csv:5:1: edition 2026 has short twice"),
        (
            {"co2": CO2 + "2028,soon,short,1,B\n"},
            'a/co2.csv:5:1: valid_from: expected a day, like 2026-12-31, found "soon"',
        ),
        (
            {"fuel": FUEL.replace("value", "number")},
            "a/fuel.csv:1:1: expected the columns version, valid_from",
        ),
    ],
)
def test_a_fault_names_the_file_and_the_line(changed: dict[str, str | None], fault: str) -> None:
    found = faults(**changed)
    assert any(one.startswith(fault) for one in found), found


def test_a_file_that_is_not_there_is_a_fault_where_it_is_named() -> None:
    (found,) = faults(people=None)
    assert found.endswith("metrics.trips.equity.population.file: there is no people.csv beside this file")


@given(st.text(alphabet='versionald_fmky,0123456789.-"\r\n ', max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    texts = {"a/shop.yaml": CATALOG, **FILES, "a/co2.csv": CO2.splitlines()[0] + "\n" + text}
    with contextlib.suppress(CatalogFaults):
        assert parse_catalogs(texts)["shop"].factors["co2"].editions
