"""Judges quarantined events again, under the catalog of now: pure.

Identity and receipt time stay what they were. What the quarantine holds is redacted: its subject and its
pseudonymous values are pseudonyms already, and are not hashed a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from impact_ingest.accept import Judge
from impact_ingest.problems import Problem
from impact_ingest.redaction import DATA_DROPPED, HASHED_PATHS
from impact_ingest.split import decode
from impact_schemas.identity import Pseudonyms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from impact_eventlog.ports import KeyedEvent
    from impact_ingest.limits import Limits
    from impact_ingest.rules import Path, ProductRules
    from impact_schemas.identity import Identities

# codes whose events no catalog can make countable, with what to do instead
FINAL = {
    "id_conflict": "the first event with this id holds: send a correction (impact.correction.v1)",
    "invalid_envelope": "it is no CloudEvent: send it again, mended",
    "too_large": "its data were not kept: send it again, smaller or under a higher limit",
    "unknown_target": "it speaks of a retraction or correction: send another correction",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AMENDMENTS = ("impact.retraction.v1", "impact.correction.v1")


class NotReplayable(Exception):
    """No catalog can make this event countable as it stands; says what to do instead."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A quarantined event. `from_log`: it was in the event log, so that nothing of it is raw."""

    code: str
    payload: str | None
    received_at: int  # microseconds since 1970
    from_log: bool


class ReplayParts(NamedTuple):
    """What events of one product are judged with."""

    rules: ProductRules
    identities: Identities
    master_key: bytes
    limits: Limits


def judge_again(entry: Entry, parts: ReplayParts) -> KeyedEvent:
    """The event as the event log takes it. Raises Refused, or NotReplayable."""
    if entry.code in FINAL:
        raise NotReplayable(FINAL[entry.code])
    event, size = _event_of(entry)
    rules = parts.rules.types.get(str(event.get("type")))
    paths = list(rules.pseudonymous) if rules else []
    marked = {tuple(path.split(".")[1:]) for path in str(event.pop(HASHED_PATHS, "")).split()}
    hashed = paths if entry.from_log else [path for path in paths if path in marked]
    pseudonyms = _KnownPseudonyms(parts.master_key, set(_pseudonyms_in(event, hashed)))
    # what was later than its receipt then is so now: the receipt time stays
    latest = _EPOCH + timedelta(microseconds=entry.received_at, seconds=parts.limits.future_tolerance_s)
    judge = Judge(
        parts.rules,
        parts.identities,
        pseudonyms,
        latest=latest,
        max_event_bytes=parts.limits.max_event_bytes,
        hashed=hashed,
    )
    return judge.accept(event, size)


def _event_of(entry: Entry) -> tuple[dict[str, Any], int]:
    if entry.payload is None:
        raise NotReplayable("its content is no longer kept: send it again")
    try:
        event = decode(entry.payload.encode(), "the quarantined event")
    except Problem as problem:
        raise NotReplayable(f"it cannot be read ({problem.detail}): send it again") from None
    if type(event) is not dict:
        raise NotReplayable(FINAL["invalid_envelope"])
    if event.get(DATA_DROPPED) is True and not entry.from_log:
        raise NotReplayable(FINAL["too_large"])
    if event.get("type") in _AMENDMENTS and not entry.from_log:
        raise NotReplayable("retractions and corrections are not replayed: send it again, mended")
    return event, len(entry.payload.encode())


class _KnownPseudonyms(Pseudonyms):
    """Pseudonyms of which some stand in the event already: those are their own."""

    def __init__(self, master: bytes, known: Collection[str]) -> None:
        super().__init__(master)
        self._known = known

    def of(self, product: str, value: str) -> str:
        return value if value in self._known else super().of(product, value)


def _pseudonyms_in(event: dict[str, Any], hashed: Iterable[Path]) -> Iterator[str]:
    subject = event.get("subject")
    if isinstance(subject, str):
        yield subject
    for path in hashed:
        yield from _texts_at(event.get("data"), path)


def _texts_at(value: Any, path: Path) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts_at(item, path)
    elif not path:
        if isinstance(value, str):
            yield value
    elif isinstance(value, dict):
        yield from _texts_at(value.get(path[0]), path[1:])
