"""`impact explain`: one number, what it is made of, what was left out, and the SQL that gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.markup import escape
from rich.table import Table

from impact_aggregator.verify import Explanation, Scope, explain
from impact_cli.terminal import Refused, WrongUse, shown
from impact_cli.verify import open_log, progress
from impact_database.engine import connect
from impact_database.migrate import check
from impact_schemas.identity import Identities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from impact_aggregator.verify import Facts
    from impact_cli.settings import Settings

_encode_segment = msgspec.json.Encoder(order="sorted").encode


async def read(
    settings: Settings, scope: Scope, segment: str, window: str | None, *, with_log: bool
) -> Explanation:
    """Raises WrongUse, Refused, SettingsError, SchemaOutOfDate, LogError."""
    engine = connect(settings.required_database_url())
    try:
        await check(engine)
        with progress() as tell:
            return await explain(
                engine,
                open_log(settings) if with_log else None,
                Identities(settings.master_key()) if with_log else None,
                scope,
                segment=canonical_segment(segment),
                window=window,
                progress=tell,
            )
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


def show(found: Explanation, console: Console) -> None:
    """Two columns, then the SQL."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(found):
        table.add_row(name, escape(text))
    console.print(table)
    for statement in found.sql:
        console.print(f"\n{statement}", markup=False)


def _lines(found: Explanation) -> Iterator[tuple[str, str]]:
    unit = "" if found.unit == "1" else f" {found.unit}"
    yield "metric", f"{found.title} ({found.product} {found.metric}, version {found.version})"
    yield "value", f"{shown(found.value)}{unit if found.value is not None else ''}, {found.status}"
    yield "of", "-" if found.n is None else f"{found.n:,} events"
    since = found.window_start or "the first event"
    yield "window", f"{found.window}: {since} to {found.as_of} UTC"
    yield "segment", found.segment
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


def _definition(found: Explanation) -> str:
    entry = msgspec.json.decode(found.definition)
    parts = (
        *("event", "where", "consent", "aggregate", "of", "per"),
        *("unit_path", "factor", "factor_set", "scale"),
        *("ratio", "sum_of", "difference", "dimensions", "cuts"),
    )
    said = {name: entry[name] for name in parts if entry.get(name)}
    return msgspec.json.encode(said).decode()


def _facts(facts: Facts) -> str:
    return (
        f"{facts.counted:,} counted, {facts.late:,} of them late and {facts.corrected:,} corrected;"
        f" {facts.retracted:,} taken back; {facts.left_out:,} of its types do not belong to it"
    )
