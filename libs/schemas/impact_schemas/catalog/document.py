"""One YAML 1.2 document as plain values, with the line and column of each.

Values are dict, list, str, bool, None, int and Decimal: a number keeps the digits that were written, a day
stays text, and `no` is text too (YAML 1.2, core schema). It is built from the parser's events without
recursion, so that neither deep nesting nor aliases of aliases can exhaust the process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from impact_schemas.catalog.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]

MOST_VALUES = 200_000  # a catalog of 200 metrics has about 10,000; aliases count each time they are used
MOST_LEVELS = 100
MOST_DIGITS = 300  # more than any number that the door takes

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAY_BE_MORE_THAN_TEXT = frozenset("0123456789+-.~nNtTfF")
_NO_DATABASE_TAKES = re.compile("[\x00\ud800-\udfff]")

_CORE = "tag:yaml.org,2002:"
_TAGS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, Decimal),
    "bool": (bool,),
    "null": (type(None),),
    "map": (dict,),
    "seq": (list,),
}


class Place(NamedTuple):
    """Where in the file, counted from 1."""

    line: int
    column: int


class Finding(NamedTuple):
    """Something wrong at a path of a document; `on_key` points at the key rather than at its value."""

    path: Path
    reason: str
    on_key: bool = False


@dataclass(frozen=True)
class Document:
    """`value` is what could be read; `broken` has what could not be, with its own place."""

    value: object
    places: dict[Path, Place]
    key_places: dict[Path, Place]
    broken: list[tuple[Place, Finding]]

    def written(self, path: Path) -> Path:
        """The path as far as the file has it: a short form (one text for a list or mapping) ends it."""
        value = self.value
        for depth, part in enumerate(path):
            if not isinstance(value, dict | list):
                return path[:depth]
            if isinstance(value, dict):
                value = value.get(part, {})
            else:
                value = value[part] if isinstance(part, int) and part < len(value) else {}
        return path

    def place(self, finding: Finding) -> Place:
        """Where a finding is shown; what is not there is shown where it is missing."""
        path = finding.path
        if finding.on_key and path in self.key_places:
            return self.key_places[path]
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(1, 1))


class _Refused(Exception):
    """Reading cannot go on."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


def read_document(text: str) -> Document:
    """Reads `text`; never raises for what is in it."""
    reading = _Reading()
    try:
        for event in _events(text):
            reading.take(event)
    except _Refused as refused:
        # what came before may be half a mapping: judging it would invent faults
        reading.broken.append((refused.place, Finding((), refused.reason)))
        return Document(None, {}, {}, reading.broken)
    if not reading.documents:
        reading.broken.append(
            (Place(1, 1), Finding((), "the file is empty: start with apiVersion: impact/v1"))
        )
    return Document(reading.root, reading.places, reading.key_places, reading.broken)


def _events(text: str) -> Iterator[Any]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise _Refused(
            place, f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        ) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        said = "; ".join(str(part) for part in (error.problem, error.context) if part)
        raise _Refused(place, f"this is not YAML: {said}") from error
    except YAMLError as error:
        raise _Refused(Place(1, 1), f"this is not YAML: {error}") from error


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


@dataclass
class _Open:
    """A mapping or list whose end has not come; `path` is None inside of what is left out."""

    value: dict[str, object] | list[object]
    path: Path | None
    first_event: int
    anchor: str | None
    awaits_key: bool = True
    key: str | None = None  # None while the value that comes next is left out


