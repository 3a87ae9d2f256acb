"""The fold: a batch of events of one partition to what changes in the database. Pure.

For every event, in log order: a copy of a known identity is a duplicate (or, with other content, a
conflict); an event that cannot be counted is quarantined and claims no identity; any other is counted in
every metric that it belongs to, in the total and in each of the metric's segments.

Events that fall into the same bucket and the same segments of all metrics of their type form a group, and
each metric is worked out once a group: the work per event stays small however many metrics there are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.amendments import amendment_of, settle
from impact_aggregator.events import Event, Quarantined, quarantined
from impact_aggregator.partial import QUANTILES, Partial
from impact_aggregator.rules import Columns, TooManySegments
from impact_aggregator.sketches import Places, hash64
from impact_aggregator.windows import ALL_TIME, RESOLUTIONS, floor
from impact_schemas import numbers
from impact_schemas.annotation import ANNOTATION, Annotation, annotation_of
from impact_schemas.measure import CannotMeasure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from decimal import Decimal

    from impact_aggregator.amendments import Amendment
    from impact_aggregator.events import Position
    from impact_aggregator.rules import Parts, Rule, Rules, Split, TypeRules

_COARSER = {"1m": "1h", "1h": "1d", "1d": ALL_TIME}


class BucketKey(NamedTuple):
    """Names a bucket of one shard; `start` is 0 for all time."""

    series_id: int
    resolution: str
    start: int


@dataclass(slots=True)
class Tally:
    """What became of the events of one product."""

    counted: int = 0
    duplicates: int = 0
    quarantined: int = 0


@dataclass(slots=True)
class Folded:
    """What a batch of one partition changes."""

    identities: dict[bytes, Event] = field(default_factory=dict)  # those counted, by identity
    buckets: dict[BucketKey, Partial] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)  # by product
    amendments: dict[bytes, list[Amendment]] = field(default_factory=dict)  # those that are new, by target
    unfit: list[Amendment] = field(default_factory=list)  # those that were counted once and do not fit
    annotations: dict[bytes, Annotation | None] = field(default_factory=dict)  # by identity; None: taken back

    def tally(self, product: str) -> Tally:
        """The product's tally, made on first use."""
        found = self.tallies.get(product)
        if found is None:
            found = self.tallies[product] = Tally()
        return found

    def annotate(self, identity: bytes, event: Event | None) -> None:
        """What an annotation says now. Raises ValueError if it has not the form of one."""
        if event is None:
            self.annotations[identity] = None
        else:
            what = (event.product, event.time, event.event_id, event.data)
            self.annotations[identity] = annotation_of(identity, *what)

    def refuse(self, event: Event, code: str, detail: str, pointer: str | None = None) -> None:
        """Puts an event into quarantine."""
        what = (event.raw, event.received_at, code, detail, pointer)
        self.put_aside(quarantined(event.position, event.product, *what))

    def refuse_amendment(self, amendment: Amendment, code: str, detail: str) -> None:
        """Moves an amendment that was counted on its arrival to quarantine."""
        self.tally(amendment.product).counted -= 1
        self.unfit.append(amendment)
        raw = amendment.event.encode()
        self.put_aside(
            quarantined(amendment.position, amendment.product, raw, amendment.received_at, code, detail)
        )

    def put_aside(self, entry: Quarantined) -> None:
        """Takes up what is in quarantine already."""
        self.quarantined.append(entry)
        self.tally(entry.product).quarantined += 1


class Known(NamedTuple):
    """An identity that was counted before: the digest of its content, and where its first copy stands."""

    digest: int
    partition: int
    offset: int
    position: int  # within the record


def fold(
    events: Iterable[Event | Quarantined],
    rules: Rules,
    known: Mapping[bytes, Known],
    amendments: Mapping[bytes, Collection[Amendment]] = MappingProxyType({}),
    *,
    again: bool = False,
) -> Folded:
    """Folds events in log order.

    `known` has those of their identities that were counted before, `amendments` what has been said of
    them before, by target. `again`: they are events that were counted, perhaps under another catalog. What
    a metric of now cannot measure does not belong to that metric, but is counted in the others.
    """
    return _Fold(rules, known, amendments, again=again).run(list(events))


