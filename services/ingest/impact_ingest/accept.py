"""Judges one event: to the log in its canonical form, or a verdict. Pure: no IO, no clock."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from impact_eventlog.ports import KeyedEvent
from impact_ingest.verdicts import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from impact_ingest.rules import Path, ProductRules
    from impact_ingest.verdicts import Code
    from impact_schemas.identity import Identities, Pseudonyms

SPEC_VERSION = "1.0"
# Attributes of an event in quarantine, for its replay: where it holds pseudonyms, and that its data are gone.
HASHED_PATHS, DATA_DROPPED = "hashedpaths", "datadropped"
_REQUIRED = ("id", "source", "type")
_OPTIONAL_TEXT = ("subject", "time", "datacontenttype", "dataschema")
_NAMED = frozenset(["specversion", *_REQUIRED, *_OPTIONAL_TEXT, "data"])
_MAX_HEAD_TEXT = 1024  # characters of an attribute of an event that is too large
_EXTENSION = re.compile(r"[a-z0-9]+")
_CANONICAL = msgspec.json.Encoder(order="sorted", decimal_format="number")


class Judge:
    """Judges events of one product by one catalog, received at one time."""

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
        self._identities = identities
        self._pseudonyms = pseudonyms
        self._latest = latest  # no event may be later
        self._max_event_bytes = max_event_bytes
        self._hashed = hashed  # paths at which the events hold pseudonyms already

    def accept(self, event: Any, size: int) -> KeyedEvent:
        """The event, of `size` bytes as compact JSON, as the log takes it; changes `event`.

        Raises Refused, and has then changed nothing but attributes that were null.
        """
        if size > self._max_event_bytes:
            raise Refused("too_large", f"The event is larger than {self._max_event_bytes} bytes.")
        check_envelope(event)
        rules = self._rules
        type_rules = rules.types.get(event["type"])
        if type_rules is None:
            raise _unknown_type(rules, event["type"])
        if not rules.may_write(event["source"]):
            raise Refused(
                "source_not_allowed",
                f"The catalog of {rules.product} has no such source: add it to `sources` or use another key.",
                "/source",
                forbidden=True,
            )
        data = event.get("data", {})
        type_rules.check(data, self._hashed)
        subject = event.get("subject")
        if subject is None and type_rules.subject == "required":
            raise Refused("subject_missing", "Events of this type need a subject.", "/subject")
        if (time := event.get("time")) is not None:
            self._check_time(time)
        # nothing can be refused any more
        if "data" in event:
            event["data"] = self._hash_paths(type_rules.prune(data), type_rules.pseudonymous)
        if subject is not None:
            self._hash_subject(event, subject, keep=type_rules.subject != "none")
        key = self._identities.of(rules.product, event["source"], event["id"])
        return KeyedEvent(key, _CANONICAL.encode(event))

    def _check_time(self, text: str) -> None:
        moment = parse_time(text)
        if moment is None:
            raise Refused(
                "schema_violation",
                "expected an RFC 3339 time with a zone, like 2026-01-31T12:00:00Z",
                "/time",
            )
        if moment > self._latest:
            raise Refused("time_in_future", "The event is later than now: check the sender's clock.", "/time")
        if moment < self._rules.since:
            since = self._rules.since.date()
            raise Refused("time_too_old", f"The catalog counts events since {since}.", "/time")

    def _hash_subject(self, event: dict[str, Any], subject: str, *, keep: bool) -> None:
        pseudonym = self._pseudonyms.of(self._rules.product, subject)
        # partition keys and the like often repeat the subject
        if not _NAMED.issuperset(event):
            for name in event.keys() - _NAMED:
                if event[name] == subject:
                    event[name] = pseudonym
        if keep:
            event["subject"] = pseudonym
        else:
            del event["subject"]

    def _hash_paths(self, data: Any, paths: Sequence[Path]) -> Any:
        for path in paths:
            data = self._hash_at(data, path)
        return data

    def _hash_at(self, value: Any, path: Path) -> Any:
        if type(value) is list:
            return [self._hash_at(item, path) for item in value]
        if not path:
            return self.pseudonym(value)
        if type(value) is dict and path[0] in value:
            value[path[0]] = self._hash_at(value[path[0]], path[1:])
        return value

    def pseudonym(self, value: Any) -> str | None:
        """Of any JSON value; a number has the pseudonym of its text. null stays null."""
        if value is None:
            return None
        text = value if type(value) is str else _CANONICAL.encode(value).decode()
        return self._pseudonyms.of(self._rules.product, text)

    def redact(self, event: Any, code: Code) -> bytes:
        """A refused event as JSON for the quarantine: like the log, it holds no raw subject. Changes `event`.

        Everything is hashed that may be personal: the subject, the type's pseudonymous paths (every
        type's, if it is unknown), and strings equal to one of them anywhere but in the identity. What is
        no event at all can hide a subject at any depth.
        """
        deep = code == "invalid_envelope"
        secrets = _subjects(event, deep=deep)
        if type(event) is not dict:
            return _CANONICAL.encode(self._redacted(event, secrets, deep=deep))
        hashed: list[Path] = []
        if "data" in event:
            paths = self._pseudonymous_of(event.get("type"))
            secrets = secrets.union(*(_strings_at(event["data"], path) for path in paths))
            event["data"] = self._hash_paths(event["data"], paths)
            hashed = [path for path in paths if _strings_at(event["data"], path)]
        redacted = {name: self._redacted(part, secrets, deep=deep) for name, part in event.items()}
        if "subject" in event:
            redacted["subject"] = self.pseudonym(event["subject"])
        redacted |= {name: event[name] for name in _REQUIRED if type(event.get(name)) is str}
        redacted.pop(HASHED_PATHS, None)
        if hashed:
            redacted[HASHED_PATHS] = " ".join(".".join(("data", *path)) for path in hashed)
        return _CANONICAL.encode(redacted)

    def _pseudonymous_of(self, event_type: Any) -> Sequence[Path]:
        known = self._rules.types.get(event_type) if type(event_type) is str else None
        return known.pseudonymous if known else self._rules.all_pseudonymous

    def _redacted(self, value: Any, secrets: set[str], *, deep: bool) -> Any:
        if type(value) is dict:
            return {
                self._pseudonym_if(name in secrets, name): self.pseudonym(part)
                if deep and name == "subject"
                else self._redacted(part, secrets, deep=deep)
                for name, part in value.items()
            }
        if type(value) is list:
            return [self._redacted(item, secrets, deep=deep) for item in value]
        return self._pseudonym_if(type(value) is str and value in secrets, value)

    def _pseudonym_if(self, personal: bool, value: Any) -> Any:
        return self.pseudonym(value) if personal else value

    def quarantine(self, event: Any, refused: Refused) -> KeyedEvent:
        """A refused event as the quarantine log takes it. Changes `event`."""
        key = self._key_of(event)
        redacted = self.redact(event, refused.code)
        if len(redacted) > self._max_event_bytes:
            redacted = self.redact(_head_only(event), refused.code)
        item = {
            "code": refused.code,
            "detail": refused.detail,
            "pointer": refused.pointer,
            "event": msgspec.Raw(redacted),
        }
        return KeyedEvent(key or hashlib.blake2b(redacted, digest_size=16).digest(), _CANONICAL.encode(item))

    def _key_of(self, event: Any) -> bytes | None:
        """The routing key of a refused event, if it has an identity."""
        if type(event) is dict and type(event.get("source")) is str and type(event.get("id")) is str:
            return self._identities.of(self._rules.product, event["source"], event["id"])
        return None


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
    for name in _REQUIRED:
        text = event.get(name)
        if type(text) is not str or not text:
            raise Refused("invalid_envelope", f"expected `{name}`: text that is not empty", f"/{name}")
    if event.get("specversion") != SPEC_VERSION:
        raise Refused("invalid_envelope", 'expected `specversion`: "1.0"', "/specversion")
    for name in _OPTIONAL_TEXT:
        if name in event:
            _check_optional(event, name)
    if not _NAMED.issuperset(event):
        for name in event.keys() - _NAMED:
            if event[name] is None:
                del event[name]
            else:
                _check_extension(name, event[name])


def _check_optional(event: dict[str, Any], name: str) -> None:
    text = event[name]
    if text is None:
        del event[name]
    elif type(text) is not str or not text:
        raise Refused("invalid_envelope", f"expected `{name}`: text that is not empty, or none", f"/{name}")


def _check_extension(name: str, value: Any) -> None:
    if name == "data_base64":
        raise Refused(
            "invalid_envelope", "expected `data` as JSON: binary data cannot be counted", "/data_base64"
        )
    if _EXTENSION.fullmatch(name) is None:
        raise Refused("invalid_envelope", "expected attribute names of lower-case letters and digits")
    if isinstance(value, dict | list):
        raise Refused("invalid_envelope", "expected text, a number or a boolean as an attribute", f"/{name}")


def _unknown_type(rules: ProductRules, event_type: str) -> Refused:
    detail = f"The catalog of {rules.product} has no such event type: add it to `events`, or correct `type`."
    return Refused("unknown_type", detail, "/type", forbidden=event_type in rules.types_of_others)


def parse_time(text: str) -> datetime | None:
    """An RFC 3339 time with a zone, or None."""
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    # the parser also takes a space for the T, +0100 and times without a zone
    strict = text[10] == "T" and (text[-1] == "Z" or text[-3] == ":")
    return moment if strict and moment.tzinfo is not None else None


def _subjects(value: Any, *, deep: bool) -> set[str]:
    """Strings under the key `subject`, if `deep` at any depth."""
    if type(value) is dict:
        found: set[str] = {value["subject"]} if type(value.get("subject")) is str else set()
        return found.union(*(_subjects(part, deep=True) for part in value.values())) if deep else found
    if type(value) is list and deep:
        return set().union(*(_subjects(item, deep=True) for item in value))
    return set()


def _strings_at(value: Any, path: Path) -> set[str]:
    if type(value) is list:
        return set().union(*(_strings_at(item, path) for item in value))
    if path:
        return _strings_at(value.get(path[0]), path[1:]) if type(value) is dict else set()
    return {value} if type(value) is str else set()
