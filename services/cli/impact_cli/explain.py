"""`impact explain`: one number, what it is made of, what was left out, and the SQL that gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.markup import escape
from rich.table import Table
from sqlalchemy import text as sql

from impact_aggregator.verify import Explanation, Scope, explain
from impact_cli.terminal import Refused, WrongUse
from impact_cli.verify import open_log, progress
from impact_database.engine import connect, read_only
from impact_database.migrate import check
from impact_schemas import definitions, wording
from impact_schemas.identity import Identities
from impact_schemas.wording import Unit, units_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from impact_aggregator.verify import Facts
    from impact_cli.settings import Settings

METRICS = sql("SELECT product, metric, unit, definition FROM metrics WHERE product = :product")

_encode_segment = msgspec.json.Encoder(order="sorted").encode


async def read(
    settings: Settings, scope: Scope, segment: str, window: str | None, *, with_log: bool
) -> tuple[Explanation, Unit]:
    """The explanation, and how the metric's values are written.

    Raises WrongUse, Refused, SettingsError, SchemaOutOfDate, LogError.
    """
    engine = connect(settings.required_database_url())
    try:
        await check(engine)
        with progress() as tell:
            found = await explain(
                engine,
                open_log(settings) if with_log else None,
                Identities(settings.master_key()) if with_log else None,
                scope,
                segment=canonical_segment(segment),
                window=window,
                progress=tell,
            )
        async with read_only(engine).connect() as connection:
            metrics = await connection.execute(METRICS, {"product": found.product})
            units = units_of([row._asdict() for row in metrics])
        return found, units[found.product, found.metric]
    except LookupError as error:
        raise Refused(str(error)) from error
    finally:
        await engine.dispose()


def canonical_segment(text: str) -> str:
    """The segment as the views write it. Raises WrongUse."""
    try:
        return _encode_segment(
            msgspec.json.decode(text, type=dict[str, str | int | float | bool | None])
        ).decode()
    except msgspec.MsgspecError as error:
        raise WrongUse(
            f'--segment takes JSON like {{"language":"es"}}, and {{}} for the total: {error}'
        ) from error


def show(found: Explanation, unit: Unit, console: Console) -> None:
    """Two columns, then the SQL."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(found, unit):
        table.add_row(name, escape(text))
    console.print(table)
    for statement in found.sql:
        console.print(f"\n{statement}", markup=False)


def _lines(found: Explanation, unit: Unit) -> Iterator[tuple[str, str]]:
    yield "metric", f"{found.title} ({found.product} {found.metric}, version {found.version})"
    yield "value", _value(found, unit)
    yield "of", "-" if found.n is None else f"{found.n:,} events"
    since = found.window_start or "the first event"
    yield "window", f"{wording.window(found.window)}: {since[:19]} to {found.as_of[:19]} UTC"
    yield "segment", wording.segment(found.segment)
    yield "evidence", ", ".join(filter(None, (found.evidence, found.method, found.source, found.owner)))
    yield "definition", _definition(found)
    for facts in found.facts or ():
        yield f"log: {facts.metric}", _facts(facts)
    if found.facts is None:
        yield "log", "not read: late, corrected and retracted events are not known"
    yield "duplicates", f"{found.duplicates:,} copies of events of the product, not counted again"
    codes = ", ".join(f"{count:,} {code}" for code, count in found.quarantined.items())
    yield "quarantine", codes or "none of its event types"
    yield "suppressed", f"{found.suppressed:,} cells of the metric in this window"
    yield "log range", ", ".join(f"{place} before {end:,}" for place, end in found.log_range.items())


def _value(found: Explanation, unit: Unit) -> str:
    """For people, and then as it is."""
    if found.value is None:
        return found.status.replace("_", " ")
    return f"{unit.of(found.value)}, {found.status} (exactly {wording.exact(found.value)})"


def _definition(found: Explanation) -> str:
    """The rule, and what else decides the number, as the catalog has it."""
    entry = msgspec.json.decode(found.definition)
    parts = ("per", "consent", "unit_path", "factor", "factor_set", "scale", "cuts")
    others = [f"{name} {msgspec.json.encode(entry[name]).decode()}" for name in parts if entry.get(name)]
    split = [f"split by {', '.join(entry['dimensions'])}"] if entry.get("dimensions") else []
    return "; ".join([definitions.rule(entry), *others, *split])


def _facts(facts: Facts) -> str:
    return (
        f"{facts.counted:,} counted, {facts.late:,} of them late and {facts.corrected:,} corrected;"
        f" {facts.retracted:,} taken back; {facts.left_out:,} of its types do not belong to it"
    )
