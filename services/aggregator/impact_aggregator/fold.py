"""The fold: a batch of events of one partition to what changes in the database. Pure.

For every event, in log order: a copy of a known identity is a duplicate (or, with other content, a
conflict); an event that cannot be counted is quarantined and claims no identity; any other is counted in
every metric that it belongs to, in the total and in each of the metric's segments.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.decode import Event, Quarantined, quarantined
from impact_aggregator.partial import QUANTILES, Partial
from impact_aggregator.rules import Rule, Rules, TooManySegments
from impact_aggregator.sketches import hash64
from impact_aggregator.windows import ALL_TIME, RESOLUTIONS, floor, kept_resolution
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COARSER = {"1m": ("1m", "1h", "1d"), "1h": ("1h", "1d"), "1d": ("1d",)}

_hash64 = lru_cache(maxsize=1 << 16)(hash64)


class BucketKey(NamedTuple):
    """Names a bucket of one shard; `start` is 0 for all time."""

    series_id: int
    resolution: str
    start: int


_Fine = dict[BucketKey, Partial]


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

    def tally(self, product: str) -> Tally:
        """The product's tally, made on first use."""
        found = self.tallies.get(product)
        if found is None:
            found = self.tallies[product] = Tally()
        return found


def fold(events: Iterable[Event | Quarantined], rules: Rules, known: Mapping[bytes, int]) -> Folded:
    """Folds events in log order; `known` has the content digests of identities counted before."""
    folded = Folded()
    fine: _Fine = {}
    for event in events:
        if isinstance(event, Quarantined):
            _quarantine(folded, event)
            continue
        digest = known.get(event.identity)
        if digest is None and event.identity in folded.identities:
            digest = folded.identities[event.identity].digest
        if digest is None:
            _count(folded, fine, event, rules)
        elif digest == event.digest:
            folded.tally(event.product).duplicates += 1
        else:
            _quarantine(folded, _conflict(event))
    _roll_up(folded, fine)
    return folded


def _quarantine(folded: Folded, entry: Quarantined) -> None:
    folded.quarantined.append(entry)
    folded.tally(entry.product).quarantined += 1


def _refused(event: Event, code: str, detail: str) -> Quarantined:
    return quarantined(event.position, event.product, event.raw, event.received_at, code, detail)


def _conflict(event: Event) -> Quarantined:
    detail = "an event with this source and id but other content was counted before: send a correction"
    return _refused(event, "id_conflict", detail)


def _count(folded: Folded, fine: _Fine, event: Event, rules: Rules) -> None:
    applying = rules.of(event.product, event.type)
    if applying is None:
        detail = f"the catalog of {event.product!r} has no event type {event.type!r}: add it, then replay"
        _quarantine(folded, _refused(event, "unknown_type", detail))
        return
    try:
        contributions = [(rule, _contribution(rule, event)) for rule in applying]
    except TooManySegments as error:
        _quarantine(folded, _refused(event, "too_many_segments", str(error)))
        return
    except numbers.OutOfRangeError as error:
        _quarantine(folded, _refused(event, "value_out_of_range", str(error)))
        return
    folded.identities[event.identity] = event
    folded.tally(event.product).counted += 1
    age = event.received_at - event.time
    for rule, contribution in contributions:
        resolution = kept_resolution(rule.finest, age)
        start = floor(event.time, RESOLUTIONS[resolution])
        _partial(fine, BucketKey(rule.total, resolution, start)).see(event.time)
        if contribution is None:
            continue
        value, series = contribution
        for series_id in series:
            partial = _partial(fine, BucketKey(series_id, resolution, start))
            _apply(partial, rule.aggregate, event, value)


def _partial(partials: dict[BucketKey, Partial], key: BucketKey) -> Partial:
    found = partials.get(key)
    if found is None:
        found = partials[key] = Partial()
    return found


def _contribution(rule: Rule, event: Event) -> tuple[int, list[int]] | None:
    """The value that the event adds to the metric and the series that it adds to; None if it is not in it."""
    if not rule.matches(event.data):
        return None
    value = _value(rule, event)
    if value is None:
        return None
    data = event.data
    return value, [rule.total, *[split.series_of(data) for split in rule.splits]]


def _value(rule: Rule, event: Event) -> int | None:
    if rule.aggregate == "count":
        return 1
    if rule.aggregate == "unique":
        text = rule.text(event.subject, event.data)
        return None if text is None else _hash64(text)
    number = rule.number(event.data)
    return None if number is None else numbers.to_nanos(number)


def _apply(partial: Partial, aggregate: str, event: Event, value: int) -> None:
    if aggregate == "count":
        partial.count += 1
    elif aggregate == "unique":
        partial.add_distinct(value)
    elif aggregate == "latest":
        partial.add_latest(event.time, event.identity, value)
    elif aggregate in QUANTILES:
        partial.add_quantile(value)
    else:
        partial.add_number(value)


def _roll_up(folded: Folded, fine: _Fine) -> None:
    """Each touched fine bucket goes once into every coarser one, instead of every event into each."""
    for (series_id, finest, start), partial in fine.items():
        for resolution in _COARSER[finest]:
            key = BucketKey(series_id, resolution, floor(start, RESOLUTIONS[resolution]))
            _partial(folded.buckets, key).merge(partial)
        _partial(folded.buckets, BucketKey(series_id, ALL_TIME, 0)).merge(partial)


def totals(tallies: Iterable[Tally]) -> Counter[str]:
    """Events by outcome."""
    outcome: Counter[str] = Counter()
    for tally in tallies:
        outcome["counted"] += tally.counted
        outcome["duplicate"] += tally.duplicates
        outcome["quarantined"] += tally.quarantined
    return outcome
