"""Real servers for every suite, started once a session by the first test that asks.

Where one cannot be had, its tests are skipped with the way to get it; with CI or IMPACT_REQUIRE_SERVERS set
that is a failure.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NoReturn

import pytest
import structlog

from tests.rig.kafka import KafkaServer
from tests.rig.postgres import PostgresServer, fresh_database
from tests.rig.servers import ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def missing(error: ServerMissingError) -> NoReturn:
    """Skips the test, or fails it where real servers are required."""
    if os.environ.get("CI") or os.environ.get("IMPACT_REQUIRE_SERVERS"):
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """A command that runs in this process sends logs to its standard error, which is closed after it."""
    yield
    structlog.reset_defaults()
    for handler in logging.root.handlers[:]:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    """A broker for all tests of the session; a test that breaks its broker starts its own."""
    try:
        with KafkaServer.temporary() as server:
            yield server
    except ServerMissingError as error:
        missing(error)


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """A server on which databases may be created: IMPACT_TEST_DATABASE_URL, else one of our own."""
    given = os.environ.get("IMPACT_TEST_DATABASE_URL")
    if given:
        yield given
        return
    try:
        with PostgresServer.temporary() as server:
            yield server.url
    except ServerMissingError as error:
        missing(error)


@pytest.fixture
def postgresql_url(postgres_server_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of a new, empty PostgreSQL database."""
    with fresh_database(postgres_server_url) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The SQLAlchemy URL of a new SQLite file."""
    return f"sqlite+aiosqlite:///{tmp_path / 'metrics.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A new, empty database on each of the two kinds in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
