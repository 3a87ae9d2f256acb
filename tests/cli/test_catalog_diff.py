"""`impact catalog diff`: which numbers a change of the files changes, and which only words."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from impact_aggregator.active import activate
from impact_cli.catalog_diff import against_database
from impact_database.engine import connect
from impact_database.migrate import upgrade
from impact_schemas.catalog import parse_catalogs
from tests.cli.in_process import impact
from tests.cli.service import CATALOG

if TYPE_CHECKING:
    from pathlib import Path

    from impact_cli.catalog_diff import Change

TEXT = CATALOG.format(product="clinic") + (
    "  per_visit: {title: Per visit, ratio: {numerator: minutes, denominator: visits}, role: impact}\n"
)


async def activated(url: str) -> None:
    engine = connect(url)
    await upgrade(engine)
    await activate(engine, parse_catalogs({"clinic.yaml": TEXT}), now=1)
    await engine.dispose()


async def changes(url: str, text: str) -> dict[str, Change]:
    found = await against_database(url, parse_catalogs({"clinic.yaml": text}))
    return {change.metric: change for change in found}


async def test_the_same_catalog_changes_nothing(database_url: str) -> None:
    await activated(database_url)
    assert await changes(database_url, TEXT) == {}


async def test_words_are_told_from_numbers(database_url: str) -> None:
    await activated(database_url)
    worded = await changes(database_url, TEXT.replace("title: Visits", "title: All visits"))
    assert [(name, one.kind) for name, one in worded.items()] == [("visits", "words")]
    assert [(one.name, one.before, one.after) for one in worded["visits"].fields] == [
        ("title", "Visits", "All visits")
    ]
    counted = await changes(database_url, TEXT.replace("aggregate: sum", "aggregate: max"))
    assert counted["minutes"].kind == "numbers"
    # a ratio's own words are the same, its numbers are not
    assert (counted["per_visit"].kind, counted["per_visit"].because_of) == ("numbers", ["minutes"])
    assert set(counted) == {"minutes", "per_visit"}


EDITIONS = (
    CATALOG.format(product="clinic").replace(
        "aggregate: sum, of: data.minutes", "aggregate: sum, of: data.minutes, factor: rate"
    )
    + "  twice: {title: Twice, sum_of: [minutes, others], unit: min, role: impact}\n"
    + "  others: {title: O, event: clinic.visit.v1, aggregate: sum, of: data.minutes,"
    + " unit: min, role: impact}\n"
    + "  per_visit: {title: Per visit, ratio: {numerator: twice, denominator: visits}, role: impact}\n"
    + 'factors: {rate: {unit: "1", editions: [{version: "2024", valid_from: 2024-01-01, value: 0.5}]}}\n'
)


async def test_a_new_edition_changes_the_numbers_of_all_that_is_made_with_it(sqlite_url: str) -> None:
    engine = connect(sqlite_url)
    await upgrade(engine)
    await activate(engine, parse_catalogs({"clinic.yaml": EDITIONS}), now=1)
    await engine.dispose()
    found = await changes(
        sqlite_url,
        EDITIONS.replace("value: 0.5}", 'value: 0.5}, {version: "2026", valid_from: 2026-01-01, value: 0.4}'),
    )
    assert {name: (one.kind, one.because_of) for name, one in found.items()} == {
        "minutes": ("numbers", []),
        "twice": ("numbers", ["minutes"]),
        "per_visit": ("numbers", ["minutes"]),
    }
    (field,) = found["minutes"].fields
    assert [edition["version"] for edition in field.after["editions"]] == ["2024", "2026"]


async def test_metrics_that_come_and_go_are_named(sqlite_url: str) -> None:
    await activated(sqlite_url)
    text = TEXT.replace("  people:", "  persons:")
    found = await changes(sqlite_url, text)
    assert {name: one.kind for name, one in found.items()} == {"people": "removed", "persons": "added"}
    assert [one.touches_numbers for one in found.values()] == [True, False]


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("", "", 0, "nothing changes"),
        ("title: Visits", "title: All visits", 0, "only words"),
        ("aggregate: sum", "aggregate: max", 1, "its numbers change"),
    ],
)
def test_the_exit_code_is_one_if_a_number_changes(
    tmp_path: Path, old: str, new: str, code: int, said: str
) -> None:
    url = f"sqlite:///{tmp_path / 'metrics.db'}"
    asyncio.run(activated(url))
    file = tmp_path / "clinic.yaml"
    file.write_text(TEXT.replace(old, new) if old else TEXT)
    told = impact("catalog", "diff", str(file), "--data", str(tmp_path))
    assert (told.exit_code, said in told.stdout) == (code, True), told.stdout
    as_json = json.loads(impact("catalog", "diff", str(file), "--json", IMPACT_DATABASE_URL=url).stdout)
    assert len(as_json) == (0 if not old else 1 if code == 0 else 2)
