"""Reads the log's records: bytes to events, with everything that the fold needs of them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import msgspec

from impact_aggregator.events import BROKEN, KINDS, RAW_EVENTS, Event, Position, Quarantined, quarantined
from impact_schemas.identity import Identities, content_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from impact_eventlog import Record


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What the fold reads of a CloudEvent; other attributes are passed over."""

    id: str
    source: str
    type: str
    time: str | None = None
    subject: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """One entry of the quarantine log: the event and why it cannot be counted."""

    code: str
    detail: str
    event: msgspec.Raw
    pointer: str | None = None


class _NamedEvent(msgspec.Struct):
    source: str
    id: str


_named_event = msgspec.json.Decoder(_NamedEvent)
_envelopes = msgspec.json.Decoder(list[Envelope])
_envelope = msgspec.json.Decoder(Envelope)
_data = msgspec.json.Decoder(float_hook=Decimal)
_rejections = msgspec.json.Decoder(list[Rejection])
_ZonedTime = Annotated[datetime, msgspec.Meta(tz=True)]


def parse_time(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time with a zone. Raises msgspec.ValidationError."""
    try:
        moment = datetime.fromisoformat(text)  # takes more than RFC 3339, but the door does not
    except ValueError:
        moment = msgspec.convert(text, _ZonedTime)
    if moment.tzinfo is None:
        raise msgspec.ValidationError(f"the time {text!r} has no zone")
    return round(moment.timestamp() * 1_000_000)


def decode_record(record: Record, identities: Identities) -> Sequence[Event | Quarantined]:
    """The events of a record of the event log; what is no event goes to quarantine, never raises."""
    try:
        return _events(record, 0, _envelopes.decode(record.payload), identities)
    except BROKEN:
        return list(_decode_singly(record, identities))


def _decode_singly(record: Record, identities: Identities) -> Iterator[Event | Quarantined]:
    """A record of which something is no event: the others count."""
    try:
        raws = RAW_EVENTS.decode(record.payload)
    except BROKEN as error:
        yield _unreadable(record, 0, record.payload, f"the record is no JSON array: {error}")
        return
    for index, raw in enumerate(raws):
        try:
            yield from _events(record, index, [_envelope.decode(raw)], identities)
        except BROKEN as error:
            yield _unreadable(record, index, bytes(raw), str(error))


def _events(record: Record, first: int, envelopes: Sequence[Envelope], identities: Identities) -> list[Event]:
    """The events from `first` on. Raises one of BROKEN if anything is wrong with any of them."""
    product, received_at, identity_of = record.product, record.received_at, identities.of
    return [
        Event(
            record,
            index,
            identity_of(product, envelope.source, envelope.id),
            content_digest(envelope.type, envelope.time, envelope.data),
            envelope.id,
            envelope.type,
            received_at if envelope.time is None else parse_time(envelope.time),
            envelope.subject,
            _data.decode(envelope.data),
            _target(product, envelope, identities) if envelope.type in KINDS else None,
        )
        for index, envelope in enumerate(envelopes, first)
    ]


def _target(product: str, envelope: Envelope, identities: Identities) -> bytes:
    named = _named_event.decode(envelope.data)
    return identities.of(product, named.source, named.id)


def decode_rejections(record: Record) -> Iterator[Quarantined]:
    """The entries of a record of the quarantine log."""
    try:
        rejections = _rejections.decode(record.payload)
    except BROKEN as error:
        yield _unreadable(record, 0, record.payload, f"the record is no list of rejected events: {error}")
        return
    for index, rejection in enumerate(rejections):
        position = Position(record.partition, record.offset, index)
        raw = bytes(rejection.event)
        yield quarantined(
            position,
            record.product,
            raw,
            record.received_at,
            rejection.code,
            rejection.detail,
            rejection.pointer,
        )


def _unreadable(record: Record, index: int, raw: bytes, reason: str) -> Quarantined:
    position = Position(record.partition, record.offset, index)
    return quarantined(position, record.product, raw, record.received_at, "invalid_envelope", reason)
