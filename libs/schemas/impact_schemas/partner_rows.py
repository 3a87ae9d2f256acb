"""The rows of a partner's file, read by its mapping: what each says, and what is wrong with which cell."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from impact_schemas.catalog.row_mapping import Column, RowMapping, TimeColumn

Key = tuple[str, ...]

_EXAMPLE = datetime(2026, 1, 31, 14, 30, tzinfo=UTC)
REMARK = "# "  # a line whose first cell begins so is for people


class WrongFile(ValueError):
    """A file as a whole does not fit its mapping; the message says what to do."""


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a row says. Two rows with the same content are the same."""

    type: str
    data: dict[str, Any]
    time: str | None = None
    subject: str | None = None


class Row(NamedTuple):
    """One right row."""

    line: int
    key: Key
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


def read_csv(content: bytes, mapping: RowMapping) -> Rows:
    """The rows of a CSV file. Raises WrongFile."""
    return read_rows(csv_lines(content, mapping), mapping)


def csv_lines(content: bytes, mapping: RowMapping) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file: (number in the file, cells). Raises WrongFile."""
    try:
        text = content.decode(mapping.csv.encoding)
    except UnicodeDecodeError as error:
        raise WrongFile(
            f"the file is not {mapping.csv.encoding} (byte {error.start}): say what it is in csv.encoding; "
            "files of Excel are often cp1252"
        ) from error
    reader = csv.reader(StringIO(text, newline=""), delimiter=mapping.csv.delimiter, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise WrongFile(f"line {reader.line_num}: {error}") from error


def read_rows(lines: Iterable[tuple[int, Sequence[str]]], mapping: RowMapping) -> Rows:
    """The rows of a table whose first line is its header: (number of the line, cells). Raises WrongFile."""
    read: list[Row] = []
    wrong: list[Wrong] = []
    numbered = iter(lines)
    header = [name.strip() for name in next(numbered, (0, ()))[1]]
    _check_header(header, mapping)
    for line, cells in numbered:
        if any(cell.strip() for cell in cells) and not cells[0].startswith(REMARK):
            _read_row(line, header, cells, mapping, read, wrong)
    return _one_a_key(read, wrong)


def _check_header(header: Sequence[str], mapping: RowMapping) -> None:
    missing = sorted(set(mapping.columns()) - set(header))
    if missing:
        raise WrongFile(
            f"the file has no column {', '.join(missing)}: it has {', '.join(header) or 'none'}; name "
            "the columns as the mapping does, or correct the mapping (csv.delimiter, for one)"
        )
    repeated = sorted({name for name in mapping.columns() if header.count(name) > 1})
    if repeated:
        raise WrongFile(f"the file has the column {', '.join(repeated)} more than once")


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
            self._refuse(time.column, f"{cell!r} is not a time written like {example(time)}")
            return None


def example(time: TimeColumn) -> str:
    """How a time is written in this column."""
    return _EXAMPLE.strftime(time.format or "%Y-%m-%d")


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