class _Group(NamedTuple):
    """Events that differ in nothing that a bucket's key knows of."""

    fed: TypeRules
    resolution: str  # the finest that any of the metrics keeps for events of this age
    start: int
    parts: Parts  # for each axis of the type
    events: list[Event]
    unmet: list[tuple[Rule, Split]]  # segments that no event of the group's has opened yet


Groups = dict[tuple[object, ...], _Group]  # by all that makes them differ


class _Uncountable(ValueError):
    """An event, or what it was corrected to, cannot be counted; the text says why."""

    def __init__(self, code: str, detail: str, pointer: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.pointer = pointer


class _Fold:
    def __init__(
        self,
        rules: Rules,
        known: Mapping[bytes, Known],
        amendments: Mapping[bytes, Collection[Amendment]],
        *,
        again: bool,
    ) -> None:
        self._rules = rules
        self._known = known
        self._amendments = amendments
        self._again = again
        self._beyond: dict[tuple[Position, bytes | None], CannotMeasure] = {}
        self._left_out: set[tuple[Position, int]] = set()  # with the total's series of the metric

    def run(self, events: list[Event | Quarantined]) -> Folded:
        # The door lets few values in that cannot be counted. One is found when its group is worked out:
        # then the batch is folded again without it, and under a correction less if it was a correction's.
        while True:
            found = len(self._beyond) + len(self._left_out)
            folded = self._run(events)
            if len(self._beyond) + len(self._left_out) == found:
                return folded

    def _run(self, events: list[Event | Quarantined]) -> Folded:
        folded = Folded()
        ordinary = [event for event in events if isinstance(event, Event) and event.target is None]
        if len(ordinary) < len(events):
            self._sort_out(folded, events)
        groups: Groups = {}
        self._sort_in(folded, groups, ordinary)
        for product, count in Counter([one.record.product for one in folded.identities.values()]).items():
            folded.tally(product).counted += count
        for group in groups.values():
            self._count(folded.buckets, group)
        _roll_up(folded.buckets)
        return folded

    def _sort_out(self, folded: Folded, events: list[Event | Quarantined]) -> None:
        """Notes the amendments: they decide what counts of events before and after them."""
        for event in events:
            if isinstance(event, Quarantined):
                folded.put_aside(event)
            elif event.target is not None and self._is_new(folded, event):
                folded.identities[event.identity] = event
                folded.amendments.setdefault(event.target, []).append(amendment_of(event))

    def _sort_in(self, folded: Folded, groups: Groups, events: list[Event]) -> None:
        """Each event that counts to its group. Most need no more than that: this loop is the hot one."""
        known, counted = self._known, folded.identities
        amended = self._amendments.keys() | folded.amendments.keys()
        rules_of = self._rules.by_type
        for event in events:
            identity = event.identity
            if identity in known or identity in counted:
                self._is_new(folded, event)
                continue
            fed = rules_of.get((event.record.product, event.type))
            if fed is not None and identity not in amended and not self._beyond:
                group = groups.get((fed, *fed.bucket_of(event)))
                if group is not None and not group.unmet:
                    group.events.append(event)
                    counted[identity] = event
                    continue
            self._decide(folded, groups, event)

    def _is_new(self, folded: Folded, event: Event) -> bool:
        before = self._known.get(event.identity) or folded.identities.get(event.identity)
        if before is None:
            return True
        if before.digest == event.digest:
            folded.tally(event.product).duplicates += 1
        else:
            detail = (
                "an event with this source and id but other content was counted before: send a correction"
            )
            folded.refuse(event, "id_conflict", detail)
        return False

    def _decide(self, folded: Folded, groups: Groups, event: Event) -> None:
        """What becomes of a new event, whatever has been said of it, and wherever it belongs."""
        if self._rules.of(event.product, event.type) is None:
            detail = f"the catalog of {event.product!r} has no event type {event.type!r}: add it, then replay"
            folded.refuse(event, "unknown_type", detail)
            return
        amendments = [*self._amendments.get(event.identity, ()), *folded.amendments.get(event.identity, ())]
        while True:
            counts, applied = self._settle(folded, event, amendments)
            try:
                self._take_in(folded, groups, event, counts)
            except _Uncountable as error:
                if applied is None:
                    folded.refuse(event, error.code, str(error), error.pointer)
                    return
                # the event is sound, but not what it was corrected to: as if that had come in a later batch
                folded.refuse_amendment(applied, error.code, str(error))
                amendments.remove(applied)
            else:
                folded.identities[event.identity] = event
                return

    def _settle(
        self, folded: Folded, event: Event, amendments: list[Amendment]
    ) -> tuple[Event | None, Amendment | None]:
        """What counts of the event, and the amendment that decides; those that do not fit are refused."""
        if not amendments:
            return event, None
        settled = settle(event, amendments, self._rules)
        for amendment, code, detail in settled.unfit:
            folded.refuse_amendment(amendment, code, detail)
            amendments.remove(amendment)
        return settled.event, settled.applied

    def _take_in(self, folded: Folded, groups: Groups, event: Event, counts: Event | None) -> None:
        """Raises _Uncountable."""
        if event.type == ANNOTATION:
            try:
                folded.annotate(event.identity, counts)
            except ValueError as error:
                raise _Uncountable("schema_violation", str(error)) from None
        elif counts is not None:
            self._add_to_group(groups, counts)

    def _add_to_group(self, groups: Groups, event: Event) -> None:
        """Raises _Uncountable."""
        beyond = self._beyond.get((event.position, event.corrected_by)) if self._beyond else None
        if beyond is not None:
            raise _Uncountable(beyond.code, beyond.detail, "/" + beyond.path.replace(".", "/"))
        fed = self._rules.of(event.product, event.type)
        if fed is None:  # sorted out before
            return
        place = fed.bucket_of(event)
        group = groups.get((fed, *place))
        if group is None:
            group = groups[fed, *place] = _Group(fed, *place, [], _unmet(fed, place[-1]))
        if group.unmet:
            try:
                _meet(group, event)
            except TooManySegments as error:
                raise _Uncountable("too_many_segments", str(error)) from None
        group.events.append(event)

    def _count(self, buckets: dict[BucketKey, Partial], group: _Group) -> None:
        """Works out each metric for a group, and adds it to the total and to the group's segments."""
        columns = Columns(group.events)
        seen, last_time = len(group.events), max([event.time for event in group.events], default=0)
        for rule, splits in group.fed.rules:
            resolution = max(rule.finest, group.resolution, key=RESOLUTIONS.__getitem__)
            start = floor(group.start, RESOLUTIONS[resolution])
            total = _partial(buckets, BucketKey(rule.total, resolution, start))
            total.see(seen, last_time)
            added = self._partial_of(rule, columns)
            if added is None:
                continue
            total.merge(added)
            for split in splits:
                series_id = split.series_of(tuple([group.parts[place] for place in split.places]))
                if series_id is not None:  # an event of the metric has opened it
                    _partial(buckets, BucketKey(series_id, resolution, start)).merge(added)

    def _partial_of(self, rule: Rule, columns: Columns) -> Partial | None:
        """What the group's events add to a metric; None if none belongs to it."""
        every, events = rule.values(columns), columns.events
        if self._left_out:
            out = [(event.position, rule.total) in self._left_out for event in events]
            every = [None if is_out else value for value, is_out in zip(every, out, strict=True)]
        values = [value for value in every if value is not None]
        if not values:
            return None
        if len(values) < len(events):
            events = [event for event, value in zip(events, every, strict=True) if value is not None]
        partial = Partial()
        if rule.aggregate == "count":
            partial.count = len(values)
        elif rule.aggregate == "unique":
            partial.add_distinct([hash64(value) for value in values])
        else:
            self._add_numbers(partial, rule, values, events)
        if rule.counts_subjects:
            partial.add_subjects([hash64(event.subject) for event in events if event.subject is not None])
        return partial

    def _add_numbers(
        self, partial: Partial, rule: Rule, values: list[int | Decimal], events: list[Event]
    ) -> None:
        nanos = self._nanos(rule, values, events)
        partial.add_numbers(nanos)
        if rule.top_box is not None:
            partial.add_top(nanos, rule.top_box)
        if rule.keeps_squares:
            partial.add_squares(nanos)
        if rule.aggregate == "latest":
            latest = [(event.time, event.identity, one) for event, one in zip(events, nanos, strict=True)]
            partial.latest = max(latest)
            if rule.has_places:
                places = [rule.place(event) or "" for event in events]
                partial.sketch = Places(zip(places, latest, strict=True))
        elif rule.aggregate in QUANTILES:
            partial.add_quantiles(nanos)

    def _nanos(self, rule: Rule, values: list[int | Decimal], events: list[Event]) -> list[int]:
        """The numbers that are counted; 0 for one that cannot be, of which the next run knows."""
        if rule.measure is None:
            try:
                return [numbers.to_nanos(value) for value in values]
            except numbers.OutOfRangeError:
                pass  # one of them: which one is found below
        nanos = []
        for value, event in zip(values, events, strict=True):
            try:
                nanos.append(_measured(rule, value, event))
            except CannotMeasure as error:
                self._put_off(rule, event, error)
                nanos.append(0)
        return nanos

    def _put_off(self, rule: Rule, event: Event, error: CannotMeasure) -> None:
        """For the next run over the batch."""
        if self._again:
            self._left_out.add((event.position, rule.total))
        else:
            self._beyond[event.position, event.corrected_by] = error


def _measured(rule: Rule, value: int | Decimal, event: Event) -> int:
    """Raises CannotMeasure."""
    if rule.measure is not None:
        return rule.measure.nanos(value, event.data, event.time)
    try:
        return numbers.to_nanos(value)
    except numbers.OutOfRangeError as error:
        raise CannotMeasure("value_out_of_range", str(error), "data") from None


def _unmet(fed: TypeRules, parts: Parts) -> list[tuple[Rule, Split]]:
    return [
        (rule, split)
        for rule, splits in fed.rules
        for split in splits
        if split.series_of(tuple([parts[place] for place in split.places])) is None
    ]


def _meet(group: _Group, event: Event) -> None:
    """Opens the segments that this event is the first to need. Raises TooManySegments."""
    for rule, split in list(group.unmet):
        if rule.value(event) is None:
            continue
        parts = tuple([group.parts[place] for place in split.places])
        if split.series_of(parts) is None:
            split.open(parts)
        group.unmet.remove((rule, split))


def _partial(partials: dict[BucketKey, Partial], key: BucketKey) -> Partial:
    found = partials.get(key)
    if found is None:
        found = partials[key] = Partial()
    return found


def _roll_up(buckets: dict[BucketKey, Partial]) -> None:
    """Each touched bucket goes once into the next coarser one, instead of every event into each."""
    for finer, coarser in _COARSER.items():
        for key in [key for key in buckets if key.resolution == finer]:
            start = 0 if coarser == ALL_TIME else floor(key.start, RESOLUTIONS[coarser])
            _partial(buckets, BucketKey(key.series_id, coarser, start)).merge(buckets[key])


def totals(tallies: Iterable[Tally]) -> Counter[str]:
    """Events by outcome."""
    outcome: Counter[str] = Counter()
    for tally in tallies:
        outcome["counted"] += tally.counted
        outcome["duplicate"] += tally.duplicates
        outcome["quarantined"] += tally.quarantined
    return outcome
