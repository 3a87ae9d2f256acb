"""What a refused event looks like in the quarantine: as much as a replay needs, and nothing personal.

- The subject, the pseudonymous paths of the event's type (of every type, if it is unknown), and text that
  is equal to one of them anywhere but in the identity, are pseudonyms, as in the log.
- Properties that the schema of a known type does not name are dropped, as in the log.
- Of an unknown type, or of what is no event at all, nobody has said what is personal. Kept are numbers,
  truth values, and text that is a code ("sms", "clinic-12", "es"); dropped is what a person could be known
  by: free text, long numbers, and whatever stands under a name like `phone`. So a replay under a catalog
  that knows the type counts the event, or refuses it again for what is missing; it never counts a wrong
  value. The sender was told, still has the event, and may send it again under the same id.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from impact_ingest.envelope import IDENTITY, NAMED
from impact_schemas.personal import personal_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from impact_ingest.rules import Path, ProductRules
    from impact_schemas.identity import Pseudonyms

# Attributes of an event in quarantine, for its replay: where it holds pseudonyms, and that its data are gone.
HASHED_PATHS, DATA_DROPPED = "hashedpaths", "datadropped"
_CODE = re.compile(r"[A-Za-z0-9_.:/+-]{1,64}")
_MAX_CODE_DIGITS = 6  # a telephone number has more
_MAX_NUMBER = 10**9
CANONICAL = msgspec.json.Encoder(order="sorted", decimal_format="number")


class Redaction:
    """Redacts the events of one product."""

    def __init__(self, rules: ProductRules, pseudonyms: Pseudonyms) -> None:
        self._rules = rules
        self._pseudonyms = pseudonyms

    def pseudonym(self, value: Any) -> str | None:
        """Of any JSON value; a number has the pseudonym of its text. null stays null."""
        if value is None:
            return None
        text = value if type(value) is str else CANONICAL.encode(value).decode()
        return self._pseudonyms.of(self._rules.product, text)

    def hash_paths(self, data: Any, paths: Sequence[Path]) -> Any:
        """`data` with pseudonyms at `paths`, in every element of arrays on the way. Changes it in place."""
        for path in paths:
            data = _changed_at(data, path, self.pseudonym)
        return data

    def redact(self, event: Any, *, is_event: bool) -> Any:
        """The event without anything personal. Changes `event`. `is_event`: its envelope is good."""
        if type(event) is not dict:
            return _codes_only(event)
        known = self._rules.types.get(event_type) if type(event_type := event.get("type")) is str else None
        paths = known.pseudonymous if known else self._rules.all_pseudonymous
        secrets = set().union(*(_strings_at(event.get("data"), path) for path in paths))
        if type(event.get("subject")) is str:
            secrets.add(event["subject"])
        if not is_event:
            event = {name: part for name, part in event.items() if _is_attribute(name, part)}
        hashed: list[Path] = []
        if "data" in event:
            data = known.prune(event["data"]) if known else _codes_only(event["data"], paths)
            event["data"] = self.hash_paths(data, paths)
            hashed = [path for path in paths if _strings_at(event["data"], path)]
        redacted = {name: self._without(part, secrets) for name, part in event.items()}
        redacted.pop(HASHED_PATHS, None)
        if "subject" in event:
            redacted["subject"] = self.pseudonym(event["subject"])
        if hashed:
            redacted[HASHED_PATHS] = " ".join(".".join(("data", *path)) for path in hashed)
        return redacted | {name: event[name] for name in IDENTITY if type(event.get(name)) is str}

    def _without(self, value: Any, secrets: set[str]) -> Any:
        """`value` with pseudonyms for text that is one of `secrets`, also where it is a name."""
        if type(value) is dict:
            return {
                self._without(name, secrets): self._without(part, secrets) for name, part in value.items()
            }
        if type(value) is list:
            return [self._without(item, secrets) for item in value]
        return self.pseudonym(value) if type(value) is str and value in secrets else value


def _is_attribute(name: str, part: Any) -> bool:
    """Of what is no event: whether it is an attribute that may be kept, at least when redacted."""
    if name in ("subject", "data"):
        return True
    return type(part) is str if name in NAMED else _is_harmless(name, part) and type(part) is not dict


def _changed_at(value: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    if type(value) is list:
        return [_changed_at(item, path, change) for item in value]
    if not path:
        return change(value)
    if type(value) is dict and path[0] in value:
        value[path[0]] = _changed_at(value[path[0]], path[1:], change)
    return value


def _strings_at(value: Any, path: Path) -> set[str]:
    if type(value) is list:
        return set().union(*(_strings_at(item, path) for item in value))
    if path:
        return _strings_at(value.get(path[0]), path[1:]) if type(value) is dict else set()
    return {value} if type(value) is str else set()


def _codes_only(value: Any, paths: Sequence[Path] = ()) -> Any:
    """`value` without what a person could be known by, with what is at `paths`. null if nothing is left."""
    if type(value) is dict:
        kept: dict[str, Any] = {}
        for name, part in value.items():
            below = [path[1:] for path in paths if path and path[0] == name]
            if below or _is_harmless(name, part):
                kept[name] = _codes_only(part, below)
        return kept
    if type(value) is list:
        return [_codes_only(item, paths) for item in value]
    return value if () in paths or _is_code(value) else None


def _is_harmless(name: str, value: Any) -> bool:
    """Whether neither a name nor what stands under it says anything about a person, as far as can be seen."""
    named = name != "subject" and personal_kind(name) is None and _is_code(name)
    return named and (type(value) is dict or type(value) is list or _is_code(value))


def _is_code(value: Any) -> bool:
    if type(value) is str:
        return _CODE.fullmatch(value) is not None and sum(map(str.isdigit, value)) <= _MAX_CODE_DIGITS
    return value is None or type(value) is bool or -_MAX_NUMBER < value < _MAX_NUMBER
