"""Quarantine's queries, on both databases."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, text

from impact_cli import quarantine
from impact_cli.settings import Settings
from impact_database.engine import connect
from impact_database.migrate import upgrade
from impact_schemas.catalog import parse_catalogs
from impact_schemas.tables import quarantine as table
from tests.cli.service import CATALOG, visit

if TYPE_CHECKING:
    from pathlib import Path

RECEIVED_AT = 1_790_000_000_000_000
CATALOGS = parse_catalogs({"clinic.yaml": CATALOG.format(product="clinic")})


async def filled(database_url: str, folder: Path, count: int) -> Settings:
    """A database with `count` events in quarantine: every third can be counted now."""
    codes = ("unknown_type", "id_conflict", "schema_violation")
    rows = [
        {
            "topic": ("impact.quarantine.v1", "impact.events.v1")[number % 2],
            "partition": number % 4,
            "offset": number // 16,
            "position": number,
            "product": "clinic",
            "code": codes[number % 3],
            "detail": "as it was",
            "received_at": RECEIVED_AT + number,
            "event_id": f"visit-{number}",
            "event_source": "/clinic/north",
            "event_type": "clinic.visit.v1",
            "payload": json.dumps(visit(number, minutes=-1 if number % 3 == 2 else 1)),
        }
        for number in range(count)
    ]
    engine = connect(database_url)
    await upgrade(engine)
    async with engine.begin() as connection:
        await connection.execute(insert(table), rows)
    await engine.dispose()
    plain_url = database_url.replace("+aiosqlite", "")
    return Settings(
        database_url=plain_url, event_log=f"sqlite:///{folder / 'events.db'}", pseudonym_key="k" * 32
    )


async def test_a_replay_takes_every_page_once_and_marks_what_it_appended(
    database_url: str, tmp_path: Path
) -> None:
    settings = await filled(database_url, tmp_path, 30)
    settings = settings.model_copy(update={"kafka_quarantine_topic": "impact.quarantine.v1"})
    everything = quarantine.Filter()
    found = await quarantine.listed(settings, everything, limit=4)
    assert {(one.code, one.count, one.replayed) for one in found.counts} == {
        ("unknown_type", 10, 0),
        ("id_conflict", 10, 0),
        ("schema_violation", 10, 0),
    }
    assert [entry.event_id for entry in found.entries] == ["visit-29", "visit-28", "visit-27", "visit-26"]

    by_pages = await quarantine.replay(settings, CATALOGS, everything, dry_run=True, page_rows=7)
    assert by_pages.outcomes == {"replayed": 10, "not replayable": 10, "refused": 10}
    some = quarantine.Filter(since=RECEIVED_AT + 6, until=RECEIVED_AT + 9)
    assert (await quarantine.replay(settings, CATALOGS, some, dry_run=False)).outcomes == {
        "replayed": 1,
        "not replayable": 1,
        "refused": 1,
    }
    rest = await quarantine.replay(settings, CATALOGS, everything, dry_run=False, page_rows=7)
    assert rest.outcomes == {"replayed": 9, "not replayable": 10, "refused": 10}

    log = connect(settings.event_log)
    async with log.connect() as connection:
        rows = await connection.execute(text("SELECT received_at, payload FROM record"))
        kept = {json.loads(row.payload)[0]["id"]: row.received_at for row in rows}
    await log.dispose()
    assert kept == {f"visit-{number}": RECEIVED_AT + number for number in range(0, 30, 3)}
    engine = connect(database_url)
    async with engine.connect() as connection:
        marked = await connection.execute(select(table.c.event_id).where(table.c.replayed_at.is_not(None)))
        assert {row.event_id for row in marked} == kept.keys()
    await engine.dispose()


async def test_an_event_is_shown_by_the_name_in_the_list(sqlite_url: str, tmp_path: Path) -> None:
    settings = await filled(sqlite_url, tmp_path, 2)
    names = [entry.name for entry in (await quarantine.listed(settings, quarantine.Filter(), 9)).entries]
    assert names == ["e1.0.1", "q0.0.0"]
    shown = await quarantine.shown(settings, "e1.0.1")
    assert (shown.entry.event_id, "send a correction" in shown.next_step) == ("visit-1", True)
