"""A small catalog, and events made for it without a door."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from impact_aggregator.decode import decode_record
from impact_aggregator.events import CORRECTION, RETRACTION, Event
from impact_aggregator.rules import Rules
from impact_eventlog import Partition, Record
from impact_schemas.catalog import Catalog, parse_catalog
from impact_schemas.identity import Identities
from impact_schemas.tables import to_datetime
from impact_schemas.wire import encode_record

HOUR = 3_600_000_000
NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
EVENTS = "impact.events.v1"
QUARANTINE = "impact.quarantine.v1"

_SPLITS = (
    "role: impact, cadence: 1d, cuts: [[region, language]],"
    " dimensions: {language: data.language, region: {path: data.region, values: [north, south]}}"
)
_EVENT = "event: clinic.visit.v1"
_WINDOWS = "windows: [5m, 1h, 24h, 28d, all]"

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
        region: {{type: string}}
        kept: {{type: boolean}}
        minutes: {{type: number}}
metrics:
  visits: {{title: Visits, {_EVENT}, aggregate: count, {_SPLITS}, {_WINDOWS}}}
  missed: {{title: Missed, {_EVENT}, where: {{data.kept: false}}, aggregate: count, {_SPLITS}, {_WINDOWS}}}
  patients: {{title: Patients, {_EVENT}, aggregate: unique, of: subject, {_SPLITS}, {_WINDOWS}}}
  minutes: {{title: Minutes, {_EVENT}, aggregate: sum, of: data.minutes, {_SPLITS}, {_WINDOWS}}}
  mean_minutes: {{title: Mean, {_EVENT}, aggregate: mean, of: data.minutes, {_SPLITS}, windows: [28d, all]}}
  least: {{title: Least, {_EVENT}, aggregate: min, of: data.minutes, {_SPLITS}, {_WINDOWS}}}
  longest: {{title: Longest, {_EVENT}, aggregate: max, of: data.minutes, {_SPLITS}, {_WINDOWS}}}
  last: {{title: Last, {_EVENT}, aggregate: latest, of: data.minutes, {_SPLITS}, {_WINDOWS}}}
  median: {{title: Median, {_EVENT}, aggregate: p50, of: data.minutes, {_SPLITS}, {_WINDOWS}}}
  no_show_rate:
    title: No-show rate
    ratio: {{numerator: missed, denominator: visits}}
    role: impact
    windows: [5m, 28d, all]
"""

identities = Identities(b"k" * 32)
CANONICAL = msgspec.json.Encoder(order="sorted", decimal_format="number")


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return parse_catalog(TEXT, "clinic.yaml")


@pytest.fixture(scope="session")
def versions(catalog: Catalog) -> dict[tuple[str, str], int]:
    return {("clinic", name): 1 for name in catalog.metrics}


@pytest.fixture
def rules(catalog: Catalog, versions: dict[tuple[str, str], int]) -> Rules:
    return Rules({"clinic": catalog}, versions)


def payload(
    event_id: str,
    data: dict[str, Any],
    time: int | None = None,
    subject: str | None = "p1",
    event_type: str = "clinic.visit.v1",
) -> bytes:
    """An event as it stands in the log."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/clinic",
        "type": event_type,
        "data": data,
    }
    if time is not None:
        event["time"] = to_datetime(time).isoformat().replace("+00:00", "Z")
    if subject is not None:
        event["subject"] = subject
    return CANONICAL.encode(event)


def visit(
    event_id: str,
    time: int = NOON,
    subject: str | None = "p1",
    received_at: int | None = None,
    event_type: str = "clinic.visit.v1",
    **data: Any,
) -> Event:
    """A decoded event, received as it happened."""
    raw = payload(event_id, data, time, subject, event_type)
    record = Record(
        Partition(EVENTS, 0), 0, "clinic", time if received_at is None else received_at, encode_record([raw])
    )
    (event,) = decode_record(record, identities)
    assert isinstance(event, Event)
    return event


def retraction(event_id: str, of: str, time: int = NOON) -> Event:
    data: dict[str, Any] = {"source": "/clinic", "id": of, "reason": "sent by mistake"}
    return visit(event_id, time, None, event_type=RETRACTION, **data)


def correction(event_id: str, of: str, time: int = NOON, **data: Any) -> Event:
    content: dict[str, Any] = {"source": "/clinic", "id": of, "reason": "mistyped", "data": data}
    return visit(event_id, time, None, event_type=CORRECTION, **content)


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
