"""`verify`: a snapshot of the published numbers, the log up to the same positions, and the comparison."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import msgspec

from impact_aggregator.verify.blocks import Blocks, block_differences, published_blocks
from impact_aggregator.verify.comparison import SQLITE_SLACK, Compared, Comparison, Difference
from impact_aggregator.verify.published import snapshot, wait_for_tick
from impact_aggregator.verify.recount import Recount
from impact_eventlog import LogError, LogHole

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_aggregator.verify.definitions import Metric
    from impact_aggregator.verify.published import Pending, Snapshot
    from impact_eventlog import EventLogReader, Partition, Record
    from impact_schemas.identity import Identities

    Progress = Callable[
        [str, int, int], None
    ]  # what is being done, how far it is, how far it goes (0: unknown)

MEMORY_MIB = 1024  # of DuckDB; what does not fit goes to the temporary folder
PATIENCE_S = 10.0  # how long a tick may be waited for
MAX_DIFFERENCES = 100  # that are told one by one; all are counted
_POLL_S = 1.0


class TooLittleMemory(Exception):
    """The recomputation needs more memory than it was given, though it spills to disk what it can."""


class LogBeginsLate(LogError):
    """The log's first records are gone, so that nothing can be recomputed from it."""


class Report(msgspec.Struct, frozen=True):
    """What was compared, and the first differences."""

    equal: bool
    events: int
    metrics: list[Compared]
    ledgers: list[str]  # products whose ledger was compared
    differences_total: int
    differences: list[Difference]


class Scope(NamedTuple):
    """What is asked for; None means all."""

    product: str | None = None
    metric: str | None = None


ALL = Scope()


class Log(NamedTuple):
    """Where the events are; the reader is not started yet."""

    reader: EventLogReader
    events_topic: str
    quarantine_topic: str

    @property
    def topics(self) -> tuple[str, str]:
        """Both."""
        return self.events_topic, self.quarantine_topic


class _Published(NamedTuple):
    """What the service says beside the rows that went into DuckDB."""

    positions: Mapping[Partition, int]
    moments: Mapping[str, tuple[int | None, int]]
    pending: Pending
    blocks: Blocks
    ledger: Mapping[str, tuple[int, int, int]]
    has_periods: bool


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


async def verify(
    engine: AsyncEngine,
    log: Log,
    identities: Identities,
    scope: Scope = ALL,
    *,
    memory_mib: int = MEMORY_MIB,
    patience_s: float = PATIENCE_S,
    progress: Progress = silent,
) -> Report:
    """Compares the numbers in the database with what the log says.

    Raises LogBeginsLate, LogError, TooLittleMemory, and LookupError for a product or metric that is not in
    force.
    """
    await wait_for_tick(engine, patience_s)
    with tempfile.TemporaryDirectory(prefix="impact-verify-") as folder:
        async with snapshot(engine) as one:
            metrics = in_scope(await one.metrics(), scope)
            ledger = {
                product: row
                for product, row in (await one.ledger()).items()
                if scope.product in (None, product)
            }
            recount = Recount(metrics, ledger, identities, Path(folder), memory_mib)
            try:
                slack = SQLITE_SLACK if engine.dialect.name == "sqlite" else 0.0
                comparison = Comparison(recount, slack)
                published = await _take_published(one, recount, comparison, ledger, log, progress)
            except BaseException:
                recount.close()
                raise
        try:
            await load(recount, log, published.positions, progress)
            return _report(recount, comparison, published, progress)
        except duckdb.OutOfMemoryException as error:
            raise TooLittleMemory(f"{memory_mib} MiB are not enough to recompute these numbers") from error
        finally:
            recount.close()


def in_scope(metrics: Sequence[Metric], scope: Scope) -> list[Metric]:
    """The metrics asked for, a ratio with its two parts; numbered anew. Raises LookupError."""
    of_product = [metric for metric in metrics if scope.product in (None, metric.product)]
    if not of_product:
        raise LookupError(f"no product {scope.product!r} is in force: impact status shows those that are")
    by_name = {(metric.product, metric.name): metric for metric in of_product}
    asked = [metric for metric in of_product if scope.metric in (None, metric.name)]
    wanted = {(metric.product, metric.name) for metric in asked}
    while (
        made_of := {(product, part) for product, name in wanted for part in by_name[product, name].made_of}
        - wanted
    ):
        wanted |= made_of
    if not wanted:
        raise LookupError(f"no metric {scope.metric!r} is in force: impact status shows those that are")
    chosen = [metric for metric in of_product if (metric.product, metric.name) in wanted]
    return [metric._replace(number=number) for number, metric in enumerate(chosen)]


