"""From what a partner's file says and what was sent before to the events that make one into the other.

A change is a correction, which keeps the event's time and subject; where one of these changed, the event is
taken back and comes again under a new id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from impact_schemas.partner_rows import Content, Key, Row, row_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from impact_schemas.catalog.row_mapping import RowMapping

Action = Literal["new", "changed", "retracted"]

RETRACTION, CORRECTION = "impact.retraction.v1", "impact.correction.v1"

_encode = msgspec.json.Encoder(decimal_format="number").encode
_sorted = msgspec.json.Encoder(order="sorted", decimal_format="number").encode
_exact = msgspec.json.Decoder(float_hook=Decimal)


class Known(msgspec.Struct, frozen=True):
    """A row as it was sent last; `content` None: it was taken back, or what it said is not known.

    `event_id` is for who does not know the whole key, of which it is made otherwise.
    """

    generation: int
    content: str | None
    importid: str
    event_id: str | None = None


class Step(msgspec.Struct, frozen=True):
    """One row's change and the events that make it; contents are JSON, None: the row is not there."""

    source: str
    key: Key
    action: Action
    generation: int
    before: str | None
    after: str | None
    events: tuple[bytes, ...]
    before_known: bool = True  # False: it was sent first from elsewhere
    number: int = 0


@dataclass
class Plan:
    """What a file would do."""

    new: list[Row] = field(default_factory=list)
    changed: list[Row] = field(default_factory=list)
    unchanged: int = 0
    missing: list[Key] = field(default_factory=list)  # sent before, and not in the file


class Stamp(msgspec.Struct, frozen=True):
    """What all events of one import carry."""

    importid: str
    time: str  # of its retractions and corrections, RFC 3339
    reason: str


class Elsewhere(NamedTuple):
    """A row that the journal does not know and the service does. Not `counted`: it was taken back."""

    generation: int
    counted: bool


class ChangedRow(msgspec.Struct, frozen=True):
    """A row whose values differ from those that were sent; all are new if they were sent from elsewhere."""

    key: list[str]
    fields: dict[str, tuple[Any, Any]]  # name -> before, after


def as_text(content: Content) -> str:
    """The one way to write a content: equal contents are equal texts."""
    return _sorted(content).decode()


def as_content(text: str) -> Content:
    """What `as_text` wrote, numbers exact."""
    plain: Any = _exact.decode(text)
    return Content(plain["type"], plain["data"], plain.get("time"), plain.get("subject"))


def compare(
    rows: Sequence[Row],
    known: Mapping[Key, Known],
    mapping: RowMapping,
    untold: Iterable[Key],
    written: Callable[[Content], str] = as_text,
) -> Plan:
    """What `rows` change. `untold`: keys in the file whose rows are wrong; those are not missing."""
    plan = Plan()
    for row in rows:
        before = known.get(row.key)
        if before is None or before.content is None:
            plan.new.append(row)
        elif before.content == written(row.content):
            plan.unchanged += 1
        else:
            plan.changed.append(row)
    there = {row.key for row in rows} | set(untold)
    within = {_scope(key, mapping) for key in there}
    plan.missing = [
        key
        for key, before in known.items()
        if before.content is not None and key not in there and _scope(key, mapping) in within
    ]
    return plan


def _scope(key: Key, mapping: RowMapping) -> Key:
    """Keys with another scope are not what the file speaks of."""
    return tuple(key[mapping.key.index(name)] for name in mapping.scope)


def differences(key: Key, before: str | None, after: str) -> ChangedRow:
    """What of a row is other than it was sent."""
    held = {} if before is None else _flat(before)
    said = _flat(after)
    names = sorted(said.keys() | held.keys())
    return ChangedRow(
        list(key),
        {name: (held.get(name), said.get(name)) for name in names if held.get(name) != said.get(name)},
    )


def _flat(text: str) -> dict[str, Any]:
    """A content as its parts: time, subject, and each value of the data by its path."""
    content = as_content(text)
    parts = {"type": content.type, "time": content.time, "subject": content.subject}
    return parts | dict(_leaves(content.data, "data"))


def _leaves(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}", value


class Sender(NamedTuple):
    """Whose events they are, and how the journal writes what they say."""

    source: str
    stamp: Stamp
    written: Callable[[Content], str] = as_text

    def step(
        self, key: Key, before: Known | None, after: Content | None, elsewhere: Elsewhere | None = None
    ) -> Step:
        """The step that makes a row what `after` says; None: that it is not there. It must change something.

        `elsewhere`: what the service has of a row that the journal does not know.
        """
        if elsewhere is not None:
            found = Known(elsewhere.generation, None, "")
            return self._step(key, found, after, before_known=not elsewhere.counted)
        return self._step(key, before, after, before_known=True)

    def _step(self, key: Key, before: Known | None, after: Content | None, *, before_known: bool) -> Step:
        generation = 0 if before is None else before.generation
        held = None if before is None else before.content
        if held is None and before_known and before is not None:
            generation += 1  # what was taken back stays so
        row = _Row(self.source, key, self.stamp, None if before is None else before.event_id)
        if after is None:
            return Step(self.source, key, "retracted", generation, held, None, (row.retraction(generation),))
        text = self.written(after)
        if held is None and before_known:
            return Step(self.source, key, "new", generation, None, text, (row.event(generation, after),))
        if held is None or _stands(as_content(held), as_content(text)):
            events = (row.correction(generation, after),)
            return Step(self.source, key, "changed", generation, held, text, events, before_known)
        both = (row.retraction(generation), row.event(generation + 1, after))
        return Step(self.source, key, "changed", generation + 1, held, text, both)


def _stands(before: Content, after: Content) -> bool:
    """Whether a correction, which changes the data only, makes the one into the other."""
    return (before.type, before.time, before.subject) == (after.type, after.time, after.subject)


class _Row:
    def __init__(self, source: str, key: Key, stamp: Stamp, standing: str | None) -> None:
        self._source = source
        self._key = key
        self._stamp = stamp
        self._standing = standing  # the id of the event that holds now

    def event(self, generation: int, content: Content) -> bytes:
        return new_event(self._source, self._key, generation, content, self._stamp.importid)

    def correction(self, generation: int, content: Content) -> bytes:
        return self._about(generation, CORRECTION, {"data": content.data})

    def retraction(self, generation: int) -> bytes:
        return self._about(generation, RETRACTION, {})

    def _about(self, generation: int, event_type: str, more: dict[str, Any]) -> bytes:
        target = self._standing or row_id(self._source, self._key, generation)
        data = {"source": self._source, "id": target, "reason": self._stamp.reason, **more}
        event = {
            "specversion": "1.0",
            "id": f"{target}.{self._stamp.importid}",
            "source": self._source,
            "type": event_type,
            "time": self._stamp.time,
            "importid": self._stamp.importid,
            "data": data,
        }
        return _encode(event)


def new_event(source: str, key: Key, generation: int, content: Content, importid: str) -> bytes:
    """The event of a row, as JSON."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": row_id(source, key, generation),
        "source": source,
        "type": content.type,
        "importid": importid,
        "data": content.data,
    }
    optional = {"time": content.time, "subject": content.subject}
    return _encode(event | {name: text for name, text in optional.items() if text is not None})
