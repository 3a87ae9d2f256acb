"""What the rows of a partner's CSV file mean: a mapping file, and the reading of rows by it.

A row is known by the columns of `key`: the same key is the same event, whatever the file and the day.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from impact_cli.terminal import WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Scalar = str | bool | int | float
_PATH = r"^[^\s.]+(\.[^\s.]+)*$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Part):
    """One value of the data: from a column, or always the same."""

    column: str | None = None
    value: Scalar | None = None
    type: Literal["string", "integer", "number", "boolean"] = "string"
    values: dict[str, Scalar] | None = None  # cell -> value; any other cell is wrong
    required: bool = False  # an empty cell is wrong; else the value is absent

    @property
    def is_one_thing(self) -> bool:
        """Whether exactly one of `column` and `value` is given."""
        return (self.column is None) != (self.value is None)


class TimeColumn(_Part):
    """When what a row tells of happened. `format` as in strptime; without it ISO 8601."""

    column: str
    format: str | None = None
    zone: str = "UTC"


class CsvForm(_Part):
    """How the file is written."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8-sig"
    decimal: Literal[".", ","] = "."


def _named_column(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


DataPath = Annotated[str, Field(pattern=_PATH)]


class RowMapping(_Part):
    """A mapping file."""

    product: str | None = None  # whose key of a keys file
    source: Annotated[str, Field(min_length=1)]
    type: Annotated[str, Field(min_length=1)]
    key: Annotated[tuple[str, ...], Field(min_length=1)]
    scope: tuple[str, ...] = ()  # key columns: a file replaces only rows with the values that it has there
    time: Annotated[TimeColumn, BeforeValidator(_named_column)] | None = None
    subject: str | None = None
    data: dict[DataPath, Annotated[Column, BeforeValidator(_named_column)]]
    csv: CsvForm = CsvForm()

    def column_at(self, pointer: str | None) -> str | None:
        """The column that a place in the event comes from."""
        if pointer in ("/time", "/subject"):
            return self.time.column if pointer == "/time" and self.time else self.subject
        path = (pointer or "").removeprefix("/data/").replace("/", ".")
        return self.data[path].column if path in self.data else None

    def columns(self) -> set[str]:
        """Every column that a row must have."""
        named = {column.column for column in self.data.values() if column.column}
        others = {self.time.column} if self.time else set()
        return named | others | set(self.key) | ({self.subject} if self.subject else set())


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a row says. Two rows with the same content are the same."""

    type: str
    data: dict[str, Any]
    time: str | None = None
    subject: str | None = None


class Row(NamedTuple):
    """One right row."""

    line: int
    key: tuple[str, ...]
    content: Content


class Wrong(msgspec.Struct, frozen=True):
    """One thing that is wrong with one row."""

    line: int
    column: str | None
    reason: str


@dataclass(frozen=True)
class Rows:
    """A file as read: right rows, one a key, and what is wrong with the others."""

    right: list[Row]
    wrong: list[Wrong]


# --- the mapping file ---------------------------------------------------------------------------------


def read_mapping(file: Path) -> RowMapping:
    """The mapping. Raises WrongUse with everything that is wrong with it."""
    try:
        document = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
        mapping = RowMapping.model_validate(document)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise WrongUse(f"cannot read the mapping {file}: {error}") from error
    except ValidationError as error:
        faults = [
            f"{file}: {'.'.join(map(str, fault['loc'])) or 'the mapping'}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        ]
        raise WrongUse("\n".join(faults)) from error
    if faults := list(_faults(mapping)):
        raise WrongUse("\n".join(f"{file}: {fault}" for fault in faults))
    return mapping


def _faults(mapping: RowMapping) -> Iterator[str]:
    for path, column in mapping.data.items():
        if not column.is_one_thing:
            yield f"data.{path}: give either `column` or `value`"
        if any(path.startswith(f"{other}.") for other in mapping.data):
            yield f"data.{path}: stands below another entry, which is a value of its own"
    for name in mapping.scope:
        if name not in mapping.key:
            yield f"scope: {name} is no column of `key`"
    if mapping.time is not None:
        try:
            ZoneInfo(mapping.time.zone)
        except (ZoneInfoNotFoundError, ValueError):
            yield f"time.zone: there is no time zone {mapping.time.zone!r}: give one like Africa/Nairobi"
    try:
        "".encode(mapping.csv.encoding)
    except LookupError:
        yield f"csv.encoding: there is no encoding {mapping.csv.encoding!r}: give one like utf-8 or cp1252"


# --- rows ---------------------------------------------------------------------------------------------


def read_rows(content: bytes, mapping: RowMapping) -> Rows:
    """The rows of a file. Raises WrongUse where the file as a whole does not fit the mapping."""
    try:
        text = content.decode(mapping.csv.encoding)
    except UnicodeDecodeError as error:
        raise WrongUse(
            f"the file is not {mapping.csv.encoding} (byte {error.start}): say what it is in csv.encoding; "
            "files of Excel are often cp1252"
        ) from error
    reader = csv.reader(StringIO(text, newline=""), delimiter=mapping.csv.delimiter, strict=True)
    read: list[Row] = []
    wrong: list[Wrong] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, mapping)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                _read_row(reader.line_num, header, cells, mapping, read, wrong)
    except csv.Error as error:
        raise WrongUse(f"line {reader.line_num}: {error}") from error
    return _one_a_key(read, wrong)


def _check_header(header: Sequence[str], mapping: RowMapping) -> None:
    missing = sorted(mapping.columns() - set(header))
    if missing:
        raise WrongUse(
            f"the file has no column {', '.join(missing)}: it has {', '.join(header) or 'none'}; correct the "
            "mapping, or csv.delimiter"
        )
    repeated = sorted({name for name in mapping.columns() if header.count(name) > 1})
    if repeated:
        raise WrongUse(f"the file has the column {', '.join(repeated)} more than once")


def _read_row(
    line: int,
    header: Sequence[str],
    cells: Sequence[str],
    mapping: RowMapping,
    read: list[Row],
    wrong: list[Wrong],
) -> None:
    if len(cells) != len(header):
        wrong.append(Wrong(line, None, f"it has {len(cells)} cells, the header has {len(header)}"))
        return
    row = _Reader(line, dict(zip(header, map(str.strip, cells), strict=True)), mapping)
    content = row.content()
    if row.wrong:
        wrong.extend(row.wrong)
    else:
        read.append(Row(line, tuple(row.cells[name] for name in mapping.key), content))


class _Reader:
    """Reads one row, and collects what is wrong with it."""

    def __init__(self, line: int, cells: Mapping[str, str], mapping: RowMapping) -> None:
        self.line = line
        self.cells = cells
        self.wrong: list[Wrong] = []
        self._mapping = mapping

    def content(self) -> Content:
        mapping = self._mapping
        for name in dict.fromkeys((*mapping.key, *([mapping.subject] if mapping.subject else []))):
            if not self.cells[name]:
                self._refuse(name, "is empty, and the row is known by it")
        for name in sorted(mapping.columns()):
            if "\0" in self.cells[name]:
                self._refuse(name, "contains NUL")
        data: dict[str, Any] = {}
        for path, column in mapping.data.items():
            value = column.value if column.column is None else self._value(column, column.column)
            if value is not None:
                _put(data, path.split("."), value)
        subject = self.cells[mapping.subject] if mapping.subject else None
        return Content(mapping.type, data, self._time(), subject)

    def _refuse(self, column: str, reason: str) -> None:
        self.wrong.append(Wrong(self.line, column, reason))

    def _value(self, column: Column, name: str) -> Any:
        cell = self.cells[name]
        if not cell:
            if column.required:
                self._refuse(name, "is empty")
            return None
        if column.values is not None:
            if cell not in column.values:
                self._refuse(name, f"{cell!r} is none of {', '.join(column.values)}")
            return column.values.get(cell)
        try:
            return _READERS[column.type](cell, self._mapping.csv.decimal)
        except ValueError as error:
            self._refuse(name, str(error))
            return None

    def _time(self) -> str | None:
        time = self._mapping.time
        if time is None:
            return None
        cell = self.cells[time.column]
        try:
            moment = _moment(cell, time.format)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=ZoneInfo(time.zone))
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except (ValueError, OverflowError):
            form = f"a time of the form {time.format}" if time.format else "a time like 2026-01-31 (ISO 8601)"
            self._refuse(time.column, f"{cell!r} is not {form}")
            return None


def _moment(cell: str, form: str | None) -> datetime:
    if form is None:
        return datetime.fromisoformat(cell)
    return datetime.strptime(cell, form)  # noqa: DTZ007 (the caller gives it the mapping's zone)


def _put(data: dict[str, Any], steps: Sequence[str], value: Any) -> None:
    for step in steps[:-1]:
        data = data.setdefault(step, {})
    data[steps[-1]] = value


_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def _integer(cell: str, decimal: str) -> int:
    number = _number(cell, decimal)
    if number != int(number):
        raise ValueError(f"{cell!r} is no whole number")
    return int(number)


def _number(cell: str, decimal: str) -> int | Decimal:
    plain = cell.replace(decimal, ".") if decimal not in cell[cell.find(decimal) + 1 :] else cell
    if _NUMBER.fullmatch(plain) is None or (decimal == "," and "." in cell):
        raise ValueError(f"{cell!r} is no number (written like 1234{decimal}5, without separators)")
    number = Decimal(plain)
    return int(number) if number == number.to_integral_value() else number.normalize()


_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _boolean(cell: str, _decimal: str) -> bool:
    if cell.lower() not in _WORDS:
        raise ValueError(f"{cell!r} is none of {', '.join(_WORDS)}: list its words under `values`")
    return _WORDS[cell.lower()]


_READERS = {
    "string": lambda cell, _decimal: cell,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}


def _one_a_key(read: Sequence[Row], wrong: list[Wrong]) -> Rows:
    """Rows that say the same again are passed over; rows that contradict each other are all wrong."""
    by_key: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in read:
        by_key[row.key].append(row)
    right = []
    for rows in by_key.values():
        if all(row.content == rows[0].content for row in rows):
            right.append(rows[0])
            continue
        for row in rows:
            others = ", ".join(str(other.line) for other in rows if other is not row)
            wrong.append(Wrong(row.line, None, f"line {others} has the same key and other values"))
    return Rows(right, sorted(wrong, key=lambda one: one.line))


def row_id(source: str, key: Sequence[str], generation: int) -> str:
    """The event id of a row: the same for everybody who sends it.

    What was taken back is taken back for good, so a row that comes again gets the id of a next generation.
    """
    parts = (source, *key, *([f"generation {generation}"] if generation else []))
    text = b"".join(b"%d:%b" % (len(part.encode()), part.encode()) for part in parts)
    return "row-" + hashlib.sha256(text).hexdigest()[:32]
