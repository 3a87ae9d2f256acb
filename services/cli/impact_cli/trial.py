"""`impact try`: a file of events through the door's judgement and the fold, all in memory, with no server.

The same code decides as in the services; only time and keys are the trial's own: every event is received
now, and pseudonyms and identities come from a key that nobody else has.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from rich.markup import escape
from rich.table import Table

from impact_aggregator.amendments import settle
from impact_aggregator.decode import decode_record
from impact_aggregator.events import KINDS, Event
from impact_aggregator.fold import fold
from impact_aggregator.partial import Partial
from impact_aggregator.rules import TOTAL, is_shown
from impact_aggregator.rules import Rules as CountingRules
from impact_aggregator.values import Input, Metrics, reading_of
from impact_aggregator.windows import ALL_TIME, WINDOWS
from impact_cli.terminal import shown
from impact_eventlog.ports import Partition, Record
from impact_ingest.accept import Judge
from impact_ingest.limits import Limits
from impact_ingest.problems import Problem
from impact_ingest.rules import Rules
from impact_ingest.split import Mode, split_closely
from impact_ingest.verdicts import Refused
from impact_schemas import numbers
from impact_schemas.annotation import ANNOTATION
from impact_schemas.identity import Identities, Pseudonyms
from impact_schemas.tables import to_datetime
from impact_schemas.wire import encode_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from impact_aggregator.events import Position, Quarantined
    from impact_aggregator.fold import BucketKey, Folded
    from impact_aggregator.values import Name
    from impact_schemas.catalog import Catalog

SHOWN_VERDICTS = 50
_ABOUT = {*KINDS, ANNOTATION}  # events about events, and about what happened beside the numbers
_MASTER = b"the key of a trial, known to all"
_LOG = Partition("trial", 0)

Outcome = Literal["counted", "duplicate", "retracted", "rejected"]


class Verdict(msgspec.Struct, frozen=True):
    """What became of one event; `metrics` are those that it belongs to."""

    index: int  # from 0 in the file
    id: str | None
    type: str | None
    outcome: Outcome
    code: str | None = None
    detail: str | None = None
    pointer: str | None = None
    metrics: tuple[str, ...] = ()


class Number(msgspec.Struct, frozen=True):
    """One metric's value in one window for one segment; `value` is None unless `status` is ok or stale."""

    product: str
    metric: str
    title: str
    unit: str
    window: str
    segment: str
    value: Decimal | None
    n: int | None
    status: str


class Trial(msgspec.Struct, frozen=True):
    """All verdicts in the order of the file, and all numbers."""

    outcomes: dict[str, int]
    verdicts: list[Verdict]
    numbers: list[Number]

    @property
    def refused(self) -> bool:
        """Whether any event was rejected."""
        return bool(self.outcomes.get("rejected"))


def run(
    catalogs: Mapping[str, Catalog],
    events: Iterable[bytes],
    product: str | None = None,
    now: int | None = None,
) -> Trial:
    """Judges and counts `events`, each a JSON text, as if they all arrived at `now` (microseconds).

    An event goes to `product`, else to the one whose catalog knows its type. Raises what reading raises.
    """
    received_at = time.time_ns() // 1000 if now is None else now
    door = _Door(catalogs, product, received_at)
    verdicts: dict[int, Verdict] = {}
    accepted: list[_Accepted] = []
    for index, text in enumerate(events):
        judged = door.judge(index, text)
        if isinstance(judged, Verdict):
            verdicts[index] = judged
        else:
            accepted.append(judged)
    counting = CountingRules(catalogs, _versions(catalogs))
    counted = _Counted(counting, accepted)
    verdicts |= {verdict.index: verdict for verdict in counted.verdicts()}
    in_order = [verdicts[index] for index in sorted(verdicts)]
    outcomes = Counter[str](verdict.outcome for verdict in in_order)
    return Trial(dict(outcomes), in_order, list(_numbers(catalogs, counting, counted.folded, received_at)))


def _versions(catalogs: Mapping[str, Catalog]) -> dict[Name, int]:
    return {(product, name): 1 for product, catalog in catalogs.items() for name in catalog.metrics}


