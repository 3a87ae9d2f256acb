"""From what a file says and what was sent before to the events that make the one into the other. Pure.

A change is a correction, which keeps the event's time and subject; where one of these changed, the event is
taken back and comes again under a new id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from impact_cli.partner_journal import Known, Step, as_content, as_text
from impact_cli.partner_mapping import Row, row_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from impact_cli.partner_journal import Key
    from impact_cli.partner_mapping import Content, RowMapping

RETRACTION, CORRECTION = "impact.retraction.v1", "impact.correction.v1"

_encode = msgspec.json.Encoder(decimal_format="number").encode


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


def compare(
    rows: Sequence[Row], known: Mapping[Key, Known], mapping: RowMapping, untold: Iterable[Key]
) -> Plan:
    """What `rows` change. `untold`: keys in the file whose rows are wrong; those are not missing."""
    plan = Plan()
    for row in rows:
        before = known.get(row.key)
        if before is None or before.content is None:
            plan.new.append(row)
        elif before.content == as_text(row.content):
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


def step_to(
    source: str, key: Key, before: Known | None, after: str | None, stamp: Stamp, *, before_known: bool = True
) -> Step:
    """The step that makes a row what `after` says; None: that it is not there. It must change something."""
    generation = 0 if before is None else before.generation
    held = None if before is None else before.content
    if held is None and before_known and before is not None:
        generation += 1  # what was taken back stays so
    row = _Row(source, key, stamp)
    if after is None:
        return Step(source, key, "retracted", generation, held, None, (row.retraction(generation),))
    content = as_content(after)
    if held is None and before_known:
        return Step(source, key, "new", generation, None, after, (row.event(generation, content),))
    if held is None or _stands(as_content(held), content):
        correction = row.correction(generation, content)
        return Step(source, key, "changed", generation, held, after, (correction,), before_known)
    events = (row.retraction(generation), row.event(generation + 1, content))
    return Step(source, key, "changed", generation + 1, held, after, events)


def _stands(before: Content, after: Content) -> bool:
    """Whether a correction, which changes the data only, makes the one into the other."""
    return (before.type, before.time, before.subject) == (after.type, after.time, after.subject)


class _Row:
    def __init__(self, source: str, key: Key, stamp: Stamp) -> None:
        self._source = source
        self._key = key
        self._stamp = stamp

    def event(self, generation: int, content: Content) -> bytes:
        return new_event(self._source, self._key, generation, content, self._stamp.importid)

    def correction(self, generation: int, content: Content) -> bytes:
        return self._about(generation, CORRECTION, {"data": content.data})

    def retraction(self, generation: int) -> bytes:
        return self._about(generation, RETRACTION, {})

    def _about(self, generation: int, event_type: str, more: dict[str, Any]) -> bytes:
        target = row_id(self._source, self._key, generation)
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
