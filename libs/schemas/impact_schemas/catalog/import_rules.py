"""What a partner's file must fulfil in a catalog: event type, source, and paths and values of the data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from impact_schemas.catalog.data_shape import NUMERIC, Described, NoSuchPathError
from impact_schemas.catalog.document import Finding, Path
from impact_schemas.catalog.row_mapping import mapping_faults
from impact_schemas.catalog.wording import one_of, shown, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_schemas.catalog.metric_rules import Events
    from impact_schemas.catalog.models import Catalog, EventType
    from impact_schemas.catalog.row_mapping import Column, ImportForm


def check_imports(catalog: Catalog, events: Events) -> Iterator[Finding]:
    """`events`: the types of the file that could be read."""
    for name, form in catalog.imports.items():
        here: Path = ("imports", name)
        for fault in mapping_faults(form):
            yield Finding((*here, *fault.path), fault.reason)
        yield from _check_source(here, form, catalog)
        if form.type in events.types:
            yield from _check_subject(here, form, events.types[form.type])
            yield from _check_data(here, form, events)
        elif events.known is not None and form.type not in events.known:
            yield Finding((*here, "type"), unknown("event type", form.type, events.known))


def _check_source(here: Path, form: ImportForm, catalog: Catalog) -> Iterator[Finding]:
    if "*" in form.source:
        yield Finding((*here, "source"), f"expected one source, found the pattern {form.source}")
    elif not any(_matches(pattern, form.source) for pattern in catalog.sources):
        reason = f"{form.source} is none of the catalog's sources ({one_of(catalog.sources)})"
        yield Finding((*here, "source"), reason)


def _matches(pattern: str, source: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), source, re.DOTALL) is not None


def _check_subject(here: Path, form: ImportForm, event: EventType) -> Iterator[Finding]:
    if event.subject == "required" and form.subject is None:
        yield Finding(
            (*here, "type"), f"events of type {form.type} name their subject: give its column as subject"
        )
    if event.subject == "none" and form.subject is not None:
        yield Finding((*here, "subject"), f"events of type {form.type} have no subject")
    hashed = frozenset(path.removeprefix("data.") for path in event.pseudonymous)
    hidden = set(form.key) - form.open_columns(hashed)
    for index, name in enumerate(form.scope):
        if name in hidden:
            reason = f"{name} is not kept as it is (it is personal, or in no event): it cannot bound a file"
            yield Finding((*here, "scope", index), reason)


def _check_data(here: Path, form: ImportForm, events: Events) -> Iterator[Finding]:
    shape = events.shapes.get(form.type)
    if shape is None:
        return
    for path, column in form.data.items():
        where = (*here, "data", path)
        try:
            described = shape.at(f"data.{path}")
        except NoSuchPathError as error:
            yield Finding(where, str(error))
            continue
        for value in _values(column):
            if not described.allows(value):
                yield Finding(where, f"{shown(value)} cannot stand at data.{path}")
        if column.column is not None and column.values is None and not _fits(column, described):
            reason = f"data.{path} is {described.names()}: its column has the type {column.type}"
            yield Finding(where, reason)


def _values(column: Column) -> Iterator[object]:
    if column.value is not None:
        yield column.value
    yield from (column.values or {}).values()


def _fits(column: Column, described: Described) -> bool:
    if column.type == "number":
        return bool(described.types & NUMERIC)
    return column.type in described.types
