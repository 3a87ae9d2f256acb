"""What the fold works on: events as they were read from the log, and those put aside. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from impact_eventlog import Partition, Record

RETRACTION = "impact.retraction.v1"
CORRECTION = "impact.correction.v1"
KINDS = {RETRACTION: "retraction", CORRECTION: "correction"}


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where an event stands in the log."""

    partition: Partition
    offset: int
    index: int  # within the record


class Event(msgspec.Struct, gc=False):
    """One event of the event log, ready to be folded."""

    record: Record  # that it stands in
    index: int  # within the record
    identity: bytes
    digest: int
    event_id: str
    type: str
    time: int  # microseconds since 1970: the event's own time, else its receipt
    subject: str | None
    data: Any
    target: bytes | None = None  # of a retraction or correction: the identity of the event it speaks of
    corrected_by: bytes | None = None  # the identity of the correction whose data these are

    @property
    def product(self) -> str:
        """Whose event it is."""
        return self.record.product

    @property
    def received_at(self) -> int:
        """When it came to the door, in microseconds since 1970."""
        return self.record.received_at

    @property
    def position(self) -> Position:
        """Where it stands in the log."""
        return Position(self.record.partition, self.record.offset, self.index)

    @property
    def raw(self) -> bytes:
        """The event as JSON, as it stands in the log."""
        return bytes(RAW_EVENTS.decode(self.record.payload)[self.index])


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One event for the quarantine table."""

    position: Position
    product: str
    code: str
    detail: str
    pointer: str | None
    received_at: int
    event_id: str | None
    event_source: str | None
    event_type: str | None
    payload: str


RAW_EVENTS = msgspec.json.Decoder(list[msgspec.Raw])
_names = msgspec.json.Decoder(dict[str, Any])
BROKEN = (msgspec.MsgspecError, UnicodeDecodeError)


def quarantined(
    position: Position,
    product: str,
    raw: bytes,
    received_at: int,
    code: str,
    detail: str,
    pointer: str | None = None,
) -> Quarantined:
    """The quarantine row of an event, as far as its envelope can be read."""
    try:
        names = _names.decode(raw)
    except BROKEN:
        names = {}
    return Quarantined(
        position=position,
        product=product,
        code=code,
        detail=detail,
        pointer=pointer,
        received_at=received_at,
        event_id=_text(names.get("id")),
        event_source=_text(names.get("source")),
        event_type=_text(names.get("type")),
        payload=raw.decode("utf-8", "replace").replace("\x00", "\ufffd"),  # PostgreSQL's text takes no NUL
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
