"""Judges one event: to the log in its canonical form, or a verdict. Pure: no IO, no clock."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from impact_eventlog.ports import KeyedEvent
from impact_ingest.redaction import CANONICAL, DATA_DROPPED, IDENTITY, Redaction
from impact_ingest.verdicts import Refused

if TYPE_CHECKING:
    from collections.abc import Collection

    from impact_ingest.rules import Path, ProductRules
    from impact_schemas.identity import Identities, Pseudonyms

SPEC_VERSION = "1.0"
_OPTIONAL_TEXT = ("subject", "time", "datacontenttype", "dataschema")
_NAMED = frozenset(["specversion", *IDENTITY, *_OPTIONAL_TEXT, "data"])
_MAX_HEAD_TEXT = 1024  # characters of an attribute of an event that is too large
_EXTENSION = re.compile(r"[a-z0-9]+")

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_ZonedTime = Annotated[datetime, msgspec.Meta(tz=True)]


class _Envelope(msgspec.Struct, gc=False):
    """The attributes of a good event: checked by one conversion, and looked at closely only if it fails."""

    id: _Text
    source: _Text
    type: _Text
    specversion: Literal["1.0"]
    time: _ZonedTime | msgspec.UnsetType = msgspec.UNSET
    subject: _Text | msgspec.UnsetType = msgspec.UNSET
    datacontenttype: _Text | msgspec.UnsetType = msgspec.UNSET
    dataschema: _Text | msgspec.UnsetType = msgspec.UNSET


class Judge:
    """Judges events of one product by one catalog, received at one time.

    `identities` of what was accepted gather here: of an amendment it is not the key of its partition.
    For the next request, `begin` again.
    """

    def __init__(
        self,
        rules: ProductRules,
        identities: Identities,
        pseudonyms: Pseudonyms,
        *,
        latest: datetime,
        max_event_bytes: int,
        hashed: Collection[Path] = (),
    ) -> None:
        self._rules = rules
        self._types = rules.types
        self._product = rules.product
        self._may_write = rules.may_write
        self._identity_of = identities.of
        self._redaction = Redaction(rules, pseudonyms)
        self._pseudonym_of = pseudonyms.of
        self._latest = latest  # no event may be later
        self._max_event_bytes = max_event_bytes
        self._hashed = hashed  # paths at which the events hold pseudonyms already
        self.identities: list[bytes] = []

    def begin(self, latest: datetime) -> None:
        """Judges from now on what is received at another time."""
        self._latest = latest
        self.identities = []

    def accept(self, event: Any, size: int) -> KeyedEvent:
        """The event, of `size` bytes as compact JSON, as the log takes it; changes `event`.

        Raises Refused, and has then changed nothing but attributes that were null.
        """
        if size > self._max_event_bytes:
            raise Refused("too_large", f"The event is larger than {self._max_event_bytes} bytes.")
        try:
            envelope = msgspec.convert(event, _Envelope)
        except msgspec.ValidationError:
            envelope = _looked_at_closely(event)
        extensions = () if _NAMED.issuperset(event) else _checked_extensions(event)
        type_rules = self._types.get(envelope.type)
        if type_rules is None:
            raise _unknown_type(self._rules, envelope.type)
        source, subject, data = envelope.source, envelope.subject, event.get("data", _NO_DATA)
        if not self._may_write(source):
            raise self._foreign_source("/source")
        type_rules.check(data, self._hashed)
        if type_rules.amends and not self._may_write(data["source"]):
            raise self._foreign_source("/data/source")
        if subject is msgspec.UNSET and type_rules.subject == "required":
            raise Refused("subject_missing", "Events of this type need a subject.", "/subject")
        if envelope.time is not msgspec.UNSET:
            self._check_time(event["time"], envelope.time)
        # nothing can be refused any more
        key = identity = self._identity_of(self._product, source, envelope.id)
        if type_rules.amends:  # it is read with the event that it speaks of
            key = self._identity_of(self._product, data["source"], data["id"])
        if data is not _NO_DATA:
            data = event["data"] = type_rules.prune(data)
            if type_rules.pseudonymous:
                event["data"] = self._redaction.hash_paths(data, type_rules.pseudonymous)
        if subject is not msgspec.UNSET:
            event["subject"] = pseudonym = self._pseudonym_of(self._product, subject)
            for name in extensions:  # partition keys and the like often repeat the subject
                if event[name] == subject:
                    event[name] = pseudonym
            if type_rules.subject == "none":
                del event["subject"]
        self.identities.append(identity)
        return KeyedEvent(key, CANONICAL.encode(event))

    def _foreign_source(self, pointer: str) -> Refused:
        detail = f"The catalog of {self._product} has no such source: add it to `sources` or use another key."
        return Refused("source_not_allowed", detail, pointer, forbidden=True)

    def _check_time(self, text: str, moment: datetime) -> None:
        # the parser also takes a space for the T and +0100
        if text[10] != "T" or (text[-1] != "Z" and text[-3] != ":"):
            raise _bad_time()
        if moment > self._latest:
            raise Refused("time_in_future", "The event is later than now: check the sender's clock.", "/time")
        if moment < self._rules.since:
            since = self._rules.since.date()
            raise Refused("time_too_old", f"The catalog counts events since {since}.", "/time")

    def quarantine(self, event: Any, refused: Refused) -> KeyedEvent:
        """A refused event as the quarantine log takes it. Changes `event`."""
        key = self._key_of(event)
        is_event = refused.code != "invalid_envelope"
        kept = _head_only(event) if refused.code == "too_large" else event
        redacted = CANONICAL.encode(self._redaction.redact(kept, is_event=is_event))
        if len(redacted) > self._max_event_bytes:  # what is not compact, and pseudonyms, can make it longer
            redacted = CANONICAL.encode(self._redaction.redact(_head_only(event), is_event=is_event))
        item = {
            "code": refused.code,
            "detail": refused.detail,
            "pointer": refused.pointer,
            "event": msgspec.Raw(redacted),
        }
        return KeyedEvent(key or hashlib.blake2b(redacted, digest_size=16).digest(), CANONICAL.encode(item))

    def _key_of(self, event: Any) -> bytes | None:
        """The routing key of a refused event, if it has an identity."""
        if type(event) is dict and type(event.get("source")) is str and type(event.get("id")) is str:
            return self._identity_of(self._product, event["source"], event["id"])
        return None


_NO_DATA: dict[str, Any] = {}  # what an event without data is judged by; never changed


def _looked_at_closely(event: Any) -> _Envelope:
    """The attributes of `event`. Raises Refused with what is wrong first. Drops attributes that are null."""
    check_envelope(event)
    try:
        return msgspec.convert(event, _Envelope)
    except msgspec.ValidationError:
        raise _bad_time() from None


def _head_only(event: Any) -> Any:
    """Of an event that is too large to keep, what says which one it was."""
    if type(event) is not dict:
        return None
    head = {name: event[name] for name in _NAMED & event.keys() if name != "data"}
    kept = {name: text for name, text in head.items() if type(text) is str and len(text) <= _MAX_HEAD_TEXT}
    return {**kept, DATA_DROPPED: True}


def check_envelope(event: Any) -> None:
    """Raises Refused unless `event` is a CloudEvents 1.0 event. Drops attributes that are null."""
    if type(event) is not dict:
        raise Refused("invalid_envelope", "expected a JSON object: a CloudEvents 1.0 event")
    for name in IDENTITY:
        text = event.get(name)
        if type(text) is not str or not text:
            raise Refused("invalid_envelope", f"expected `{name}`: text that is not empty", f"/{name}")
    if event.get("specversion") != SPEC_VERSION:
        raise Refused("invalid_envelope", 'expected `specversion`: "1.0"', "/specversion")
    for name in _OPTIONAL_TEXT:
        if name in event:
            _check_optional(event, name)


def _check_optional(event: dict[str, Any], name: str) -> None:
    text = event[name]
    if text is None:
        del event[name]
    elif type(text) is not str or not text:
        raise Refused("invalid_envelope", f"expected `{name}`: text that is not empty, or none", f"/{name}")


def _checked_extensions(event: dict[str, Any]) -> list[str]:
    """The names of the extension attributes, those that are null dropped. Raises Refused."""
    names = [name for name in event if name not in _NAMED]
    for name in names:
        if event[name] is None:
            del event[name]
        else:
            _check_extension(name, event[name])
    return [name for name in names if name in event]


def _check_extension(name: str, value: Any) -> None:
    if name == "data_base64":
        raise Refused(
            "invalid_envelope", "expected `data` as JSON: binary data cannot be counted", "/data_base64"
        )
    if _EXTENSION.fullmatch(name) is None:
        raise Refused("invalid_envelope", "expected attribute names of lower-case letters and digits")
    if isinstance(value, dict | list):
        raise Refused("invalid_envelope", "expected text, a number or a boolean as an attribute", f"/{name}")


def _bad_time() -> Refused:
    return Refused(
        "schema_violation", "expected an RFC 3339 time with a zone, like 2026-01-31T12:00:00Z", "/time"
    )


def _unknown_type(rules: ProductRules, event_type: str) -> Refused:
    detail = f"The catalog of {rules.product} has no such event type: add it to `events`, or correct `type`."
    return Refused("unknown_type", detail, "/type", forbidden=event_type in rules.types_of_others)