# --- the door -----------------------------------------------------------------------------------------


class _Accepted(NamedTuple):
    place: int  # in the file, from 0
    event: Event


class _Door:
    def __init__(self, catalogs: Mapping[str, Catalog], product: str | None, received_at: int) -> None:
        self._limits = Limits()
        self._received_at = received_at
        self._identities = Identities(_MASTER)
        self.rules = Rules(catalogs)
        latest = to_datetime(received_at) + timedelta(seconds=self._limits.future_tolerance_s)
        self._judges = {
            name: Judge(
                rules,
                self._identities,
                Pseudonyms(_MASTER),
                latest=latest,
                max_event_bytes=self._limits.max_event_bytes,
            )
            for name in catalogs
            if (rules := self.rules.of(name)) is not None
        }
        owners = {event_type: name for name, catalog in catalogs.items() for event_type in catalog.events}
        self._owners = {} if product else owners
        self._default = product or next(iter(catalogs))

    def judge(self, index: int, text: bytes) -> _Accepted | Verdict:
        try:
            events = split_closely(Mode.STRUCTURED, text, (), self._limits)
        except Problem as problem:
            return Verdict(index, None, None, "rejected", problem.code, problem.detail)
        event, size = events.decoded[0], events.sizes[0]
        product = self._owners.get(event.get("type"), self._default)
        try:
            kept = self._judges[product].accept(event, size)
        except Refused as refused:
            said = (refused.code, refused.detail, refused.pointer)
            return Verdict(index, _text(event.get("id")), _text(event.get("type")), "rejected", *said)
        record = Record(_LOG, index, product, self._received_at, encode_record([kept.event]))
        (decoded,) = decode_record(record, self._identities)
        if isinstance(decoded, Event):
            return _Accepted(index, decoded)
        return Verdict(index, decoded.event_id, decoded.event_type, "rejected", decoded.code, decoded.detail)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# --- the fold -----------------------------------------------------------------------------------------


class _Counted:
    """Folds the accepted events, and tells each one's verdict."""

    def __init__(self, rules: CountingRules, accepted: Sequence[_Accepted]) -> None:
        self._rules = rules
        self._accepted = accepted
        self.folded: Folded = fold([one.event for one in accepted], rules, {})

    def verdicts(self) -> Iterator[Verdict]:
        refused: dict[Position, Quarantined] = {one.position: one for one in self.folded.quarantined}
        for one in self._accepted:
            event = one.event
            if event.position in refused:
                entry = refused[event.position]
                yield _verdict(one, "rejected", entry.code, entry.detail, entry.pointer)
            elif self.folded.identities[event.identity].position != event.position:
                yield _verdict(one, "duplicate")
            elif event.target is not None:
                yield _verdict(one, "counted")
            else:
                yield self._of_first_copy(one)

    def _of_first_copy(self, one: _Accepted) -> Verdict:
        """Of an event that stands in the ledger as counted; it may have been taken back or corrected."""
        event: Event | None = one.event
        if amendments := self.folded.amendments.get(one.event.identity):
            event = settle(one.event, amendments, self._rules).event
        if event is None:
            return _verdict(one, "retracted")
        fed = self._rules.of(event.product, event.type)
        rules = () if fed is None else tuple(rule for rule, _ in fed.rules)
        return _verdict(
            one, "counted", metrics=tuple(rule.metric for rule in rules if rule.value(event) is not None)
        )


def _verdict(
    one: _Accepted,
    outcome: Outcome,
    code: str | None = None,
    detail: str | None = None,
    pointer: str | None = None,
    metrics: tuple[str, ...] = (),
) -> Verdict:
    event = one.event
    return Verdict(one.place, event.event_id, event.type, outcome, code, detail, pointer, metrics)


# --- the numbers --------------------------------------------------------------------------------------

Cells = dict[tuple[int, str], Partial]  # by series and window


