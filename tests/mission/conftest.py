"""A clinic that watches its targets, on both databases, with the leader's evaluation beside the tick."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator.mission.evaluation import Evaluation
from impact_aggregator.values import Metrics
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import NOON, Clock, visit
from tests.aggregator.pipeline import pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Table

    from impact_aggregator.mission.meaning import Row
    from impact_schemas.catalog import Catalog
    from tests.aggregator.pipeline import Pipeline

__all__ = ["NOON", "Clock", "visit"]


class Mission:
    """A pipeline and its evaluation."""

    def __init__(self, one: Pipeline, rows_a_tick: int = 20_000) -> None:
        self.pipeline = one
        self.evaluation = Evaluation(one.engine, one.clock, "one", one.rolling, rows_a_tick)
        metrics = Metrics(one.catalogs, one.active.versions)
        self.evaluation.use(one.catalogs, metrics, one.active.generation)

    async def tick(self) -> None:
        """A tick, and what it means."""
        assert await self.pipeline.rolling.tick()
        await self.evaluation.tick()

    async def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, numbers as floats."""
        found = await self.pipeline.rows(sql, **parameters)
        return [
            tuple(float(cell) if type(cell).__name__ == "Decimal" else cell for cell in row) for row in found
        ]

    def of(self, table: Table) -> list[Row]:
        """What the gauges see of a table."""
        return list(self.evaluation.rows(table))


@asynccontextmanager
async def mission(url: str, catalog: Catalog, clock: Clock) -> AsyncIterator[Mission]:
    """A mission on the database at `url`."""
    async with pipeline(url, catalog, clock) as one:
        yield Mission(one)


TEXT = """
apiVersion: impact/v1
product: clinic
title: Clinic
sources: ["/clinic"]
events:
  clinic.visit.v1:
    data:
      type: object
      properties:
        language: {type: string}
        kept: {type: boolean}
        score: {type: number}
        arm: {type: string}
  clinic.fee.v1: {data: {type: object, properties: {usd: {type: number}}}}
metrics:
  visits:
    title: Visits
    event: clinic.visit.v1
    aggregate: count
    role: impact
    dimensions: {language: data.language}
    windows: [24h, 7d, 28d, all]
    targets: [{window: all, value: 100, due: 2026-03-31, baseline: {value: 0, at: 2025-12-01}}]
    benchmarks: [{label: last year, value: 40}]
    equity: {dimension: language, reference: en, population: {values: {en: 100, es: 50}}}
    net: {deadweight: 0.2, attribution: 0.5}
  missed:
    title: Missed
    event: clinic.visit.v1
    where: {data.kept: false}
    aggregate: count
    role: guardrail
    direction: down
    dimensions: {language: data.language}
    windows: [7d, 28d, all]
    limits: {max: 3, window: 7d}
  no_show_rate:
    title: No-show rate
    ratio: {numerator: missed, denominator: visits}
    role: impact
    direction: down
    windows: [28d, all]
    equity: {dimension: language, reference: en}
    experiment: {arm: data.arm, control: none}
  wellbeing:
    title: Well-being
    event: clinic.visit.v1
    aggregate: mean
    of: data.score
    role: impact
    dimensions: {language: data.language}
    windows: [28d, all]
    scale: {instrument: WHO-5, min: 0, max: 25, top_box: 20}
    equity: {dimension: language, reference: en}
    experiment: {arm: data.arm, control: none}
  revenue:
    title: Revenue
    event: clinic.fee.v1
    aggregate: sum
    of: data.usd
    unit: USD
    role: business
    windows: [7d, 28d, all]
consistency: [{rule: missed_within_visits, part: missed, whole: visits}]
"""


@pytest.fixture(scope="session")
def watched() -> Catalog:
    return parse_catalog(TEXT, "clinic.yaml")


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
async def clinic(sqlite_url: str, watched: Catalog, clock: Clock) -> AsyncIterator[Mission]:
    async with mission(sqlite_url, watched, clock) as made:
        yield made


@pytest.fixture
async def clinic_on_both(database_url: str, watched: Catalog, clock: Clock) -> AsyncIterator[Mission]:
    async with mission(database_url, watched, clock) as made:
        yield made
