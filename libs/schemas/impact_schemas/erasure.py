"""What is left of an event whose person is erased: that it was, and when; nothing about whom or what."""

from __future__ import annotations

from typing import Any

import msgspec

REASON = "erasure"  # of the retraction that takes the event back

_KEPT = ("specversion", "id", "source", "type", "time")
_KEPT_OF_AMENDMENT = ("source", "id", "reason")  # without a correction's data

_encode = msgspec.json.Encoder(order="sorted").encode


def speaks_of(event: bytes, pseudonym: str) -> bool:
    """Whether the pseudonym stands anywhere in the event."""
    return pseudonym.encode() in event


def erased(event: bytes) -> bytes:
    """The event without subject, data and extensions; it keeps its identity and its type."""
    attributes: dict[str, Any] = msgspec.json.decode(event)
    left = {name: attributes[name] for name in _KEPT if name in attributes}
    data = attributes.get("data")
    if str(attributes.get("type", "")).startswith("impact.") and isinstance(data, dict):
        left["data"] = {name: data[name] for name in _KEPT_OF_AMENDMENT if name in data}
    return _encode(left)
