"""Every part of `make bench` runs, on tiny sizes: the figures themselves mean nothing here."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import aggregator, embedded, growth, plan, reading, results, rivals, scale, stages
from benchmarks.process import run_apart
from benchmarks.results import Row
from impact_database import migrate
from impact_database.engine import connect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig.kafka import KafkaServer

EVENTS = 1_500


@pytest.fixture
def migrated_url(database_url: str) -> str:
    """A database of each kind with the schema in it."""
    asyncio.run(_upgrade(database_url))
    return database_url


async def _upgrade(url: str) -> None:
    engine = connect(url)
    await migrate.upgrade(engine)
    await engine.dispose()


def test_all_contenders_drain_the_same_events(kafka_server: KafkaServer, migrated_url: str) -> None:
    topic, singles = f"bench-{uuid.uuid4().hex}", f"bench-{uuid.uuid4().hex}"
    broker = kafka_server.bootstrap
    asyncio.run(aggregator.fill(broker, topic, singles, EVENTS))
    for spent in (
        rivals.floor(broker, topic, EVENTS),
        rivals.naive(broker, singles, EVENTS),
        aggregator.drain(broker, topic, migrated_url, aggregator.THREE, EVENTS),
    ):
        assert spent["cpu_us"] > 0
        assert spent["events_per_s"] > 0


def test_growth_is_measured_on_state_that_the_aggregator_takes_for_its_own(postgresql_url: str) -> None:
    async def fill() -> None:
        await _upgrade(postgresql_url)
        await growth.fill_series(postgresql_url, 20)
        await growth.fill_identities(postgresql_url, 500)

    asyncio.run(fill())
    assert growth.by_series(postgresql_url, 20, batches=1)["event_us"] > 0
    asyncio.run(growth.forget_events(postgresql_url))
    assert growth.by_identities(postgresql_url, batches=1)["claim_s"] > 0
    assert asyncio.run(growth.identity_bytes(postgresql_url)) > 20


def test_every_stage_is_timed(postgresql_url: str) -> None:
    asyncio.run(_upgrade(postgresql_url))
    found = stages.stages(postgresql_url, aggregator.THREE, polls=1, size=600)
    assert set(found) == set(stages.STAGES)
    assert min(found.values()) > 0


def test_ticks_and_views_are_timed(migrated_url: str) -> None:
    found = reading.ticks_and_views(migrated_url, gauges=50)
    assert found["first_s"] > 0
    took_ms, rows = found["queries"]["rolling_metrics, everything"]
    assert took_ms > 0
    assert rows == 5 * (1 + reading.FEW) * 2 + 1  # metrics, total and clinics, windows; and the probes


def test_the_embedded_service_is_driven_and_probed() -> None:
    rows = list(embedded.freshness_rows(0.5))
    assert [row.unit for row in rows] == ["s", "s"]
    assert all(row.value is not None and 0 <= row.value < 60 for row in rows)


def test_a_measurement_apart_gives_its_result_and_its_memory(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'metrics.db'}"
    asyncio.run(_upgrade(url))
    found = run_apart("benchmarks.growth:by_identities", url=url, batches=1)
    assert found["event_us"] > 0
    assert found["peak_mib"] > 1


def test_a_failed_measurement_says_why() -> None:
    with pytest.raises(RuntimeError, match="no_such_function"):
        run_apart("benchmarks.growth:no_such_function")


def test_the_page_shows_what_missed_its_target(tmp_path: Path) -> None:
    rows = [
        Row("Part", "fast", 1.234, "us", "", "<= 2 us", met=True),
        Row("Part", "slow", 1234.5, "us", "", "<= 2 us", met=False),
    ]
    page, data = tmp_path / "performance.md", tmp_path / "performance.json"
    results.write({"part": results.measured("Part", "how", rows, 60, quick=False)}, page, data)
    assert "| slow | 1,234 us |  | <= 2 us | **no** |" in page.read_text()
    assert "| fast | 1.23 us |  | <= 2 us | yes |" in page.read_text()


def test_a_section_measured_alone_leaves_the_others_on_the_page(tmp_path: Path) -> None:
    data = tmp_path / "performance.json"
    one, other = (
        results.measured(title, "how", [Row(title, "figure", 1.0, "us")], 60, quick=False)
        for title in ("One", "Other")
    )
    results.write({"one": one, "other": other}, None, data)
    assert results.read(data) == {"one": one, "other": other}


def test_many_events_are_counted_verified_and_counted_again_after_a_loss() -> None:
    rows = scale.run(replace(plan.quick(lambda _: None), scale_events=4_000))
    assert [row.met for row in rows if row.target] == [True, True, True]
