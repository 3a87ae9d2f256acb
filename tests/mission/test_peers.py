"""Products that share a metric: each has its place, and nothing of them is added up."""

from __future__ import annotations

import io
from datetime import date
from typing import TYPE_CHECKING

from rich.console import Console
from sqlalchemy import insert, text

from impact_aggregator.active import activate
from impact_aggregator.rules import TOTAL, Series
from impact_cli import status
from impact_database import migrate
from impact_database.engine import connect
from impact_schemas import numbers
from impact_schemas.catalog import parse_catalog
from impact_schemas.tables import bet_result, rolling_value, window_position
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
    assert "Wait over the last 28 days: place 1 of 3 products" in await _status(database_url)


async def _status(url: str) -> str:
    console = Console(file=io.StringIO(), width=200)
    status.show(await status.read(url), console)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


SHARED = """
apiVersion: impact/v1
product: {name}
title: {name}
events: {{{name}.v1: {{data: {{type: object}}}}}}
needs:
  care: {{statement: It is far to the clinic., people: 1000, source: survey}}
  sleep: {{statement: Nights are loud., source: survey}}
bets:
  bus:
    {{title: A bus, need: care, hypothesis: Who is driven comes., launched: 2025-01-01,
     expects: [{{metric: people, change: 1, by: 2025-06-30}}, {{metric: people, change: 2, by: 2099-06-30}}]}}
metrics:
  people:
    {{title: People, event: {name}.v1, aggregate: unique, of: subject, unit: "{{person}}", role: impact,
     windows: [28d, all], codes: {{sdg: ["3.8.1", "10.2.1"]}}}}
  visits: {{title: Visits, event: {name}.v1, aggregate: count, role: business, windows: [28d]}}
"""


async def test_a_portfolio_lists_products_by_goal_and_by_need(database_url: str) -> None:
    engine = connect(database_url)
    await migrate.upgrade(engine)
    catalogs = {name: parse_catalog(SHARED.format(name=name), f"{name}.yaml") for name in ("north", "south")}
    await activate(engine, catalogs, NOON)
    value = {"series_id": Series("north", "people", 1, TOTAL).series_id, "time_window": "28d", "n": 7}
    result = {"product": "north", "bet": "bus", "metric": "people", "segment": "{}", "need": "care"}
    async with engine.begin() as connection:
        await connection.execute(
            insert(rolling_value), [value | {"value": 7 * numbers.ONE, "status": "ok", "changed_at": NOON}]
        )
        await connection.execute(insert(window_position), [{"time_window": "28d", "as_of": NOON}])
        await connection.execute(
            insert(bet_result),
            [
                result | {"by": date(2025, 6, 30), "expected": numbers.ONE, "status": "proven"},
                result | {"by": date(2099, 6, 30), "expected": numbers.ONE, "status": "too_early"},
            ],
        )
        goals = await connection.execute(
            text("SELECT product, sdg, time_window, value, status FROM portfolio_sdg")
        )
        assert {(*row[:3], None if row[3] is None else float(row[3]), row[4]) for row in goals} == {
            ("north", "3.8.1", "28d", 7.0, "ok"),
            ("north", "10.2.1", "28d", 7.0, "ok"),
            ("south", "3.8.1", None, None, "no_data"),
            ("south", "10.2.1", None, None, "no_data"),
        }
        needs = await connection.execute(text("SELECT need, product, bet, status FROM portfolio_needs"))
        assert {tuple(row) for row in needs} == {
            ("care", "north", "bus", "too_early"),
            ("care", "south", "bus", None),
            ("sleep", "north", None, None),
            ("sleep", "south", None, None),
        }
    await engine.dispose()
    told = await _status(database_url)
    assert "3.8.1 north People 28d 7 people" in told
    assert "It is far to the clinic. north bus too early" in told
    assert "Nights are loud. north no bet yet -" in told
