"""What a partner is told of a file before it is filled in: its columns, and what their cells may hold."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import msgspec

from impact_schemas.catalog.row_mapping import RowMapping
from impact_schemas.catalog.wording import one_of
from impact_schemas.partner_rows import REMARK, example

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from impact_schemas.catalog.models import Catalog
    from impact_schemas.catalog.row_mapping import Column, ImportForm

_KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no"}
_encode = msgspec.json.Encoder(decimal_format="number").encode


class ColumnHint(msgspec.Struct, frozen=True):
    """One column of a file."""

    name: str
    kind: str  # in plain words
    required: bool
    is_key: bool
    is_personal: bool  # whom a row is about, or what is hashed like that
    allowed: list[str] = []  # the only cells that are right
    unit: str | None = None
    limits: str | None = None
    description: str | None = None

    @property
    def words(self) -> str:
        """All of it in one line."""
        kind = f"one of {one_of(self.allowed)}" if self.allowed else self.kind
        unit = f"{kind} ({self.unit})" if self.unit else kind
        parts = [unit, self.limits, self.description, "needed" if self.required else "may be empty"]
        return ", ".join(part for part in parts if part)


class Described(msgspec.Struct, frozen=True):
    """An import form as the database holds it: all that the page needs of the catalog."""

    mapping: dict[str, Any]
    pseudonymous: list[str]  # paths of the data
    columns: list[ColumnHint]

    def row_mapping(self) -> RowMapping:
        """How each row becomes an event."""
        return RowMapping.model_validate(self.mapping)


def describe(catalog: Catalog, form: ImportForm) -> str:
    """`Described` as JSON."""
    hashed = [path.removeprefix("data.") for path in catalog.events[form.type].pseudonymous]
    mapping = form.model_dump(mode="python", exclude={"title"}, exclude_none=True)
    return _encode(Described(mapping, hashed, list(_hints(catalog, form, frozenset(hashed))))).decode()


def described(text: str) -> Described:
    """What `describe` wrote."""
    return msgspec.json.decode(text, type=Described)


def _hints(catalog: Catalog, form: ImportForm, hashed: frozenset[str]) -> Iterator[ColumnHint]:
    kept = form.open_columns(hashed)
    by_column = {column.column: (path, column) for path, column in form.data.items() if column.column}
    for name in form.columns():
        path, column = by_column.get(name, (None, None))
        schema = {} if path is None else _property(catalog.events[form.type].data, path)
        yield ColumnHint(
            name=name,
            kind=_kind(name, form, column),
            required=name in (*form.key, form.subject)
            or _is_time(name, form)
            or bool(column and column.required),
            is_key=name in form.key,
            is_personal=name not in kept,
            allowed=[] if column is None else _allowed(column, schema),
            unit=None if path is None else _unit(catalog, form.type, path),
            limits=_limits(schema),
            description=schema.get("description"),
        )


def _is_time(name: str, form: ImportForm) -> bool:
    return form.time is not None and form.time.column == name


def _kind(name: str, form: ImportForm, column: Column | None) -> str:
    if form.time is not None and form.time.column == name:
        return f"time, written like {example(form.time)}"
    return _KINDS["string" if column is None else column.type]


def _allowed(column: Column, schema: dict[str, Any]) -> list[str]:
    if column.values is not None:
        return list(column.values)
    return [str(value) for value in schema.get("enum", []) if isinstance(value, str)]


def _property(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """What the schema itself says of a path; nothing where it says it in another way."""
    for step in path.split("."):
        schema = schema.get("properties", {}).get(step, {})
        if not isinstance(schema, dict):
            return {}
    return schema


def _unit(catalog: Catalog, event_type: str, path: str) -> str | None:
    """That of the first metric which measures what stands there."""
    for metric in catalog.metrics.values():
        if metric.of == f"data.{path}" and event_type in (metric.event or ()) and metric.unit != "1":
            return metric.unit.strip("{}")
    return None


def _limits(schema: dict[str, Any]) -> str | None:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{least} to {most}"
    if least is not None:
        return f"{least} or more"
    return None if most is None else f"at most {most}"


def remarks(columns: Sequence[ColumnHint]) -> list[str]:
    """The template's second line: readers pass over a line whose first cell begins like this one's."""
    first, *others = [column.words for column in columns]
    return [REMARK + first, *others]


def csv_template(columns: Sequence[ColumnHint], mapping: RowMapping) -> bytes:
    """A CSV file with the columns, and a line of remarks."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=mapping.csv.delimiter, lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    writer.writerow(remarks(columns))
    return text.getvalue().encode(mapping.csv.encoding, "replace")