def _numbers(
    catalogs: Mapping[str, Catalog], rules: CountingRules, folded: Folded, now: int
) -> Iterator[Number]:
    metrics = Metrics(catalogs, _versions(catalogs))
    cells = _cells(folded.buckets, now)
    segments: dict[Name, set[str]] = defaultdict(set)
    for series in rules.book.values():
        segments[series.product, series.metric].add(series.segment)
    segments |= metrics.derived_of(segments)
    for product, catalog in catalogs.items():
        for name in catalog.metrics:
            for segment in sorted(filter(is_shown, segments[product, name] | {TOTAL})):
                yield from _values((product, name), segment, metrics, cells, now)


def _cells(buckets: Mapping[BucketKey, Partial], now: int) -> Cells:
    """The buckets of each series summed up over every window."""
    cells: Cells = defaultdict(Partial)
    for key, partial in buckets.items():
        if key.resolution == ALL_TIME:
            cells[key.series_id, ALL_TIME].merge(partial)
        for window in WINDOWS.values():
            within = window.first_bucket(now) <= key.start <= window.last_bucket(now)
            if window.resolution == key.resolution and within:
                cells[key.series_id, window.name].merge(partial)
    return cells


def _values(name: Name, segment: str, metrics: Metrics, cells: Cells, now: int) -> Iterator[Number]:
    metric = metrics.definition(name)
    parts, totals = metrics.series_of_parts(name, segment), metrics.series_of_parts(name, TOTAL)
    last_times = {
        part: cells[total, ALL_TIME].last_time
        for part, total in zip(metrics.parts_of(name), totals, strict=True)
    }
    stale = metrics.is_stale(name, last_times, now)
    for window in metric.windows:
        given = Input(
            tuple(cells[part, window] for part in parts),
            tuple(cells[total, window] for total in totals),
            stale,
        )
        reading = reading_of(metric, metrics.formula(name), given)
        value = None if reading.value is None else _plain(numbers.from_nanos(reading.value))
        yield Number(*name, metric.title, metric.unit, window, segment, value, reading.n, reading.status)


def _plain(value: Decimal) -> Decimal:
    """Without zeros at the end, and without an exponent."""
    return Decimal(format(value, "f").rstrip("0").rstrip("."))


# --- what is printed ----------------------------------------------------------------------------------


def show(trial: Trial, console: Console) -> None:
    """The verdicts (of a long file those other than "counted"), then every metric."""
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(trial.outcomes.items()))
    console.print(f"{len(trial.verdicts):,} events: {told or 'none'}")
    _show_verdicts(trial.verdicts, console)
    idle = sum(
        one.outcome == "counted" and not one.metrics and one.type not in _ABOUT for one in trial.verdicts
    )
    if idle:
        console.print(f"{idle:,} counted events belong to no metric: see `where` and `of` in the catalog")
    console.print(_table_of(trial.numbers))


def _table_of(found: Sequence[Number]) -> Table:
    """A row for each series, a column for each window: the value, or why there is none."""
    cells: dict[tuple[str, str, str, str], dict[str, str]] = defaultdict(dict)
    for one in found:
        series = (one.product, one.metric, one.segment, one.unit)
        cells[series][one.window] = one.status if one.value is None else shown(one.value)
    windows = [name for name in (*WINDOWS, ALL_TIME) if any(name in row for row in cells.values())]
    several = len({one.product for one in found}) > 1
    table = Table("metric", "segment", *windows, "unit")
    for column in table.columns[2:-1]:
        column.justify, column.no_wrap = "right", True  # a number never takes two lines
    for (product, metric, segment, unit), row in cells.items():
        name = f"{product} {metric}" if several else metric
        table.add_row(*map(escape, (name, segment, *(row.get(window, "") for window in windows), unit)))
    return table


def _show_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    notable = [one for one in verdicts if one.outcome != "counted"]
    listed = verdicts if len(verdicts) <= SHOWN_VERDICTS else notable[:SHOWN_VERDICTS]
    if not listed:
        return
    table = Table("event", "id", "verdict", "where", "what is wrong, or what it counts in")
    for one in listed:
        said = one.detail or ", ".join(one.metrics)
        cells = (str(one.index), one.id or "", one.code or one.outcome, one.pointer or "", said)
        table.add_row(*map(escape, cells))
    console.print(table)
    if len(notable) > len(listed):
        console.print(f"The first {len(listed)} of {len(notable):,}; --json gives all. Counted from 0.")