@dataclass
class _Reading:
    """The state between two events."""

    root: object = None
    documents: int = 0
    places: dict[Path, Place] = field(default_factory=dict)
    key_places: dict[Path, Place] = field(default_factory=dict)
    broken: list[tuple[Place, Finding]] = field(default_factory=list)
    _open: list[_Open] = field(default_factory=list)
    _taken: list[Any] = field(default_factory=list)  # aliases replaced by what they stand for
    _anchors: dict[str, slice] = field(default_factory=dict)

    def take(self, event: Any) -> None:
        """Goes on by one event of the parser."""
        if isinstance(event, AliasEvent):
            self._repeat(event)
            return
        self._taken.append(event)
        if len(self._taken) > MOST_VALUES:
            raise _Refused(
                _place(event), f"more than {MOST_VALUES} values, aliases included: make it smaller"
            )
        match event:
            case ScalarEvent():
                self._add(self._scalar(event), event)
                self._remember(event.anchor, len(self._taken) - 1)
            case MappingStartEvent() | SequenceStartEvent():
                self._begin(event)
            case MappingEndEvent() | SequenceEndEvent():
                ended = self._open.pop()
                self._remember(ended.anchor, ended.first_event)
            case DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise _Refused(
                        _place(event), "a second document begins here: one catalog is one document"
                    )

    def _remember(self, anchor: str | None, first_event: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = slice(first_event, len(self._taken))

    def _repeat(self, alias: Any) -> None:
        meant = self._anchors.get(alias.anchor)
        if meant is None:
            raise _Refused(_place(alias), f"the alias *{alias.anchor} stands for nothing that ends before it")
        for event in self._taken[meant]:
            self.take(event)

    def _begin(self, event: Any) -> None:
        if len(self._open) >= MOST_LEVELS:
            raise _Refused(_place(event), f"more than {MOST_LEVELS} levels of nesting")
        value: dict[str, object] | list[object] = {} if isinstance(event, MappingStartEvent) else []
        self._check_tag(event, value)
        first = len(self._taken) - 1
        path = self._add(value, event)
        self._open.append(_Open(value, path, first, event.anchor))

    def _add(self, value: object, event: Any) -> Path | None:
        """Puts a value where it belongs; returns its path, or None if it is left out."""
        if not self._open:
            self.root = value
            self.places[()] = Place(1, 1)
            return ()
        parent = self._open[-1]
        if isinstance(parent.value, list):
            path = None if parent.path is None else (*parent.path, len(parent.value))
            parent.value.append(value)
            if path is not None:
                self.places[path] = _place(event)
            return path
        if parent.awaits_key:
            parent.awaits_key = False
            parent.key = self._key(value, event, parent)
            return None
        parent.awaits_key = True
        if parent.key is None:
            return None
        parent.value[parent.key] = value
        if parent.path is None:
            return None
        path = (*parent.path, parent.key)
        if isinstance(event, ScalarEvent) and (event.value or event.style):
            self.places[path] = _place(event)  # all else is shown at its key
        return path

    def _key(self, value: object, event: Any, parent: _Open) -> str | None:
        assert isinstance(parent.value, dict)  # noqa: S101  for the type checker; the caller asked
        if not isinstance(value, str):
            self._note(event, parent, "a key must be text: put it in quotes")
            return None
        if value == "<<" and event.style is None:
            self._note(event, parent, "merge keys (<<) are not YAML 1.2: write the fields out")
            return None
        if value in parent.value:
            first = self.key_places.get((*(parent.path or ()), value))
            where = f", first on line {first.line}" if first else ""
            self._note(event, parent, f"the key {quoted(value)} is there twice{where}", value)
            return None
        if parent.path is not None:
            path = (*parent.path, value)
            self.key_places[path] = self.places[path] = _place(event)
        return value

    def _note(self, event: Any, parent: _Open, reason: str, key: str | None = None) -> None:
        path = parent.path or ()
        self.broken.append((_place(event), Finding(path if key is None else (*path, key), reason)))

    def _note_value(self, event: Any, reason: str) -> None:
        path: Path = ()
        if self._open:
            parent = self._open[-1]
            path = parent.path or ()
            if isinstance(parent.value, list):
                path = (*path, len(parent.value))
            elif not parent.awaits_key and parent.key is not None:
                path = (*path, parent.key)
        self.broken.append((_place(event), Finding(path, reason)))

    def _scalar(self, event: Any) -> object:
        text: str = event.value
        if _NO_DATABASE_TAKES.search(text):
            self._note_value(event, "text must not have NUL characters or halves of surrogate pairs")
            return ""
        value = text if event.style is not None or event.tag == "!" else self._plain(event, text)
        if event.tag == _CORE + "str":
            return text
        self._check_tag(event, value)
        return value

    def _check_tag(self, event: Any, value: object) -> None:
        tag: str | None = event.tag
        if tag is None or tag == "!":
            return
        kinds = _TAGS.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
        if kinds is None or type(value) not in kinds:
            name = tag.replace(_CORE, "!!")
            self._note_value(event, f"the tag {quoted(name)[1:-1]} is not for this value: leave it out")

    def _plain(self, event: Any, text: str) -> object:
        """Text without quotes, by the core schema of YAML 1.2."""
        if text and text[0] not in _MAY_BE_MORE_THAN_TEXT:
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _NOT_FINITE.fullmatch(text):
            self._note_value(event, f"{text} is no number that can be counted; for text put it in quotes")
            return 0
        if not (_FLOAT.fullmatch(text) or _BASED_INT.fullmatch(text)):
            return text
        if len(text) > MOST_DIGITS:
            self._note_value(event, f"a number of more than {MOST_DIGITS} digits; for text put it in quotes")
            return 0
        if _BASED_INT.fullmatch(text):
            return int(text, 0)
        if _INT.fullmatch(text):
            return int(text)
        number = Decimal(text)
        if number and abs(number.adjusted()) > MOST_DIGITS:
            self._note_value(event, f"a number of more than {MOST_DIGITS} digits; for text put it in quotes")
            return 0
        return number
