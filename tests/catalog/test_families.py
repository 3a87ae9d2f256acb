"""Names of Prometheus families."""

from __future__ import annotations

import pytest
from prometheus_client.core import GaugeMetricFamily

from impact_schemas.catalog import family, family_by
from impact_schemas.catalog.families import is_pipeline_family


def test_names() -> None:
    assert family("kg") == "impact_kg"
    assert family_by("kg", ["city"]) == "impact_kg_by_city"
    assert family_by("kg", ("city", "colour")) == "impact_kg_by_city_colour"


def test_prometheus_takes_the_longest_name() -> None:
    GaugeMetricFamily(family_by("m" * 63, ["d" * 63, "e" * 63]), "", labels=["product", "window", "d" * 63])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "ingest_events_total",
            "ingest_request_seconds",
            "aggregator_events_total",
            "aggregator_lag_records",
        ),
        *(
            "aggregator_freshness_seconds",
            "catalog_info",
            "target_progress_ratio",
            "metric_state",
            "violation",
        ),
    ],
)
def test_the_pipelines_own_families_are_taken(name: str) -> None:
    assert is_pipeline_family(name)


def test_other_names_are_free() -> None:
    assert not is_pipeline_family("ingested")
    assert not is_pipeline_family("violations")
