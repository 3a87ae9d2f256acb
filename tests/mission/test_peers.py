"""Products that share a metric: each has its place, and nothing of them is added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, text

from impact_aggregator.active import activate
from impact_aggregator.rules import TOTAL, Series
from impact_database import migrate
from impact_database.engine import connect
from impact_schemas import numbers
from impact_schemas.catalog import parse_catalog
from impact_schemas.tables import rolling_value, window_position
from tests.aggregator.conftest import NOON

if TYPE_CHECKING:
    from impact_schemas.catalog import Catalog


def _product(name: str) -> Catalog:
    return parse_catalog(
        f"""
apiVersion: impact/v1
product: {name}
title: {name}
events: {{{name}.v1: {{data: {{type: object, properties: {{wait: {{type: number}}}}}}}}}}
metrics:
  wait:
    title: Wait
    event: {name}.v1
    aggregate: mean
    of: data.wait
    direction: down
    role: impact
    windows: [28d]
  own_{name}: {{title: Own, event: {name}.v1, aggregate: count, role: impact, windows: [28d]}}
""",
        f"{name}.yaml",
    )


async def test_the_best_of_several_products_is_first_in_the_metrics_direction(database_url: str) -> None:
    engine = connect(database_url)
    await migrate.upgrade(engine)
    waits = {"north": 30, "south": 12, "west": 45}
    await activate(engine, {name: _product(name) for name in waits}, NOON)
    rows = [
        {
            "series_id": Series(product, metric, 1, TOTAL).series_id,
            "time_window": "28d",
            "value": value * numbers.ONE,
            "n": 1,
            "status": "ok",
            "changed_at": NOON,
        }
        for product, value in waits.items()
        for metric in ("wait", f"own_{product}")
    ]
    async with engine.begin() as connection:
        await connection.execute(insert(rolling_value), rows)
        await connection.execute(insert(window_position), [{"time_window": "28d", "as_of": NOON}])
        found = await connection.execute(text("SELECT product, metric, place, products FROM metric_peers"))
        assert {tuple(row) for row in found} == {
            ("south", "wait", 1, 3),
            ("north", "wait", 2, 3),
            ("west", "wait", 3, 3),
        }
    await engine.dispose()
