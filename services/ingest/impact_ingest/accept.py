"""Judges one event: to the log in its canonical form, or a verdict. Pure: no IO, no clock."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from impact_eventlog.ports import KeyedEvent
from impact_ingest.envelope import NAMED, Envelope, read_envelope
from impact_ingest.redaction import CANONICAL, DATA_DROPPED, Redaction
from impact_ingest.verdicts import Refused

if TYPE_CHECKING:
    from collections.abc import Collection

    from impact_ingest.rules import Path, ProductRules
    from impact_schemas.identity import Identities, Pseudonyms

_MAX_HEAD_TEXT = 1024  # characters of an attribute of an event that is too large


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
        self._since, self._latest = rules.since, latest  # no event may be earlier, or later
        self._max_event_bytes = max_event_bytes
        self._hashed = hashed  # paths at which the events hold pseudonyms already
        self.identities: list[bytes] = []

    def begin(self, latest: datetime) -> None:
        """Judges from now on what is received at another time."""
        self._latest = latest
        self.identities = []

    def accept(self, event: Any, size: int) -> KeyedEvent:
        """The event, of `size` bytes as compact JSON, as the log takes it: an Envelope, or any JSON value.

        Raises Refused, and has then changed nothing of `event`.
        """
        if size > self._max_event_bytes:
            raise Refused("too_large", f"The event is larger than {self._max_event_bytes} bytes.")
        envelope, extensions = (event, None) if type(event) is Envelope else read_envelope(event)
        type_rules = self._types.get(envelope.type)
        if type_rules is None:
            raise _unknown_type(self._rules, envelope.type)
        source, subject, data = envelope.source, envelope.subject, envelope.data
        if data is UNSET:
            data = _NO_DATA
        if not self._may_write(source):
            raise self._foreign_source("/source")
        type_rules.check(data, self._hashed)
        if type_rules.amends and not self._may_write(data["source"]):
            raise self._foreign_source("/data/source")
        if subject is UNSET and type_rules.subject == "required":
            raise Refused("subject_missing", "Events of this type need a subject.", "/subject")
        if envelope.time is not UNSET:
            self._check_time(envelope.time)
        # nothing can be refused any more
        key = identity = self._identity_of(self._product, source, envelope.id)
        if type_rules.amends:  # it is read with the event that it speaks of
            key = self._identity_of(self._product, data["source"], data["id"])
        if data is not _NO_DATA:
            envelope.data = data = type_rules.prune(data)
            if type_rules.pseudonymous:
                envelope.data = self._redaction.hash_paths(data, type_rules.pseudonymous)
        if subject is not UNSET:
            pseudonym = self._pseudonym_of(self._product, subject)
            envelope.subject = UNSET if type_rules.subject == "none" else pseudonym
            if extensions:  # partition keys and the like often repeat the subject
                extensions = {
                    name: pseudonym if value == subject else value for name, value in extensions.items()
                }
        self.identities.append(identity)
        return KeyedEvent(
            key, CANONICAL.encode(envelope.attributes() | extensions if extensions else envelope)
        )

    def _foreign_source(self, pointer: str) -> Refused:
        detail = f"The catalog of {self._product} has no such source: add it to `sources` or use another key."
        return Refused("source_not_allowed", detail, pointer, forbidden=True)

    def _check_time(self, text: str) -> None:
        try:
            moment = msgspec.convert(text, datetime)
        except msgspec.ValidationError:
            raise _bad_time() from None
        # the parser also takes no zone, a space for the T, and +0100
        if text[10] != "T" or (text[-1] != "Z" and (moment.tzinfo is None or text[-3] != ":")):
            raise _bad_time()
        if moment > self._latest:
            raise Refused("time_in_future", "The event is later than now: check the sender's clock.", "/time")
        if moment < self._since:
            raise Refused("time_too_old", f"The catalog counts events since {self._since.date()}.", "/time")

    def quarantine(self, event: Any, refused: Refused) -> KeyedEvent:
        """A refused event as the quarantine log takes it. Changes `event`."""
        if type(event) is Envelope:
            event = event.attributes()
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


def _head_only(event: Any) -> Any:
    """Of an event that is too large to keep, what says which one it was."""
    if type(event) is not dict:
        return None
    head = {name: event[name] for name in NAMED & event.keys() if name != "data"}
    kept = {name: text for name, text in head.items() if type(text) is str and len(text) <= _MAX_HEAD_TEXT}
    return {**kept, DATA_DROPPED: True}


def _bad_time() -> Refused:
    return Refused(
        "schema_violation", "expected an RFC 3339 time with a zone, like 2026-01-31T12:00:00Z", "/time"
    )


def _unknown_type(rules: ProductRules, event_type: str) -> Refused:
    detail = f"The catalog of {rules.product} has no such event type: add it to `events`, or correct `type`."
    return Refused("unknown_type", detail, "/type", forbidden=event_type in rules.types_of_others)
