"""Typed views: every metric in force has one, with a column for each dimension, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from impact_aggregator.active import activate
from impact_database import migrate
from impact_schemas.catalog import parse_catalog
from impact_schemas.metric_views import metric_views, view_names
from tests.aggregator.conftest import TEXT, Clock, visit
from tests.aggregator.pipeline import Pipeline, pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from impact_schemas.catalog import Catalog


@pytest.fixture
async def one(database_url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Pipeline]:
    async with pipeline(database_url, catalog, clock) as made:
        yield made


async def test_a_metrics_view_has_every_published_value_and_a_column_for_each_dimension(
    one: Pipeline,
) -> None:
    await one.count([visit("a", language="es", region="north"), visit("b"), visit("c", language="es")])
    assert await one.rolling.tick()
    rows = await one.rows(
        "SELECT span, split, language, region, CAST(value AS INTEGER) FROM m_clinic_visits"
        " WHERE span IN ('28d', 'month') ORDER BY span, split, language, region"
    )
    assert {row[0] for row in rows} == {"28d", "month"}
    of_window = sorted(row[1:] for row in rows if row[0] == "28d")
    assert of_window == sorted(row[1:] for row in rows if row[0] == "month")
    expected = {
        ("", None, None, 3),
        ("language", "es", None, 2),
        ("language", "(unknown)", None, 1),
        ("region", None, "north", 1),
        ("region", None, "(unknown)", 2),
        ("language,region", "es", "north", 1),
        ("language,region", "es", "(unknown)", 1),
        ("language,region", "(unknown)", "(unknown)", 1),
    }
    assert set(of_window) == expected
    assert len(of_window) == len(expected)


async def test_a_ratio_has_the_dimensions_of_its_parts(one: Pipeline) -> None:
    await one.count([visit("a", language="es", kept=False), visit("b", language="es", kept=True)])
    assert await one.rolling.tick()
    rows = await one.rows(
        "SELECT CAST(value AS REAL), n FROM m_clinic_no_show_rate WHERE span = '28d' AND language = 'es'"
        " AND split = 'language'"
    )
    assert rows == [(0.5, 2)]


async def test_segment_members_take_segments_apart(one: Pipeline) -> None:
    await one.count([visit("a", language="es", region="north"), visit("b", region="north")])
    assert await one.rolling.tick()
    rows = await one.rows(
        "SELECT segment, dimension, member, dimensions FROM segment_members WHERE metric = 'visits'"
    )
    assert ('{"language":"es"}', "language", "es", 1) in rows
    assert ('{"language":null}', "language", None, 1) in rows
    cut = '{"language":"es","region":"north"}'
    assert {row[1:] for row in rows if row[0] == cut} == {("language", "es", 2), ("region", "north", 2)}


async def test_views_follow_the_catalog_and_outlive_a_migration(one: Pipeline, clock: Clock) -> None:
    changed = parse_catalog(
        TEXT.replace("  visits: ", "  calls: ").replace("denominator: visits", "denominator: calls"), "c"
    )
    await activate(one.engine, {"clinic": changed}, clock())
    await migrate.upgrade(one.engine)
    assert await one.rows("SELECT language FROM m_clinic_calls WHERE span = 'month'") == []
    with pytest.raises(Exception, match="m_clinic_visits"):
        await one.rows("SELECT 1 FROM m_clinic_visits")


def test_long_names_and_names_that_meet_are_told_apart() -> None:
    names = view_names([("a", "b_c"), ("a_b", "c"), ("p" * 63, "m" * 63), ("p" * 63, "m" * 62), ("x", "y")])
    assert names["x", "y"] == "m_x_y"
    assert len(set(names.values())) == len(names)
    assert max(map(len, names.values())) <= 63


def test_a_dimension_that_is_called_as_a_column_of_the_view_gets_another_name() -> None:
    (view,) = metric_views({("clinic", "visits"): ["value", "language"]})
    found = [column.name for column in view.columns]
    assert "by_value" in found
    assert len(set(found)) == len(found)