async def _take_published(
    one: Snapshot,
    recount: Recount,
    comparison: Comparison,
    ledger: Mapping[str, tuple[int, int, int]],
    log: Log,
    progress: Progress,
) -> _Published:
    recount.set_aside(await one.set_aside(log.events_topic))
    has_periods = await one.has_view("period_metrics")
    sources = [("published_bucket", one.buckets()), ("published_window", one.rolling())]
    if has_periods:
        sources.append(("published_period", one.periods()))
    taken = 0
    for table, batches in sources:
        async for batch in batches:
            comparison.add_published(table, batch)
            taken += len(batch)
            progress("reading the numbers", taken, 0)
    return _Published(
        await one.positions(log.topics),
        await one.moments(),
        await one.pending(),
        await published_blocks(one),
        ledger,
        has_periods,
    )


async def load(
    recount: Recount, log: Log, positions: Mapping[Partition, int], progress: Progress = silent
) -> None:
    """Reads the log up to `positions` into `recount`, and decides there what counts. Raises LogBeginsLate."""

    def take(records: Sequence[Record]) -> None:
        recount.add([record for record in records if record.partition.topic == log.events_topic])
        recount.add_rejections([record for record in records if record.partition.topic != log.events_topic])

    try:
        await log.reader.start()
        await _read(log.reader, positions, take, progress)
    finally:
        await log.reader.stop()
    progress("deciding what counts", 0, 0)
    recount.resolve()


async def _read(
    reader: EventLogReader,
    positions: Mapping[Partition, int],
    take: Callable[[Sequence[Record]], None],
    progress: Progress,
) -> None:
    unread = {partition for partition, end in positions.items() if end > 0}
    await _check_ends(reader.end_offsets, positions)
    for partition in unread:
        reader.seek(partition, 0)
    done, total = 0, sum(positions.values())
    while unread:
        try:
            records = await reader.poll(_POLL_S)
        except LogHole as hole:
            _pass_over(reader, hole)
            if hole.last_offset + 1 >= positions[hole.partition]:
                unread.discard(hole.partition)
            continue
        wanted = [record for record in records if record.offset < positions.get(record.partition, 0)]
        take(wanted)
        unread -= {record.partition for record in records if record.offset + 1 >= positions[record.partition]}
        done += len(wanted)
        progress("reading the log", done, total)


async def _check_ends(
    end_offsets: Callable[[list[Partition]], Awaitable[Mapping[Partition, int]]],
    positions: Mapping[Partition, int],
) -> None:
    for partition, end in (await end_offsets(list(positions))).items():
        if end < positions[partition]:
            raise LogError(
                f"{partition.topic}-{partition.number} ends at offset {end}, but {positions[partition]} of"
                " its records are counted: this is another log, or an older copy"
            )


def _pass_over(reader: EventLogReader, hole: LogHole) -> None:
    """A hole within the log is known to the service too; one at its beginning is the end of verifying."""
    if hole.first_offset == 0:
        raise LogBeginsLate(
            f"{hole.partition.topic}-{hole.partition.number} begins at offset {hole.last_offset + 1}, not at"
            f" 0 ({hole.reason}): numbers can only be recomputed from a whole log. Set retention.ms=-1, and"
            " bring back the deleted records from a copy"
        )
    reader.seek(hole.partition, hole.last_offset + 1)


def _report(recount: Recount, comparison: Comparison, published: _Published, progress: Progress) -> Report:
    _count_anew(recount, published, progress)
    progress("comparing", 0, 0)
    comparison.fill_derived()
    last_tick = max((as_of for _, as_of in published.moments.values()), default=None)
    comparison.compare_buckets(last_tick)
    comparison.compare_windows(published.moments, published.pending.windows)
    if published.has_periods:
        comparison.compare_periods(published.pending.periods)
    apart = list(_ledger_differences(published.ledger, recount.ledger()))
    apart += block_differences(published.blocks, recount.metrics, recount)
    comparison.note_compared((shown.kind, shown.name) for shown in published.blocks.shown)
    differing = comparison.total() + len(apart)
    return Report(
        equal=not differing,
        events=recount.events,
        metrics=comparison.compared(published.pending.windows),
        ledgers=sorted(published.ledger),
        differences_total=differing,
        differences=[*apart, *comparison.differences(MAX_DIFFERENCES)][:MAX_DIFFERENCES],
    )


def _count_anew(recount: Recount, published: _Published, progress: Progress) -> None:
    """Every metric's expected numbers; of what others are made of also in their windows."""
    windows: dict[int, set[str]] = defaultdict(set)
    for metric in recount.metrics:
        for part in recount.formula(metric).metrics:
            windows[part.number] |= set(metric.definition.windows)
    for done, metric in enumerate(recount.metrics):
        progress("counting anew", done, len(recount.metrics))
        if metric.is_derived:
            continue
        wanted = windows[metric.number] & published.moments.keys()
        recount.count_anew(metric, {window: published.moments[window][1] for window in wanted})


def _ledger_differences(
    found: Mapping[str, tuple[int, int, int]], expected: Mapping[str, tuple[int, int, int]]
) -> Iterable[Difference]:
    for product, row in found.items():
        right = expected.get(product, (0, 0, 0))
        for field, want, have in zip(("counted", "duplicates", "quarantined"), right, row, strict=True):
            if want != have:
                yield Difference(product, "", "ledger", "", None, "", field, str(want), str(have))
