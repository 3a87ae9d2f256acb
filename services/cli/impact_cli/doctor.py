"""`impact doctor`: each check of the installation, with what is wrong and the one next command."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from rich.markup import escape
from rich.table import Table
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

from impact_cli import catalogs, event_logs
from impact_cli.lag import records_behind
from impact_cli.settings import SettingsError, misspelt
from impact_cli.terminal import database_trouble
from impact_database.engine import SchemaOutOfDate, connect, read_only
from impact_database.keys import active_keys
from impact_database.migrate import check
from impact_eventlog.ports import LogError
from impact_schemas.catalog import CatalogFaults
from impact_schemas.tables import quarantine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import Console
    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_cli.settings import Settings

MIN_FREE_BYTES = 2**30
MAX_CLOCK_DIFFERENCE_S = 5.0  # events more than 5 minutes ahead are refused: a clock must be far closer
MAX_LAG_RECORDS = 1_000
MAX_REFUSED_IN_AN_HOUR = 1_000


class Check(msgspec.Struct, frozen=True):
    """One finding; `next` is the command or step that mends it."""

    name: str
    ok: bool
    found: str
    next: str | None = None


class Trouble(Exception):
    """A check that failed."""

    def __init__(self, found: str, next_step: str) -> None:
        super().__init__(found)
        self.found = found
        self.next = next_step


class Place(NamedTuple):
    """What the checks look at."""

    settings: Settings
    engine: AsyncEngine


async def examine(read_settings: Callable[[], Settings]) -> list[Check]:
    """Every check, in the order in which one would mend them; without settings the others are not made."""
    try:
        settings = read_settings()
        engine = connect(settings.required_database_url())
    except SettingsError as error:
        return [Check("settings", ok=False, found=str(error), next="set it, then: impact doctor")]
    place = Place(settings, engine)
    try:
        return [await _one(name, look, place) for name, look in CHECKS]
    finally:
        await engine.dispose()


async def _one(name: str, look: Callable[[Place], Awaitable[str]], place: Place) -> Check:
    try:
        return Check(name, ok=True, found=await look(place))
    except Trouble as trouble:
        return Check(name, ok=False, found=trouble.found, next=trouble.next)
    except (SQLAlchemyError, OSError) as error:
        return Check(name, ok=False, found=database_trouble(error), next="mend 'database' first")


async def _settings(place: Place) -> str:
    wrong = misspelt(_limit_names())
    if wrong:
        raise Trouble("; ".join(wrong), f"unset {wrong[0].split()[0]}")
    return f"event log {place.settings.event_log}"


def _limit_names() -> tuple[str, ...]:
    """Limits are settings where their service is installed."""
    try:
        from impact_cli.http_heads import HeadLimits
        from impact_ingest.limits import Limits
    except ModuleNotFoundError:
        return ()
    return tuple(field.name for field in (*fields(Limits), *fields(HeadLimits)))


async def _catalog(place: Place) -> str:
    try:
        found = catalogs.load(path := place.settings.catalog_path())
    except CatalogFaults as faults:
        raise Trouble(f"{len(faults.faults)} faults in {path}", f"impact catalog check {path}") from faults
    except (catalogs.NoCatalog, SettingsError) as error:
        raise Trouble(str(error), "impact doctor --catalog FOLDER") from error
    return f"{', '.join(sorted(found))} in {path}"


async def _pseudonym_key(place: Place) -> str:
    try:
        place.settings.master_key()
    except SettingsError as error:
        raise Trouble(
            str(error), "restore the key from its backup: a new one counts everybody anew"
        ) from error
    file = place.settings.pseudonym_key_file
    if place.settings.pseudonym_key is None and file is not None and file.stat().st_mode & 0o077:
        raise Trouble(f"{file} can be read by others", f"chmod 600 {file}")
    return "set" if file is None else f"in {file}"


async def _database(place: Place) -> str:
    url = make_url(place.settings.required_database_url())
    where = url.render_as_string(hide_password=True)
    file = _database_file(place)
    if file is not None and not file.exists():
        raise Trouble(f"there is no file {file}", "impact up, or: impact migrate")
    try:
        await check(place.engine)
    except SchemaOutOfDate as error:
        raise Trouble(str(error), "impact migrate") from error
    except (SQLAlchemyError, OSError) as error:
        raise Trouble(
            database_trouble(error), "start the database, or correct IMPACT_DATABASE_URL"
        ) from error
    return f"{where}, schema up to date"


async def _clock(place: Place) -> str:
    if place.engine.dialect.name == "sqlite":
        return "the database uses this machine's"
    async with read_only(place.engine).connect() as connection:
        theirs = (await connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))).scalar_one()
    difference = abs(time.time() - float(theirs))
    if difference > MAX_CLOCK_DIFFERENCE_S:
        raise Trouble(f"{difference:.0f} s between this machine and the database", "timedatectl set-ntp true")
    return f"{difference:.1f} s between this machine and the database"


async def _keys(place: Place) -> str:
    async with read_only(place.engine).connect() as connection:
        products = set(await connection.scalars(text("SELECT product FROM products")))
    now = time.time_ns() // 1000
    usable = {
        key.product
        for key in await active_keys(place.engine)
        if "write" in key.scopes and (key.expires_at is None or key.expires_at > now)
    }
    if lacking := sorted(products - usable):
        raise Trouble(f"no key to write with: {', '.join(lacking)}", f"impact keys create {lacking[0]}")
    return f"{len(products)} products, each with a key to write with"


async def _event_log(place: Place) -> str:
    try:
        ends = await event_logs.end_offsets(place.settings)
    except LogError as error:
        raise Trouble(str(error), "start it, or correct IMPACT_EVENT_LOG") from error
    return f"{sum(ends.values()):,} records in {len(ends)} partitions"


async def _lag(place: Place) -> str:
    try:
        behind = await records_behind(place.settings, place.engine)
    except LogError as error:
        raise Trouble("not known without the event log", "mend 'event log' first") from error
    if behind > MAX_LAG_RECORDS:
        raise Trouble(f"{behind:,} records are not yet counted", "impact up, or: impact aggregator")
    return f"{behind:,} records are not yet counted"


async def _quarantine(place: Place) -> str:
    an_hour_ago = time.time_ns() // 1000 - 3_600_000_000
    query = (
        select(quarantine.c.product, func.count().label("refused"))
        .where(quarantine.c.received_at > an_hour_ago, quarantine.c.replayed_at.is_(None))
        .group_by(quarantine.c.product)
        .order_by(func.count().desc())
    )
    async with read_only(place.engine).connect() as connection:
        found = (await connection.execute(query)).all()
    if found and found[0].refused > MAX_REFUSED_IN_AN_HOUR:
        product, refused = found[0]
        raise Trouble(
            f"{refused:,} events of {product} came in the last hour: a sender or the catalog is wrong",
            f"impact quarantine list --product {product}",
        )
    return f"{sum(one.refused for one in found):,} events came in the last hour"


async def _disk(place: Place) -> str:
    file = _database_file(place)
    if file is None:
        return "nothing is kept on this machine"
    folder = file.parent
    if not os.access(folder, os.W_OK):
        raise Trouble(f"{folder} cannot be written to", f"chown -R {os.getuid()} {folder}")
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise Trouble(f"{free / 2**20:,.0f} MiB are free in {folder}", f"df -h {folder}, and make room")
    return f"{free / 2**30:,.0f} GiB are free in {folder}"


def _database_file(place: Place) -> Path | None:
    url = make_url(place.settings.required_database_url())
    return Path(url.database or "").absolute() if url.get_backend_name() == "sqlite" else None


CHECKS: tuple[tuple[str, Callable[[Place], Awaitable[str]]], ...] = (
    ("settings", _settings),
    ("catalog", _catalog),
    ("pseudonym key", _pseudonym_key),
    ("disk", _disk),
    ("database", _database),
    ("clock", _clock),
    ("keys", _keys),
    ("event log", _event_log),
    ("lag", _lag),
    ("quarantine", _quarantine),
)


def show(checks: list[Check], console: Console) -> None:
    """A line a check; the next command under each that failed."""
    table = Table("check", "", "found")
    for one in checks:
        found = escape(one.found) + (f"\n[bold]next: {escape(one.next)}[/]" if one.next else "")
        table.add_row(one.name, "[green]ok[/]" if one.ok else "[red]wrong[/]", found)
    console.print(table)
