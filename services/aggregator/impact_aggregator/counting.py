"""From the records of a poll to what they change: decode, look up, fold, recount. Writes nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from impact_aggregator.batches import Batch
from impact_aggregator.decode import decode_record, decode_rejections
from impact_aggregator.events import KINDS, Event
from impact_aggregator.fold import fold
from impact_aggregator.recount import Recounter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from impact_aggregator.batches import Claim
    from impact_aggregator.events import Quarantined
    from impact_aggregator.recount import History
    from impact_aggregator.rules import Rules
    from impact_aggregator.store import Store
    from impact_eventlog import Partition, Record
    from impact_schemas.identity import Identities

PATIENCE_S = 15.0  # a changed catalog is taken up within 10 s by every process, but not at the same moment


class CatalogBehind(Exception):
    """The door has let in a type that this process's catalog does not know yet: wait for the files."""


class Counting:
    """Makes batches under the rules that are in force."""

    def __init__(
        self,
        store: Store,
        history: History,
        identities: Identities,
        quarantine_topic: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._history = history
        self._identities = identities
        self._quarantine_topic = quarantine_topic
        self._monotonic = monotonic
        self._strange: dict[tuple[str, str], float] = {}  # types the catalog lacks, since when

    async def batches(
        self, claims: Mapping[Partition, Claim], records: Mapping[Partition, Sequence[Record]], rules: Rules
    ) -> list[Batch]:
        """One batch for each partition. Raises CatalogBehind; LogUnavailable or LogHole of a recount."""
        decoded = {partition: self._decode(group) for partition, group in records.items()}
        events = [event for entries in decoded.values() for event in entries if isinstance(event, Event)]
        self._wait_for_catalog(events, rules)
        named = {event.identity for event in events}
        named |= {event.target for event in events if event.target is not None}
        known = await self._store.known_identities(named)
        amendments = await self._store.amendments(named) if events else {}
        recounter = Recounter(self._history, self._store, rules, self._identities)
        batches = []
        for partition, entries in decoded.items():
            folded = fold(entries, rules, known, amendments)
            recounted = await recounter.recount(claims[partition], folded, known, amendments)
            after = records[partition][-1].offset + 1
            batches.append(Batch(claims[partition], after, folded, recounted))
        return batches

    def _decode(self, records: Sequence[Record]) -> list[Event | Quarantined]:
        entries: list[Event | Quarantined] = []
        for record in records:
            if record.partition.topic == self._quarantine_topic:
                entries.extend(decode_rejections(record))
            else:
                entries.extend(decode_record(record, self._identities))
        return entries

    def _wait_for_catalog(self, events: Sequence[Event], rules: Rules) -> None:
        types = {(event.record.product, event.type) for event in events}
        strange = {name for name in types - rules.by_type.keys() if name[1] not in KINDS}
        now = self._monotonic()
        waiting = [name for name in strange if now - self._strange.setdefault(name, now) < PATIENCE_S]
        if waiting:
            raise CatalogBehind(f"the catalog here does not know {waiting[0][1]!r} of {waiting[0][0]!r} yet")
