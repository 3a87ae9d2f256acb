"""Retractions and corrections: events about events, which the keys of every product may send.

The event that a correction speaks of may not have come yet, so its type is not known at the door: of the
new data, what any event type of the product names is kept, and what any of them calls pseudonymous is
hashed. Whether the rest fits the target's schema is for the aggregator to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from impact_schemas.annotation import ANNOTATION_TYPE
from impact_schemas.catalog import EventType

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from impact_schemas.catalog import Catalog

RETRACTION = "impact.retraction.v1"
CORRECTION = "impact.correction.v1"

_TEXT = {"type": "string", "minLength": 1}
_TARGET = {"source": _TEXT, "id": _TEXT, "reason": _TEXT}
_KEPT_WHOLE = False  # what this schema describes is never an object, so nothing is looked for in it


class AmendmentType(NamedTuple):
    """One type of events about events."""

    event_type: EventType
    named: dict[str, Any]  # the schema that names the properties which are kept


def amendment_types(catalog: Catalog) -> dict[str, AmendmentType]:
    """The event types that every product has beside those of its catalog."""
    types = [*catalog.events.values(), ANNOTATION_TYPE]
    hashed = {"data." + path for event_type in types for path in event_type.pseudonymous}
    correction = _event_type(_TARGET | {"data": {}}, sorted(hashed))
    return {
        RETRACTION: AmendmentType(_event_type(_TARGET), {"properties": _TARGET}),
        CORRECTION: AmendmentType(correction, {"properties": _TARGET | {"data": _any_of(types)}}),
    }


def _event_type(properties: dict[str, Any], pseudonymous: Sequence[str] = ()) -> EventType:
    data = {"type": "object", "required": list(properties), "properties": properties}
    return EventType(subject="none", pseudonymous=tuple(pseudonymous), data=data)


def _any_of(types: Collection[EventType]) -> Any:
    """What names the data of any of `types`, at its place in a correction."""
    if any(event_type.keep_unknown for event_type in types):
        return _KEPT_WHOLE
    schemas = enumerate(event_type.data for event_type in types)
    return {"anyOf": [_moved(schema, f"#/properties/data/anyOf/{number}") for number, schema in schemas]}


def _moved(schema: Any, place: str) -> Any:
    """The schema as part of a larger one: its local references begin at `place`."""
    if isinstance(schema, dict):
        return {
            name: place + part[1:]
            if name == "$ref" and isinstance(part, str) and part.startswith("#")
            else _moved(part, place)
            for name, part in schema.items()
        }
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    return schema
