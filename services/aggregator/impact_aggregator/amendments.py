"""Retractions and corrections: events about events. Pure.

What counts of an event is decided by the set of its amendments, not by their order: a retraction takes it
back for good; of several corrections that fit the event's schema the greatest (time, id) holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from impact_aggregator.events import KINDS

if TYPE_CHECKING:
    from collections.abc import Collection

    from impact_aggregator.events import Event, Position
    from impact_aggregator.rules import Rules


class Amendment(NamedTuple):
    """One retraction or correction, as it was counted."""

    target: bytes  # the identity of the event that it speaks of
    identity: bytes  # its own
    product: str
    kind: str
    time: int
    event_id: str
    event: str  # the whole amendment as JSON
    received_at: int
    position: Position


class _CorrectionData(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")


class _CorrectionEvent(msgspec.Struct):
    data: _CorrectionData


@dataclass(frozen=True, slots=True)
class Settled:
    """What counts of an event, and the corrections that do not fit it."""

    event: Event | None  # None: it was taken back
    unfit: tuple[tuple[Amendment, str, str], ...]  # with code and detail of the verdict
    applied: Amendment | None = None  # the one that decides


_correction = msgspec.json.Decoder(_CorrectionEvent)
_data = msgspec.json.Decoder(float_hook=Decimal)


def amendment_of(event: Event) -> Amendment:
    """The amendment that an event of such a type is."""
    assert event.target is not None  # noqa: S101 (for the type checker: decode sets it for these types)
    return Amendment(
        target=event.target,
        identity=event.identity,
        product=event.product,
        kind=KINDS[event.type],
        time=event.time,
        event_id=event.event_id,
        event=event.raw.decode(),
        received_at=event.received_at,
        position=event.position,
    )


def settle(event: Event, amendments: Collection[Amendment], rules: Rules) -> Settled:
    """What counts of `event` under all its amendments."""
    if event.type in KINDS:
        detail = (
            "it speaks of a retraction or correction, which cannot be taken back: send another correction"
        )
        return Settled(event, tuple((one, "unknown_target", detail) for one in amendments))
    unfit = []
    corrections = sorted((one for one in amendments if one.kind == "correction"), key=_order, reverse=True)
    fitting: tuple[Amendment, Any] | None = None
    for one in corrections:
        raw = bytes(_correction.decode(one.event).data.data)
        reason = rules.fault_in(event.product, event.type, raw)
        if reason is not None:
            unfit.append((one, "schema_violation", reason))
        elif fitting is None:
            fitting = (one, _data.decode(raw))
    retractions = [one for one in amendments if one.kind == "retraction"]
    if retractions:
        return Settled(None, tuple(unfit), max(retractions, key=_order))
    if fitting is None:
        return Settled(event, tuple(unfit))
    corrected = msgspec.structs.replace(event, data=fitting[1], corrected_by=fitting[0].identity)
    return Settled(corrected, tuple(unfit), fitting[0])


def _order(one: Amendment) -> tuple[int, str]:
    return one.time, one.event_id
