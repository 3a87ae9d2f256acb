"""A clinic's numbers, counted by the aggregator's own parts into both databases, and the service."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest

from impact_aggregator.mission.evaluation import Evaluation
from impact_aggregator.values import Metrics
from impact_database.keys import SqlKeyStore
from impact_reports.app import create_app
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import HOUR, NOON, Clock, retraction, visit
from tests.aggregator.pipeline import pipeline
from tests.rig.postgres import fresh_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_aggregator.events import Event
    from impact_eventlog import Record
    from tests.aggregator.pipeline import Pipeline

DAY = 24 * HOUR
OTHER_SITE = "https://elsewhere.example"

CATALOG = """
apiVersion: impact/v1
product: clinic
title: "Clinic <b>on wheels</b>"
mission:
  statement: Bring care to people who live far from a hospital.
  beneficiaries: people in 40 villages
  north_star: patients
sources: ["/clinic"]
events:
  clinic.visit.v1:
    data:
      type: object
      properties: {language: {type: string}, kept: {type: boolean}, minutes: {type: number},
                   feature: {type: string}}
  clinic.dream.v1: {data: {type: object}}
metrics:
  patients:
    {title: Patients, event: clinic.visit.v1, aggregate: unique, of: subject, unit: "{person}", role: impact,
     dimensions: {language: data.language}, windows: [28d, all], visibility: public, codes: {sdg: ["3.8.1"]},
     equity: {dimension: language, reference: en},
     targets: [{window: all, baseline: {value: 0, at: 2025-10-01}, value: 100, due: 2026-12-31}]}
  visits: {title: Visits, event: clinic.visit.v1, aggregate: count, role: business, windows: [28d, all],
           dimensions: {feature: data.feature}, leads_to: [patients]}
  missed: {title: Missed, event: clinic.visit.v1, where: {data.kept: false}, aggregate: count,
           role: guardrail, direction: down, windows: [28d, all]}
  no_show_rate: {title: No-show rate, ratio: {numerator: missed, denominator: visits}, role: impact,
                 direction: down, windows: [28d, all], visibility: public}
  minutes: {title: "=HYPERLINK(1)", event: clinic.visit.v1, aggregate: sum, of: data.minutes, unit: min,
            role: business, windows: [28d, all]}
  dreams: {title: Dreams, event: clinic.dream.v1, aggregate: count, role: impact, windows: [28d, all]}
stakeholders:
  - {name: funder, title: The funder, audience: funder, metrics: [patients, no_show_rate], period: month}
  - {name: everyone, title: Everyone, audience: public, period: quarter}
needs:
  care: {statement: People walk for hours to see a nurse., people: 120000, source: survey}
bets:
  mornings: {title: Mornings, need: care, hypothesis: People come before work., launched: 2025-12-01,
             expects: [{metric: no_show_rate, change: -0.1, by: 2026-12-31}]}
risks:
  - {id: dependency, statement: Villages depend on one van., who: patients, metric: missed,
     review_every: 90d, reviewed: 2025-06-01, owner: operations}
"""
LANGUAGES = ("en", "en", "es", "sw", None)


class Clinic:
    """The counted clinic and its service."""

    def __init__(self, one: Pipeline) -> None:
        self.pipeline = one
        self.engine: AsyncEngine = one.engine
        self.evaluation = Evaluation(one.engine, one.clock, "one", one.rolling)
        self.evaluation.use(one.catalogs, Metrics(one.catalogs, one.active.versions), one.active.generation)
        self.keys = SqlKeyStore(one.engine)

    async def tick(self) -> None:
        assert await self.pipeline.rolling.tick()
        await self.evaluation.tick()

    def client(self, *, open_to_all: bool = True) -> httpx.AsyncClient:
        """Of a service on this machine alone, or else of one that asks for keys."""
        app = create_app(
            self.engine, self.keys, session_key=b"s" * 32, open_to_all=open_to_all, clock=self.pipeline.clock
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def days(self, **days: str) -> dict[str, Any]:
        """Midnights as the database takes them in a query."""
        if self.engine.dialect.name == "sqlite":
            return days
        return {name: datetime.fromisoformat(day).replace(tzinfo=UTC) for name, day in days.items()}

    async def late(self) -> None:
        """A visit of a month ago is taken back today."""
        await self.pipeline.count([retraction("r40", "v40", self.pipeline.clock())])
        await self.tick()


def visit_of(number: int) -> Event:
    """One a day, the last of them now."""
    feature = "van" if number % 4 else "tent"
    data: dict[str, Any] = {"kept": number % 5 != 2, "minutes": 7.5, "feature": feature}
    if (language := LANGUAGES[number % 5]) is not None:
        data["language"] = language
    return visit(f"v{number}", NOON - (99 - number) * DAY, f"patient-{number % 50}", **data)


@asynccontextmanager
async def serving(url: str, log: list[Record]) -> AsyncIterator[Clinic]:
    """The clinic over what is counted in the database at `url`, and its log."""
    async with pipeline(url, parse_catalog(CATALOG, "clinic.yaml"), Clock(NOON), log=log) as one:
        clinic = Clinic(one)
        await clinic.keys.start()
        try:
            yield clinic
        finally:
            await clinic.keys.stop()


async def count(url: str) -> list[Record]:
    """100 visits on 100 days, of 50 patients, every fifth of them missed; their log."""
    log: list[Record] = []
    async with serving(url, log) as clinic:
        for first in range(0, 100, 20):
            await clinic.pipeline.count([visit_of(number) for number in range(first, first + 20)])
        await clinic.tick()
    return log


def count_once(url: str) -> list[Record]:
    """`count` in a thread: the caller may have an event loop running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(count(url))).result()


class Counted(NamedTuple):
    """An SQLite file to copy, and the log that it was counted from."""

    file: Path
    log: list[Record]


@pytest.fixture(scope="session")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    """Once a session: tests take copies."""
    file = tmp_path_factory.mktemp("clinic") / "metrics.db"
    return Counted(file, count_once(f"sqlite:///{file}"))


@pytest.fixture(scope="session")
def counted_on_postgresql(postgres_server_url: str) -> Iterator[str]:
    """The same on PostgreSQL."""
    with fresh_database(postgres_server_url) as url:
        count_once(url)
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def clinic(request: pytest.FixtureRequest, counted: Counted, tmp_path: Path) -> AsyncIterator[Clinic]:
    """On each kind of database in turn."""
    if request.param == "sqlite":
        async with serving(f"sqlite:///{shutil.copy(counted.file, tmp_path)}", list(counted.log)) as one:
            yield one
        return
    template = request.getfixturevalue("counted_on_postgresql")
    with fresh_database(request.getfixturevalue("postgres_server_url"), template) as url:
        async with serving(url, list(counted.log)) as one:
            yield one


@pytest.fixture
async def small_clinic(counted: Counted, tmp_path: Path) -> AsyncIterator[Clinic]:
    """For what does not depend on the kind of database."""
    async with serving(f"sqlite:///{shutil.copy(counted.file, tmp_path)}", list(counted.log)) as one:
        yield one
