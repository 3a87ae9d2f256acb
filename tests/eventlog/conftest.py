"""A log of each kind for every test that asks for `log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from impact_eventlog.kafka import KafkaSettings, create_topics
from tests.eventlog.logs import Log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig.kafka import KafkaServer


@pytest.fixture
async def kafka_log(kafka_server: KafkaServer) -> Log:
    settings = KafkaSettings(kafka_server.bootstrap, partitions=3, request_timeout_s=5)
    log = Log(partitions=3, settings=settings)
    await create_topics(settings, [log.topic])
    return log


@pytest.fixture
def embedded_log(tmp_path: Path) -> Log:
    return Log(partitions=3, path=tmp_path / "events.db")


@pytest.fixture(params=["embedded", "kafka"])
def log_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def log(log_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Log:
    """A new log of each kind in turn."""
    if log_kind == "embedded":
        return Log(partitions=3, path=tmp_path / "events.db")
    server: KafkaServer = request.getfixturevalue("kafka_server")
    settings = KafkaSettings(server.bootstrap, partitions=3, request_timeout_s=5)
    log = Log(partitions=3, settings=settings)
    await create_topics(settings, [log.topic])
    return log
