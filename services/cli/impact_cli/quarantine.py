"""`impact quarantine`: what is in quarantine and why, and its replay under the catalog of now.

A replay judges an event again as the door would, and appends it to the event log with its first receipt
time. It may be repeated: what was in the log already is a duplicate there.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
from rich.markup import escape
from rich.table import Table
from sqlalchemy import func, select, update

from impact_cli import databases, event_logs
from impact_cli.settings import load_limits
from impact_cli.terminal import Refused, WrongUse
from impact_database.engine import read_only
from impact_schemas.identity import Identities
from impact_schemas.tables import event_identity, quarantine, to_datetime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from rich.console import Console
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_cli.settings import Settings
    from impact_eventlog.ports import EventLogWriter, KeyedEvent
    from impact_schemas.catalog import Catalog

PAGE_ROWS = 1_000
APPENDS_AT_ONCE = 64
SHOWN = 20
# the door's verdicts and the aggregator's own: q and e in a name say which log an event is in
_LETTERS = {"q": True, "e": False}


class Filter(NamedTuple):
    """Which entries; times in microseconds since 1970, `until` not included."""

    product: str | None = None
    code: str | None = None
    since: int | None = None
    until: int | None = None
    names: tuple[str, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """One quarantined event; `name` is what `show` and `replay` take."""

    name: str
    product: str
    code: str
    detail: str
    pointer: str | None
    received_at: str
    event_id: str | None
    event_source: str | None
    event_type: str | None
    replayed_at: str | None


class Count(msgspec.Struct, frozen=True):
    """How many events of a product are there for one reason."""

    product: str
    code: str
    count: int
    replayed: int
    first: str
    last: str


class Listed(msgspec.Struct, frozen=True):
    """Counts of all that was asked for, and the latest entries."""

    counts: list[Count]
    entries: list[Entry]


class Shown(msgspec.Struct, frozen=True):
    """An entry with the event as it is kept, and what can be done about it."""

    entry: Entry
    payload: msgspec.Raw | str | None
    next_step: str


class Outcome(msgspec.Struct, frozen=True):
    """What became, or in a dry run would become, of one event."""

    name: str
    event_id: str | None
    outcome: Literal["replayed", "refused", "not replayable", "counted already"]
    code: str | None = None
    detail: str | None = None
    pointer: str | None = None


class Replayed(msgspec.Struct, frozen=True):
    """The outcomes of a replay, all counted and those that are not "replayed" in full."""

    outcomes: dict[str, int]
    others: list[Outcome]
    dry_run: bool


# --- list and show --------------------------------------------------------------------------------------


async def listed(settings: Settings, wanted: Filter, limit: int) -> Listed:
    """The counts by reason, and the latest `limit` entries. Raises SchemaOutOfDate."""
    async with databases.migrated(settings) as engine, read_only(engine).connect() as connection:
        table = quarantine.c
        grouped = (
            select(
                table.product,
                table.code,
                func.count().label("count"),
                func.count(table.replayed_at).label("replayed"),
                func.min(table.received_at, type_=table.received_at.type).label("first"),
                func.max(table.received_at, type_=table.received_at.type).label("last"),
            )
            .where(*_conditions(settings, wanted))
            .group_by(table.product, table.code)
            .order_by(table.product, table.code)
        )
        counts = [
            Count(row.product, row.code, row[2], row.replayed, _told(row.first), _told(row.last))
            for row in await connection.execute(grouped)
        ]
        latest = (
            select(quarantine)
            .where(*_conditions(settings, wanted))
            .order_by(table.received_at.desc(), *_place_columns())
            .limit(limit)
        )
        entries = [_entry(settings, row) for row in await connection.execute(latest)]
    return Listed(counts, entries)


async def shown(settings: Settings, name: str) -> Shown:
    """One entry in full. Raises Refused if there is none of this name."""
    async with databases.migrated(settings) as engine, read_only(engine).connect() as connection:
        query = select(quarantine).where(*_conditions(settings, Filter(names=(name,))))
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise Refused(f"there is no {name} in quarantine: impact quarantine list shows the names")
    return Shown(_entry(settings, row), _raw(row.payload), _next_step(row))


def _raw(payload: str | None) -> msgspec.Raw | str | None:
    """The payload as JSON within JSON, or as text where it is none."""
    if payload is None:
        return None
    try:
        msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload
    return msgspec.Raw(payload.encode())


def _next_step(row: Row[tuple[object, ...]]) -> str:
    from impact_ingest.replay import FINAL

    if row.replayed_at is not None:
        return f"it was replayed at {_told(row.replayed_at)}"
    if row.code in FINAL:
        return FINAL[row.code]
    return f"change the catalog, then: impact quarantine replay --code {row.code} --dry-run"


# --- replay -----------------------------------------------------------------------------------------------


async def replay(
    settings: Settings,
    catalogs: Mapping[str, Catalog],
    wanted: Filter,
    *,
    dry_run: bool,
    page_rows: int = PAGE_ROWS,
) -> Replayed:
    """Judges what was not replayed yet again, and appends what can be counted now to the event log.

    `page_rows` events are in memory at a time.

    Raises LogError (an embedded log that is being erased from, for one), SchemaOutOfDate.
    """
    outcomes: Counter[str] = Counter()
    others: list[Outcome] = []
    async with AsyncExitStack() as stack:
        # the writer first: who cannot append must not begin
        writer = (
            None if dry_run else await stack.enter_async_context(event_logs.writing(settings, is_guest=True))
        )
        engine = await stack.enter_async_context(databases.migrated(settings))
        replaying = _Replay(settings, catalogs, engine, writer)
        async for page in _pages(settings, engine, wanted, page_rows):
            for outcome in await replaying.take(page):
                outcomes[outcome.outcome] += 1
                if outcome.outcome != "replayed":
                    others.append(outcome)
    return Replayed(dict(outcomes), others, dry_run)


async def _pages(
    settings: Settings, engine: AsyncEngine, wanted: Filter, page_rows: int
) -> AsyncIterator[Sequence[Row[tuple[object, ...]]]]:
    """The entries that were not replayed yet, in the order of their places."""
    columns = _place_columns()
    after: tuple[object, ...] | None = None
    while True:
        query = select(quarantine).where(quarantine.c.replayed_at.is_(None), *_conditions(settings, wanted))
        if after is not None:
            query = query.where(_is_after(after))
        async with read_only(engine).connect() as connection:
            page = (await connection.execute(query.order_by(*columns).limit(page_rows))).all()
        if not page:
            return
        yield page
        after = tuple(getattr(page[-1], column.name) for column in columns)


def _is_after(place: tuple[object, ...]) -> ColumnElement[bool]:
    """Row values are compared as one, but not with parameters of their own types on every database."""
    topic, partition, offset, position = _place_columns()
    of_topic, of_partition, of_offset, of_position = place
    same_record = (partition == of_partition) & (
        (offset > of_offset) | ((offset == of_offset) & (position > of_position))
    )
    return (topic > of_topic) | ((topic == of_topic) & ((partition > of_partition) | same_record))


class _Replay:
    def __init__(
        self,
        settings: Settings,
        catalogs: Mapping[str, Catalog],
        engine: AsyncEngine,
        writer: EventLogWriter | None,
    ) -> None:
        from impact_ingest.limits import Limits
        from impact_ingest.rules import Rules

        self._settings = settings
        self._engine = engine
        self._writer = writer
        self._rules = Rules(catalogs)
        self._master = settings.master_key()
        self._identities = Identities(self._master)
        self._limits = load_limits(Limits)

    async def take(self, page: Sequence[Row[tuple[object, ...]]]) -> list[Outcome]:
        """Judges and appends a page, then marks it; a crash between the two is mended by a repetition."""
        counted = await self._counted_already(page)
        outcomes, accepted = [], []
        for row in page:
            name = _name(self._settings, row)
            if self._identity(row) in counted and row.code != "id_conflict":
                detail = "an event with this id was counted since then: send a correction if it is wrong"
                outcomes.append(Outcome(name, row.event_id, "counted already", row.code, detail))
                continue
            outcome, event = self._judged(name, row)
            outcomes.append(outcome)
            if event is not None:
                accepted.append((row, event))
        if self._writer is not None:
            await self._append(self._writer, accepted)
        return outcomes

    def _judged(self, name: str, row: Row[tuple[object, ...]]) -> tuple[Outcome, KeyedEvent | None]:
        from impact_ingest.replay import Entry as Quarantined
        from impact_ingest.replay import NotReplayable, ReplayParts, judge_again
        from impact_ingest.verdicts import Refused as RefusedEvent

        rules = self._rules.of(row.product)
        if rules is None:
            detail = f"there is no catalog of {row.product}: give the folder that has it with --catalog"
            return Outcome(name, row.event_id, "refused", row.code, detail), None
        from_log = row.topic != self._settings.kafka_quarantine_topic
        entry = Quarantined(row.code, row.payload, row.received_at, from_log)
        try:
            event = judge_again(entry, ReplayParts(rules, self._identities, self._master, self._limits))
        except NotReplayable as error:
            return Outcome(name, row.event_id, "not replayable", row.code, str(error)), None
        except RefusedEvent as error:
            said = (error.code, error.detail, error.pointer)
            return Outcome(name, row.event_id, "refused", *said), None
        return Outcome(name, row.event_id, "replayed"), event

    async def _append(
        self, writer: EventLogWriter, accepted: Sequence[tuple[Row[tuple[object, ...]], KeyedEvent]]
    ) -> None:
        records: dict[tuple[str, int], list[KeyedEvent]] = defaultdict(list)
        for row, event in accepted:
            records[row.product, row.received_at].append(event)
        waiting = list(records.items())
        topic = self._settings.kafka_topic
        for start in range(0, len(waiting), APPENDS_AT_ONCE):  # which share their syncs
            some = waiting[start : start + APPENDS_AT_ONCE]
            await asyncio.gather(
                *(writer.append(topic, place[0], events, place[1]) for place, events in some)
            )
        async with self._engine.begin() as connection:
            for row, _ in accepted:
                place = [column == getattr(row, column.name) for column in _place_columns()]
                await connection.execute(update(quarantine).where(*place).values(replayed_at=_now()))

    async def _counted_already(self, page: Sequence[Row[tuple[object, ...]]]) -> set[bytes]:
        identities = {identity for row in page if (identity := self._identity(row)) is not None}
        query = select(event_identity.c.identity).where(event_identity.c.identity.in_(identities))
        async with read_only(self._engine).connect() as connection:
            return {bytes(row.identity) for row in await connection.execute(query)}

    def _identity(self, row: Row[tuple[object, ...]]) -> bytes | None:
        if row.event_source is None or row.event_id is None:
            return None
        return self._identities.of(row.product, row.event_source, row.event_id)


# --- where it is ------------------------------------------------------------------------------------------


def _place_columns() -> tuple[ColumnElement[object], ...]:
    table = quarantine.c
    return table.topic, table.partition, table.offset, table.position


def _conditions(settings: Settings, wanted: Filter) -> Iterator[ColumnElement[bool]]:
    table = quarantine.c
    if wanted.product is not None:
        yield table.product == wanted.product
    if wanted.code is not None:
        yield table.code == wanted.code
    if wanted.since is not None:
        yield table.received_at >= wanted.since
    if wanted.until is not None:
        yield table.received_at < wanted.until
    if wanted.names:
        places = [_is_at(settings, name) for name in wanted.names]
        condition = places[0]
        for place in places[1:]:
            condition |= place
        yield condition


def _is_at(settings: Settings, name: str) -> ColumnElement[bool]:
    """The place that a name like q0.12.3 stands for. Raises WrongUse."""
    letter, numbers = name[:1], name[1:].split(".")
    if letter not in _LETTERS or len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        raise WrongUse(f"{name!r} is no name of a quarantined event: impact quarantine list shows them")
    topic = settings.kafka_quarantine_topic if _LETTERS[letter] else settings.kafka_topic
    partition, offset, position = map(int, numbers)
    table = quarantine.c
    return (
        (table.topic == topic)
        & (table.partition == partition)
        & (table.offset == offset)
        & (table.position == position)
    )


def _name(settings: Settings, row: Row[tuple[object, ...]]) -> str:
    letter = "q" if row.topic == settings.kafka_quarantine_topic else "e"
    return f"{letter}{row.partition}.{row.offset}.{row.position}"


def _entry(settings: Settings, row: Row[tuple[object, ...]]) -> Entry:
    return Entry(
        _name(settings, row),
        row.product,
        row.code,
        row.detail,
        row.pointer,
        _told(row.received_at),
        row.event_id,
        row.event_source,
        row.event_type,
        None if row.replayed_at is None else _told(row.replayed_at),
    )


def _told(micros: int) -> str:
    return to_datetime(micros).strftime("%Y-%m-%d %H:%M:%S")


def _now() -> int:
    return time.time_ns() // 1000


# --- what is printed --------------------------------------------------------------------------------------


def show_list(found: Listed, console: Console) -> None:
    """Counts by reason, then the latest events."""
    if not found.counts:
        console.print("nothing is in quarantine")
        return
    counts = Table("product", "code", "events", "replayed", "first (UTC)", "last (UTC)")
    for one in found.counts:
        cells = (one.product, one.code, f"{one.count:,}", f"{one.replayed:,}", one.first, one.last)
        counts.add_row(*map(escape, cells))
    console.print(counts)
    table = Table("name", "received (UTC)", "id", "type", "code", "where", "what is wrong")
    for entry in found.entries:
        code = f"{entry.code} (replayed)" if entry.replayed_at else entry.code
        head = (entry.name, entry.received_at, entry.event_id or "", entry.event_type or "")
        table.add_row(*map(escape, (*head, code, entry.pointer or "", entry.detail)))
    console.print(table)
    total = sum(one.count for one in found.counts)
    if total > len(found.entries):
        console.print(f"The latest {len(found.entries):,} of {total:,}: --limit shows more.")


def show_entry(found: Shown, console: Console) -> None:
    """Everything that is known about one event."""
    for name in Entry.__struct_fields__:
        console.print(f"{name:>13}  {getattr(found.entry, name) or '-'}", markup=False)
    console.print(f"{'next':>13}  {found.next_step}", markup=False)
    payload = found.payload
    if isinstance(payload, msgspec.Raw):
        payload = msgspec.json.format(bytes(payload)).decode()
    console.print(payload or "its content is no longer kept", markup=False)


def show_replay(replayed: Replayed, console: Console) -> None:
    """Counts, then the first events that were not replayed and why."""
    if not replayed.outcomes:
        console.print("nothing that was not replayed yet is in quarantine for this")
        return
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(replayed.outcomes.items()))
    console.print(told + (" - a dry run: nothing was changed" if replayed.dry_run else ""))
    if not replayed.others:
        return
    table = Table("name", "id", "outcome", "code", "where", "why")
    for one in replayed.others[:SHOWN]:
        cells = (one.name, one.event_id or "", one.outcome, one.code or "", one.pointer or "")
        table.add_row(*map(escape, (*cells, one.detail or "")))
    console.print(table)
    if len(replayed.others) > SHOWN:
        console.print(f"The first {SHOWN} of {len(replayed.others):,}; --json gives all.")
