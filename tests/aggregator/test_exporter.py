"""The business gauges as text: what a scraper reads is what the leader holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from impact_aggregator.exporter import BusinessGauges
from impact_aggregator.rolling import Point
from impact_aggregator.rules import Series
from impact_aggregator.values import Reading
from impact_cli.operations import operations_app
from impact_schemas import numbers
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import TEXT

if TYPE_CHECKING:
    from collections.abc import Collection

    from impact_schemas.catalog import Catalog


NOW = 1_767_225_600_000_000  # 2026-01-01


def gauges(catalog: Catalog, points: Collection[Point]) -> BusinessGauges:
    made = BusinessGauges(lambda: points, lambda: NOW)
    made.use({"clinic": catalog})
    return made


def point(segment: dict[str, str | None], value: int | None, window: str = "28d") -> Point:
    series = Series("clinic", "visits", 1, msgspec.json.encode(segment, order="sorted").decode())
    return Point(series, window, Reading(value, 1, "ok" if value is not None else "no_data"))


@given(language=st.text(), value=st.integers(-(10**24), 10**24))
def test_any_label_and_value_are_read_as_they_are(catalog: Catalog, language: str, value: int) -> None:
    page = gauges(catalog, [point({}, value), point({"language": language}, value)]).lines().decode()
    total, split = read_text(page)
    assert total.samples[0].labels == {"product": "clinic", "window": "28d"}
    (sample,) = split.samples
    assert sample.name == "impact_visits_by_language"
    assert sample.labels == {"product": "clinic", "window": "28d", "language": language}
    assert sample.value == value / numbers.ONE


def test_the_review_of_a_risk_is_overdue_from_the_day_after_it_was_due() -> None:
    told = [("soon", "30d", "2025-12-02"), ("late", "30d", "2025-12-01"), ("never", "30d", None)]
    risks = [
        {"id": name, "statement": "Harm.", "review_every": every, "reviewed": day}
        for name, every, day in told
    ]
    text = f"{TEXT}\nrisks: {json.dumps([*risks, {'id': 'unplanned', 'statement': 'Harm.'}])}"
    catalog = parse_catalog(text, "clinic.yaml")
    for points, expected in (([point({}, None)], {"soon": 0, "late": 1, "never": 1}), ([], {})):
        family = next(one for one in gauges(catalog, points).collect() if "risk" in one.name)
        assert {one.labels["risk"]: one.value for one in family.samples} == expected


def test_a_segment_that_is_called_unknown_does_not_collide_with_the_unknown_group(catalog: Catalog) -> None:
    points = [point({"language": None}, 1), point({"language": "(unknown)"}, 2), point({}, None)]
    (family,) = read_text(gauges(catalog, points).lines().decode())
    assert [sample.labels["language"] for sample in family.samples] == ["(unknown)"]


async def test_a_page_with_gauges_is_valid_in_both_formats(catalog: Catalog) -> None:
    registry = CollectorRegistry()
    Gauge("impact_leads", "Whether.", registry=registry).set(1)
    app = operations_app(registry, {}, gauges(catalog, [point({}, 5 * numbers.ONE)]).lines)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        plain = await http.get("/metrics")
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        openmetrics = await http.get("/metrics", headers=accept)
    expected = ["impact_leads", "impact_visits"]
    assert [family.name for family in read_text(plain.text)] == expected
    families = read_openmetrics(openmetrics.text)  # type: ignore[no-untyped-call]  # the library has no types
    assert [family.name for family in families] == expected
