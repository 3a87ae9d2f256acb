"""A database as compose sets it up: a real server, and the script that makes its roles."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from tests.conftest import missing
from tests.rig.postgres import PostgresServer, fresh_database, postgres_programs
from tests.rig.servers import REPOSITORY, ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """The variables of a fresh .env."""
    script = ["sh", str(REPOSITORY / "deploy" / "new-env.sh")]
    printed = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in printed.splitlines())


@pytest.fixture(scope="module")
def deployed_database(secrets: dict[str, str]) -> Iterator[URL]:
    """The superuser's URL of a new database, on a server of its own: roles belong to a whole server."""
    try:
        with PostgresServer.temporary() as server, fresh_database(server.url) as url:
            database = make_url(url)
            _make_roles(database, secrets)
            yield database
    except ServerMissingError as error:
        missing(error)


def _make_roles(database: URL, secrets: dict[str, str]) -> None:
    environment = {
        **secrets,
        "PATH": f"{os.environ['PATH']}:{postgres_programs()}",
        "PGHOST": str(database.host),
        "PGPORT": str(database.port),
        "POSTGRES_USER": str(database.username),
        "POSTGRES_DB": str(database.database),
    }
    script = ["sh", str(REPOSITORY / "deploy" / "postgres" / "roles.sh")]
    subprocess.run(script, env=environment, check=True, capture_output=True, timeout=30)
