"""Reads events from a stream of NDJSON, JSON or CSV: one JSON text an event, without a line break in it.

Nothing but the event being read is held in memory. What is inside an event is the door's to judge;
only what cannot be split into events is an error here.

A CSV file's header names CloudEvents attributes (`id`, `source`, `type`, `time`, `subject`, extensions)
and paths of the data (`data.litres`). A cell that reads as a JSON number, `true` or `false` is one, an
empty cell is absent, the rest is text; a type after the column's name decides otherwise:
`data.postcode:string` (or `number`, `boolean`).
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

import msgspec

from impact_cli.terminal import Refused, WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader

Format = Literal["ndjson", "json", "csv"]

MAX_EVENT_BYTES = 16 * 2**20  # far above what any door takes; keeps a file without line breaks out of memory
CHUNK_CHARS = 2**18

encode = msgspec.json.Encoder(decimal_format="number").encode


class UnreadableEvents(ValueError):
    """The stream cannot be split into events; says where and why."""


def format_of(filename: str, head: bytes) -> Format:
    """The format by the file's name, else by its first bytes."""
    suffix = filename.lower().rpartition(".")[2]
    if suffix == "csv":
        return "csv"
    if suffix in {"ndjson", "jsonl"}:
        return "ndjson"
    first = head.lstrip()[:1]
    if first == b"[" or (suffix == "json" and first == b"{"):
        return "json"
    return "ndjson" if first in {b"{", b""} else "csv"


def read_events(
    stream: IO[bytes], form: Format, *, max_event: int = MAX_EVENT_BYTES, chunk_chars: int = CHUNK_CHARS
) -> Iterator[bytes]:
    """The events of `stream` in their order. Raises UnreadableEvents.

    `max_event` bounds what is held in memory, `chunk_chars` is how much JSON is read at once.
    """
    if form == "ndjson":
        return _lines(stream, max_event)
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    return _json_values(_Window(text, max_event, chunk_chars)) if form == "json" else _csv_rows(text)


@contextmanager
def opened(file: str, form: str | None) -> Iterator[Iterator[bytes]]:
    """The events of `file` ("-": standard input). Raises WrongUse and Refused."""
    with ExitStack() as stack:
        stream, _ = open_stream(file, stack)
        try:
            yield read_events(stream, chosen_format(form, file, stream))
        except UnreadableEvents as error:
            raise Refused(f"{file}: {error}") from error


def open_stream(file: str, stack: ExitStack) -> tuple[BufferedReader, int | None]:
    """The stream, open for as long as `stack`, and its size where it has one. Raises WrongUse."""
    if file == "-":
        return cast("BufferedReader", sys.stdin.buffer), None
    try:
        return stack.enter_context(Path(file).open("rb")), Path(file).stat().st_size
    except OSError as error:
        raise WrongUse(f"cannot read {file}: {error.strerror}") from error


def chosen_format(given: str | None, file: str, stream: BufferedReader) -> Format:
    """The format that was asked for, else what the file looks like. Raises WrongUse."""
    if given is None:
        return format_of(file, stream.peek(64))
    if given not in get_args(Format):
        raise WrongUse(f"--format {given}: expected one of {', '.join(get_args(Format))}")
    return cast("Format", given)


def _lines(stream: IO[bytes], max_event: int) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(max_event + 1):
        number += 1
        if len(line) > max_event:
            raise UnreadableEvents(f"line {number} is longer than {max_event} bytes: is this NDJSON?")
        if event := line.strip():
            yield event


# --- JSON: an array of events, or events one after the other, cut where the decoder says a value ends ---

_SPACE = re.compile(r"[ \t\r\n]*")
_decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)  # only the ends matter


def _json_values(window: _Window) -> Iterator[bytes]:
    in_array = window.peek() == "["
    if in_array:
        window.skip()
    if in_array and window.peek() == "]":
        window.skip()
    else:
        yield from _values(window, in_array)
    if window.peek():
        raise UnreadableEvents(f"character {window.offset}: something follows the end of the array")


