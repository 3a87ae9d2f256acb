"""Annotations: events that say what happened beside the numbers. The keys of every product may send them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import msgspec

from impact_schemas.catalog import EventType

ANNOTATION = "impact.annotation.v1"

Kind = Literal["launch", "decision", "incident", "method", "external"]

_TEXT = {"type": "string", "minLength": 1, "maxLength": 1000}
_NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"}

ANNOTATION_TYPE = EventType(
    description="What happened beside the numbers: a launch, a decision, an incident, another method.",
    subject="none",
    data={
        "type": "object",
        "required": ["kind", "title"],
        "properties": {
            "kind": {"enum": list(get_args(Kind))},
            "title": _TEXT,
            "url": _TEXT,
            "metrics": {"type": "array", "items": _NAME, "maxItems": 100},
            "bet": _NAME,
        },
    },
)


class _Data(msgspec.Struct):
    kind: Kind
    title: str
    url: str | None = None
    metrics: tuple[str, ...] = ()
    bet: str | None = None


class Annotation(NamedTuple):
    """A row of the table `annotation`."""

    identity: bytes
    product: str
    at: int  # microseconds since 1970, UTC
    kind: Kind
    title: str
    url: str | None
    metrics: str  # JSON array
    bet: str | None
    event_id: str


def annotation_of(identity: bytes, product: str, at: int, event_id: str, data: Any) -> Annotation:
    """The annotation in an event's data. Raises ValueError if the data is not of its form."""
    said = msgspec.convert(data, _Data)  # its ValidationError is a ValueError
    metrics = msgspec.json.encode(said.metrics).decode()
    return Annotation(identity, product, at, said.kind, said.title, said.url, metrics, said.bet, event_id)
