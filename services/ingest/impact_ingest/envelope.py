"""The envelope of a CloudEvent: its attributes, as they must be, and what is wrong with those of an event."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from impact_ingest.verdicts import Refused

SPEC_VERSION = "1.0"
IDENTITY = ("id", "source", "type")
_OPTIONAL_TEXT = ("subject", "time", "datacontenttype", "dataschema")
NAMED = frozenset(["specversion", *IDENTITY, *_OPTIONAL_TEXT, "data"])
_EXTENSION = re.compile(r"[a-z0-9]+")

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class Envelope(msgspec.Struct, gc=False):
    """A good event. A decoder that knows this type takes most events in one step."""

    id: _Text
    source: _Text
    type: _Text
    specversion: Literal["1.0"]
    time: _Text | msgspec.UnsetType = msgspec.UNSET
    subject: _Text | msgspec.UnsetType = msgspec.UNSET
    datacontenttype: _Text | msgspec.UnsetType = msgspec.UNSET
    dataschema: _Text | msgspec.UnsetType = msgspec.UNSET
    data: Any = msgspec.UNSET

    def attributes(self) -> dict[str, Any]:
        """Those that the event has, as a JSON object; `data` is the same object."""
        given = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in given if value is not msgspec.UNSET}


def read_envelope(event: Any) -> tuple[Envelope, dict[str, Any]]:
    """A decoded JSON value as an event, and its extension attributes. Null attributes are absent ones.

    Raises Refused with what is wrong first.
    """
    if type(event) is not dict:
        raise Refused("invalid_envelope", "expected a JSON object: a CloudEvents 1.0 event")
    for name in IDENTITY:
        text = event.get(name)
        if type(text) is not str or not text:
            raise Refused("invalid_envelope", f"expected `{name}`: text that is not empty", f"/{name}")
    if event.get("specversion") != SPEC_VERSION:
        raise Refused("invalid_envelope", 'expected `specversion`: "1.0"', "/specversion")
    named = {name: event[name] for name in (*IDENTITY, "specversion")}
    for name in _OPTIONAL_TEXT:
        if (text := event.get(name)) is not None:
            named[name] = _optional_text(name, text)
    if "data" in event:
        named["data"] = event["data"]
    extensions = {name: value for name, value in event.items() if name not in NAMED and value is not None}
    for name, value in extensions.items():
        _check_extension(name, value)
    return Envelope(**named), extensions


def _optional_text(name: str, text: Any) -> str:
    if type(text) is not str or not text:
        raise Refused("invalid_envelope", f"expected `{name}`: text that is not empty, or none", f"/{name}")
    return text


def _check_extension(name: str, value: Any) -> None:
    if name == "data_base64":
        raise Refused(
            "invalid_envelope", "expected `data` as JSON: binary data cannot be counted", "/data_base64"
        )
    if _EXTENSION.fullmatch(name) is None:
        raise Refused("invalid_envelope", "expected attribute names of lower-case letters and digits")
    if isinstance(value, dict | list):
        raise Refused("invalid_envelope", "expected text, a number or a boolean as an attribute", f"/{name}")
