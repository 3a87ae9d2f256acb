"""What the columns of a partner's file mean: how each of its rows becomes an event.

A row is known by the columns of `key`: the same key is the same event, whatever the file and the day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, StrictBool

from impact_schemas.catalog.document import Finding
from impact_schemas.catalog.forms import EVENT_TYPE, SOURCE, Part, Scalar, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = r"^[^\s.]+(\.[^\s.]+)*$"


class Column(Part):
    """One value of the data: from a column, or always the same."""

    column: str | None = None
    """the column that has it"""
    value: Scalar | None = None
    """instead of a column: what it always is"""
    type: Literal["string", "integer", "number", "boolean"] = "string"
    """what its cells hold"""
    values: dict[str, Scalar] | None = None
    """what each cell stands for: cell -> value; any other cell is wrong"""
    required: StrictBool = False
    """true: an empty cell is wrong; else the value is absent"""

    @property
    def is_one_thing(self) -> bool:
        """Whether exactly one of `column` and `value` is given."""
        return (self.column is None) != (self.value is None)


class TimeColumn(Part):
    """When what a row tells of happened."""

    column: str
    """the column that has it"""
    format: str | None = None
    """as in strptime, like %Y-%m; without it ISO 8601"""
    zone: str = "UTC"
    """the time zone of times that name none, like Africa/Nairobi"""


class CsvForm(Part):
    """How a CSV file is written."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """what stands between cells"""
    encoding: str = "utf-8-sig"
    """how its characters are written"""
    decimal: Literal[".", ","] = "."
    """what stands before the decimals of a number"""


def _named_column(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class RowMapping(Part):
    """How each row becomes an event."""

    source: Annotated[str, SOURCE]
    """the source of its events, one that the product's keys may write"""
    type: Annotated[str, EVENT_TYPE]
    """the type of its events"""
    key: Annotated[tuple[Text, ...], Field(min_length=1)]
    """the columns that make a row what it is: the same key is the same event"""
    scope: tuple[str, ...] = ()
    """columns of the key: a file replaces only rows with the values that it has there"""
    time: (
        Annotated[TimeColumn, BeforeValidator(_named_column, json_schema_input_type=str | TimeColumn)] | None
    ) = None
    """when it happened: a column, or {column, format, zone}"""
    subject: str | None = None
    """the column that names whom a row is about; only a pseudonym is kept"""
    data: dict[
        Annotated[str, Field(pattern=_PATH)],
        Annotated[Column, BeforeValidator(_named_column, json_schema_input_type=str | Column)],
    ]
    """the event's data: path -> column, or {column or value, type, values, required}"""
    csv: CsvForm = CsvForm()
    """how a CSV file is written: {delimiter, encoding, decimal}"""

    def column_at(self, pointer: str | None) -> str | None:
        """The column that a place in the event comes from."""
        if pointer in ("/time", "/subject"):
            return self.time.column if pointer == "/time" and self.time else self.subject
        path = (pointer or "").removeprefix("/data/").replace("/", ".")
        return self.data[path].column if path in self.data else None

    def columns(self) -> tuple[str, ...]:
        """Every column that a row must have, each once, those of the key first."""
        others = [self.time.column] if self.time else []
        others += [self.subject] if self.subject else []
        named = [column.column for column in self.data.values() if column.column]
        return tuple(dict.fromkeys((*self.key, *others, *named)))

    def open_columns(self, pseudonymous: frozenset[str]) -> frozenset[str]:
        """Columns that the event log has as they are. `pseudonymous`: paths of the data that it has hashed.

        A column that only makes the key is not among them: nobody has said that it may be kept.
        """
        hashed = {column.column for path, column in self.data.items() if path in pseudonymous}
        kept = {column.column for path, column in self.data.items() if path not in pseudonymous}
        kept |= {self.time.column} if self.time else set()
        return frozenset(name for name in kept - hashed - {self.subject} if name is not None)


class FileMapping(RowMapping):
    """A mapping in a file of its own."""

    product: str | None = None
    """whose key of a keys file"""


class ImportForm(RowMapping):
    """A file that partners send again and again."""

    title: Text
    """the name that people read"""


def mapping_faults(mapping: RowMapping) -> Iterator[Finding]:
    """What is wrong with a mapping beyond the form of its fields."""
    for path, column in mapping.data.items():
        if not column.is_one_thing:
            yield Finding(("data", path), "give either `column` or `value`")
        if any(path.startswith(f"{other}.") for other in mapping.data):
            yield Finding(("data", path), "stands below another entry, which is a value of its own")
    for index, name in enumerate(mapping.scope):
        if name not in mapping.key:
            yield Finding(("scope", index), f"{name} is no column of `key`")
    if mapping.time is not None:
        try:
            ZoneInfo(mapping.time.zone)
        except (ZoneInfoNotFoundError, ValueError):
            reason = f"there is no time zone {mapping.time.zone!r}: give one like Africa/Nairobi"
            yield Finding(("time", "zone"), reason)
    try:
        "".encode(mapping.csv.encoding)
    except LookupError:
        reason = f"there is no encoding {mapping.csv.encoding!r}: give one like utf-8 or cp1252"
        yield Finding(("csv", "encoding"), reason)
