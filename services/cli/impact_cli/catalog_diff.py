"""`impact catalog diff`: catalog files against the catalog that is in force in the database.

The database keeps the definitions of metrics; what events may hold is not compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from impact_database.engine import connect, read_only
from impact_database.migrate import check
from impact_schemas.catalog.metric import sources_of
from impact_schemas.tables import metric_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console
    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_schemas.catalog import Catalog

Kind = Literal["added", "removed", "numbers", "words"]
STYLES: dict[str, str] = {"numbers": "red", "removed": "red", "added": "green"}
TEXTS: dict[str, str] = {
    "numbers": "its numbers change: they begin anew in the next version",
    "words": "only words and presentation change",
}

Name = tuple[str, str]  # product, metric


class Field(msgspec.Struct, frozen=True):
    """One field of a metric, before and after; None: it is not there."""

    name: str
    before: Any
    after: Any


class Change(msgspec.Struct, frozen=True):
    """One metric that differs. `numbers`: what decides its numbers does, or those it is made of."""

    product: str
    metric: str
    kind: Kind
    fields: list[Field]
    because_of: list[str]  # the metrics that it is made of whose numbers change

    @property
    def touches_numbers(self) -> bool:
        """Whether numbers that people look at now become others or go away."""
        return self.kind in ("numbers", "removed")


class Active(msgspec.Struct, frozen=True):
    """A metric's definition that is in force."""

    counting_hash: str
    definition: dict[str, Any]


async def against_database(url: str, catalogs: Mapping[str, Catalog]) -> list[Change]:
    """What would change if `catalogs` became the active ones. Raises SchemaOutOfDate."""
    engine = connect(url)
    try:
        await check(engine)
        async with read_only(engine).connect() as connection:
            active = await _active(connection)
    finally:
        await engine.dispose()
    return changes(active, catalogs)


async def _active(connection: AsyncConnection) -> dict[Name, Active]:
    table = metric_version.c
    query = select(table.product, table.metric, table.counting_hash, table.definition).where(table.active)
    return {
        (row.product, row.metric): Active(row.counting_hash, msgspec.json.decode(row.definition))
        for row in await connection.execute(query)
    }


def changes(active: Mapping[Name, Active], catalogs: Mapping[str, Catalog]) -> list[Change]:
    """The metrics that differ, sorted by name. Pure."""
    files = {
        (product, name): metric
        for product, catalog in catalogs.items()
        for name, metric in catalog.metrics.items()
    }
    recounted = {
        name
        for name in files.keys() & active.keys()
        if _counts_otherwise(active[name], catalogs[name[0]], name[1])
    }
    found = []
    for name in sorted(files.keys() | active.keys()):
        if name not in files:
            found.append(Change(*name, "removed", [], []))
        elif name not in active:
            found.append(Change(*name, "added", [], []))
        else:
            found.extend(_changed(name, active[name], catalogs[name[0]], recounted))
    return found


def _counts_otherwise(active: Active, catalog: Catalog, metric: str) -> bool:
    from impact_aggregator.active import counting_hash

    return counting_hash(catalog, metric) != active.counting_hash


def _changed(name: Name, active: Active, catalog: Catalog, recounted: set[Name]) -> Iterator[Change]:
    sources = dict.fromkeys(sources_of(name[1], catalog.metrics))
    because_of = [part for part in sources if part != name[1] and (name[0], part) in recounted]
    fields = _differences(active.definition, _definition(catalog, name[1]))
    if name in recounted or because_of:
        yield Change(*name, "numbers", fields, because_of)
    elif fields:
        yield Change(*name, "words", fields, [])


def _definition(catalog: Catalog, metric: str) -> dict[str, Any]:
    """In the form in which the database keeps it."""
    from impact_aggregator.active import definition

    found: dict[str, Any] = msgspec.json.decode(definition(catalog, metric))
    return found


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[Field]:
    return [
        Field(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def show(found: list[Change], console: Console) -> None:
    """A line for each metric, and what of it differs."""
    if not found:
        console.print("the metrics are those that are in force: nothing changes")
        return
    table = Table("metric", "change", "what")
    for one in found:
        lines = [f"{field.name}: {_text(field.before)} -> {_text(field.after)}" for field in one.fields]
        lines += [f"{part}, which it is made of, is counted otherwise" for part in one.because_of]
        if one.kind in TEXTS:
            lines.append(TEXTS[one.kind])
        cells = (f"{one.product} {one.metric}", one.kind, "\n".join(lines))
        table.add_row(*map(escape, cells), style=STYLES.get(one.kind))
    console.print(table)


def _text(value: Any) -> str:
    return "-" if value is None else msgspec.json.encode(value).decode()