def _values(window: _Window, in_array: bool) -> Iterator[bytes]:
    """The values up to the end of the array, or of the text."""
    while window.peek():
        # a line break can only be white space here: inside a string JSON writes \n
        yield window.value().encode().replace(b"\n", b" ").replace(b"\r", b" ")
        if not in_array:
            continue
        after = window.peek()
        if after not in {",", "]", ""}:
            raise UnreadableEvents(f"character {window.offset}: expected a comma or ] after an event")
        window.skip()
        if after == "]":
            return
    if in_array:
        raise UnreadableEvents("the file ends before its array does: is it complete?")


class _Window:
    """The part of a text that is being looked at; grows until a value is complete, then moves on."""

    def __init__(self, text: io.TextIOWrapper, max_event: int, chunk_chars: int) -> None:
        self._text = text
        self._max_event = max_event
        self._chunk_chars = chunk_chars
        self._buffer = ""
        self._at = 0
        self._before = 0  # characters that were dropped from the buffer

    @property
    def offset(self) -> int:
        return self._before + self._at

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr] # it always matches
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._grow():
                return ""

    def skip(self) -> None:
        self._at += 1

    def value(self) -> str:
        """The text of the value that begins here."""
        while True:
            try:
                _, end = _decoder.raw_decode(self._buffer, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._buffer) - self._at > self._max_event or not self._grow():
                    raise UnreadableEvents(f"character {self.offset}: no complete event ({error})") from error
                continue
            if end == len(self._buffer) and self._grow():
                continue  # a number may go on
            value, self._at = self._buffer[self._at : end], end
            return value

    def _grow(self) -> bool:
        try:
            more = self._text.read(self._chunk_chars)
        except UnicodeDecodeError as error:
            raise UnreadableEvents(f"the file is not UTF-8: {error}") from error
        self._before += self._at
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        return bool(more)


# --- CSV ---

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_ATTRIBUTE = re.compile(r"[a-z0-9]+")


class _Column(NamedTuple):
    path: tuple[str, ...]
    read: Callable[[str], Any]


def _csv_rows(text: io.TextIOWrapper) -> Iterator[bytes]:
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, [])
        columns = [_column(name) for name in header]
        for row in reader:
            if row:
                yield encode(_row_event(columns, row, reader.line_num))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UnreadableEvents(f"line {reader.line_num}: {error}") from error


def _column(heading: str) -> _Column:
    name, _, kind = heading.strip().partition(":")
    if kind not in _READERS:
        raise UnreadableEvents(f"column {heading!r}: the type {kind!r} is none of string, number, boolean")
    path = tuple(name.split("."))
    if path[0] == "data" and len(path) > 1 and all(path):
        return _Column(path, _READERS[kind])
    if _ATTRIBUTE.fullmatch(name) and name != "data":
        return _Column(path, str)
    raise UnreadableEvents(
        f"column {heading!r} is neither an attribute of an event (id, source, type, time, subject, ...) "
        "nor a path of its data: write data.<name>"
    )


def _row_event(columns: list[_Column], row: list[str], line: int) -> dict[str, Any]:
    if len(row) != len(columns):
        raise UnreadableEvents(f"line {line} has {len(row)} cells, the header has {len(columns)}")
    event: dict[str, Any] = {"specversion": "1.0", "data": {}}
    for (path, read), cell in zip(columns, row, strict=True):
        if cell == "":
            continue
        place = event
        for step in path[:-1]:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise UnreadableEvents(f"column {'.'.join(path)}: {step} is a column of its own as well")
        place[path[-1]] = read(cell)
    return event


def _guess(cell: str) -> bool | Decimal | str:
    if cell in _BOOLEANS:
        return _BOOLEANS[cell]
    return Decimal(cell) if _NUMBER.fullmatch(cell) else cell


def _number(cell: str) -> Decimal | str:
    # what is no number stays text: the door's verdict names the event and the place
    return Decimal(cell) if _NUMBER.fullmatch(cell.strip()) else cell


def _boolean(cell: str) -> bool | str:
    return _BOOLEANS.get(cell.strip().lower(), cell)


_BOOLEANS = {"true": True, "false": False}
_READERS: dict[str, Callable[[str], Any]] = {
    "": _guess,
    "string": str,
    "number": _number,
    "boolean": _boolean,
}
