"""Recounting from the log what a retraction or correction changes.

Minimum, maximum, latest, unique and percentiles cannot be subtracted from, so nothing is: the buckets that
the event touched, or touches under its correction, are counted anew from the events of their day, found
through the log index, and replaced in the transaction that counts the amendment.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

from impact_aggregator.amendments import settle
from impact_aggregator.batches import Recounted
from impact_aggregator.decode import decode_record
from impact_aggregator.events import Event
from impact_aggregator.fold import BucketKey, Known, fold
from impact_aggregator.partial import Partial
from impact_aggregator.windows import ALL_TIME, DAY, floor
from impact_eventlog import LogHole, LogUnavailable
from impact_schemas.annotation import ANNOTATION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

    from impact_aggregator.amendments import Amendment
    from impact_aggregator.batches import Claim
    from impact_aggregator.fold import Folded
    from impact_aggregator.rules import Rules
    from impact_eventlog import EventLogReader, Partition, Record
    from impact_schemas.identity import Identities

_POLL_S = 5.0
_PATIENCE_S = 15.0  # for a record that the log must have: a poll may also bring what was asked for before

Amendments = dict[bytes, list["Amendment"]]  # by target


class History:
    """Reads the log's past, beside the reader that goes on."""

    def __init__(self, reader: EventLogReader) -> None:
        self._reader = reader
        self._started = False
        self._reading: Partition | None = None
        self._turn: object = None  # whose position the reader has: a rebuild recounts while it reads

    async def records(self, partition: Partition, start: int, end: int) -> AsyncIterator[Record]:
        """The records from offset `start` up to, not including, `end`. Raises LogUnavailable or LogHole."""
        if not self._started:
            await self._reader.start()
            self._started = True
        turn = object()
        while start < end:
            if self._turn is not turn:
                self._seek(partition, start)
                self._turn = turn
            for record in await self._next(partition, start):
                if start < min(record.offset, end):
                    raise LogHole(partition, start, record.offset - 1, "the log does not have these records")
                if start == record.offset < end:
                    start = record.offset + 1
                    yield record

    def _seek(self, partition: Partition, start: int) -> None:
        if self._reading is not None and self._reading != partition:
            # or what is behind the last recount's end would come first, for ever if the log is long
            self._reader.leave(self._reading)
        self._reading = partition
        self._reader.seek(partition, start)

    async def _next(self, partition: Partition, start: int) -> list[Record]:
        """At least one record of the partition. Raises LogUnavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S
        while loop.time() < deadline:
            records = [one for one in await self._reader.poll(_POLL_S) if one.partition == partition]
            if records:
                return records
        raise LogUnavailable(f"{partition} gives no records from offset {start}")

    async def stop(self) -> None:
        """Closes the reader."""
        if self._started:
            await self._reader.stop()


class Counted(Protocol):
    """What is known of what was counted: the store, or the store as it stood at some time."""

    async def known_identities(self, identities: Iterable[bytes]) -> dict[bytes, Known]:
        """Of these identities those that were counted."""
        ...

    async def amendments(self, targets: Iterable[bytes]) -> dict[bytes, list[Amendment]]:
        """What has been said of these events."""
        ...

    async def log_ranges(self, claimed: Claim, days: Iterable[int]) -> list[tuple[int, int]]:
        """Runs of offsets in which events of these days may be found again."""
        ...


class Recounter:
    """Works out what new amendments change of events that were counted before them."""

    def __init__(self, history: History, store: Counted, rules: Rules, identities: Identities) -> None:
        self._history = history
        self._store = store
        self._rules = rules
        self._identities = identities

    async def recount(
        self,
        claim: Claim,
        folded: Folded,
        known: Mapping[bytes, Known],
        before: Mapping[bytes, Collection[Amendment]],
    ) -> Recounted:
        """`known` and `before` as they were given to the fold that gave `folded`.

        Amendments that do not fit their event are moved to quarantine in `folded`.
        """
        recounted = Recounted()
        targets = {target: list(new) for target, new in folded.amendments.items() if target in known}
        if not targets:
            return recounted
        originals = await self._originals(claim.partition, [known[target] for target in targets])
        for target, new in targets.items():
            event = originals[target]
            was = settle(event, before.get(target, ()), self._rules).event
            now = self._settle(folded, event, [*before.get(target, ()), *new], new)
            if event.type == ANNOTATION:
                folded.annotate(event.identity, now)
            if _content(was) != _content(now):
                for key in self._touched(was) | self._touched(now):
                    recounted.buckets.setdefault(key, Partial())
                    recounted.causes.setdefault(key, []).extend(folded.amendments[target])
        if recounted.buckets:
            await self._count(claim, recounted.buckets, self._batch_amendments(folded))
        return recounted

    def _settle(
        self, folded: Folded, event: Event, amendments: list[Amendment], new: Sequence[Amendment]
    ) -> Event | None:
        """The event under all amendments; new ones that do not fit are refused."""
        settled = settle(event, amendments, self._rules)
        unfit = list(settled.unfit)
        if settled.event is not None and settled.applied is not None:
            refused = fold([settled.event], self._rules, {}).quarantined
            unfit += [(settled.applied, entry.code, entry.detail) for entry in refused]
        if not unfit:
            return settled.event
        for amendment, code, detail in unfit:
            if amendment in new:
                folded.refuse_amendment(amendment, code, detail)
                folded.amendments[amendment.target].remove(amendment)
        refused_ones = [amendment for amendment, _, _ in unfit]
        fitting = [amendment for amendment in amendments if amendment not in refused_ones]
        return self._settle(folded, event, fitting, [one for one in new if one not in refused_ones])

    @staticmethod
    def _batch_amendments(folded: Folded) -> Amendments:
        return {target: list(new) for target, new in folded.amendments.items()}

    def _touched(self, event: Event | None) -> set[BucketKey]:
        return set(fold([event], self._rules, {}, again=True).buckets) if event is not None else set()

    async def _originals(self, partition: Partition, places: Collection[Known]) -> dict[bytes, Event]:
        found = {}
        for place in places:
            async for record in self._history.records(partition, place.offset, place.offset + 1):
                event = list(decode_record(record, self._identities))[place.position]
                if isinstance(event, Event):
                    found[event.identity] = event
        return found

    async def _count(
        self, claim: Claim, buckets: dict[BucketKey, Partial], new: Mapping[bytes, list[Amendment]]
    ) -> None:
        """Fills the empty `buckets` with what the events before the batch give."""
        days = {floor(key.start, DAY) for key in buckets if key.resolution != ALL_TIME}
        for start, end in await self._store.log_ranges(claim, days):
            chunk: list[Event] = []
            size = 0
            async for record in self._history.records(claim.partition, start, end):
                chunk += self._of_days(record, days)
                size += len(record.payload)
                if size > _CHUNK_BYTES:
                    await self._add(buckets, chunk, new)
                    chunk, size = [], 0
            await self._add(buckets, chunk, new)

    def _of_days(self, record: Record, days: Collection[int]) -> Iterable[Event]:
        return [
            event
            for event in decode_record(record, self._identities)
            if isinstance(event, Event) and event.target is None and floor(event.time, DAY) in days
        ]

    async def _add(
        self, buckets: dict[BucketKey, Partial], events: Sequence[Event], new: Mapping[bytes, list[Amendment]]
    ) -> None:
        identities = [event.identity for event in events]
        known = await self._store.known_identities(identities)
        amendments: Amendments = defaultdict(list)
        for source in (await self._store.amendments(identities), new):
            for target, ones in source.items():
                amendments[target] += ones
        counted = [event for event in events if is_first_copy(event, known)]
        for key, partial in fold(counted, self._rules, {}, amendments, again=True).buckets.items():
            if key in buckets and key.resolution != ALL_TIME:
                buckets[key].merge(partial)


_CHUNK_BYTES = 4 * 1024 * 1024  # of the log, decoded at a time: some 16,000 events, beside those of the turn


def is_first_copy(event: Event, known: Mapping[bytes, Known]) -> bool:
    """Whether this is the copy that was counted."""
    first = known.get(event.identity)
    position = event.position
    return first is not None and (first.partition, first.offset, first.position) == (
        position.partition.number,
        position.offset,
        position.index,
    )


def _content(event: Event | None) -> object:
    return None if event is None else event.data
