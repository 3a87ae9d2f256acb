"""`impact privacy audit`: the answer, its exit code, and what it says where there is nothing to attack."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import TEXT as WITHOUT_PRIVACY
from tests.aggregator.conftest import Clock
from tests.aggregator.pipeline import pipeline
from tests.cli.in_process import impact
from tests.protection.test_publication import MONDAY, TEXT, WEEK, people, settle

if TYPE_CHECKING:
    from pathlib import Path


def counted(folder: Path, catalog: str) -> str:
    """The URL of a database with one decided week: 9 visits in English, 4 in French, 1 in Spanish."""
    url = f"sqlite:///{folder}/metrics.db"

    async def count() -> None:
        clock = Clock(MONDAY + WEEK)
        async with pipeline(url, parse_catalog(catalog, "clinic.yaml"), clock) as made:
            for number, (language, visits) in enumerate((("en", 9), ("fr", 4), ("es", 1))):
                await made.count(people(visits, first=100 * number, language=language))
            await settle(made, clock)

    asyncio.run(count())
    return url


def test_what_holds_is_said_and_what_gives_way_is_named_with_exit_code_1(tmp_path: Path) -> None:
    url = counted(tmp_path, TEXT)
    done = impact("privacy", "audit", IMPACT_DATABASE_URL=url)
    assert done.exit_code == 0
    assert "no hidden cell can be bounded" in done.stdout
    assert "clinic missed has no privacy of its own" in done.stdout
    with closing(sqlite3.connect(tmp_path / "metrics.db")) as database, database:
        database.execute(
            "UPDATE block_cell SET is_hidden = FALSE WHERE series_id IN"
            " (SELECT series_id FROM series WHERE metric = 'visits' AND segment LIKE '%fr%')"
        )
    done = impact("privacy", "audit", "--json", IMPACT_DATABASE_URL=url)
    assert done.exit_code == 1
    (exposure,) = json.loads(done.stdout)["exposures"]
    assert (exposure["metric"], exposure["segment"], exposure["low"]) == ("visits", '{"language":"es"}', 1)
    assert '{"language":"es"}' in impact("privacy", "audit", IMPACT_DATABASE_URL=url).stdout


def test_without_a_protected_metric_the_way_to_one_is_said(tmp_path: Path) -> None:
    done = impact("privacy", "audit", IMPACT_DATABASE_URL=counted(tmp_path, WITHOUT_PRIVACY))
    assert done.exit_code == 1
    assert "no metric is protected" in done.stderr
