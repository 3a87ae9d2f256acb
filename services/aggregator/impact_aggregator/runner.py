"""The aggregator: claims partitions, counts what the log brings, and keeps the rolling metrics.

Whatever fails on the way, the answer is the same: drop the batch and the claims, wait, claim again. The
claim reads from the database how far counting really came, so that nothing is lost or counted twice.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from impact_aggregator.active import ActiveCatalog, activate, active_state, catalogs_hash
from impact_aggregator.batches import Claim
from impact_aggregator.counting import CatalogBehind, Counting
from impact_aggregator.exporter import BusinessGauges, PipelineMetrics
from impact_aggregator.fold import totals
from impact_aggregator.leadership import LEASE_SECONDS
from impact_aggregator.mission.evaluation import Evaluation
from impact_aggregator.mission.gauges import MissionGauges
from impact_aggregator.recount import History
from impact_aggregator.rolling import Rolling
from impact_aggregator.rules import Rules
from impact_aggregator.store import ClaimLost, Store, check_end
from impact_aggregator.turns import POLL_S, next_turn
from impact_aggregator.values import Metrics
from impact_eventlog import LogHole, LogUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_aggregator.batches import Batch
    from impact_eventlog import EventLogReader, Partition, Record
    from impact_schemas.catalog import Catalog
    from impact_schemas.identity import Identities

TICK_S = 1.0
LAG_S = 5.0
RETRY_S = 1.0
HUNG_S = 300.0  # no turn or tick takes that long: each statement and each lock ends after 60 s
CLOSE_S = 10.0  # for a transaction under way at the end
STALL_S = 120.0  # records wait, nothing fails, nothing moves: the client is stuck, a new process is not

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Stalled(Exception):
    """Records wait but none arrive, though nothing reports an error: the process should be started anew."""


class Aggregator:
    """One aggregator process, or the aggregating half of the embedded service.

    `history` reads all partitions, outside any group: recounts go back in the log with it.
    """

    def __init__(
        self,
        *,
        reader: EventLogReader,
        history: EventLogReader,
        engine: AsyncEngine,
        catalogs: Mapping[str, Catalog],
        identities: Identities,
        registry: CollectorRegistry,
        quarantine_topic: str,
        holder: str,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._reader = reader
        self._engine = engine
        self._catalogs = catalogs
        self._offered: Mapping[str, Catalog] | None = None  # taken up between batches, never within one
        self._clock = clock
        self._store = Store(engine, clock, holder)
        self._history = History(history)
        self._counting = Counting(self._store, self._history, identities, quarantine_topic)
        self._rolling = Rolling(engine, clock, holder)
        self._evaluation = Evaluation(engine, clock, holder, self._rolling)
        self._metrics = PipelineMetrics(registry)
        self._gauges = BusinessGauges(lambda: self._rolling.points, clock)
        registry.register(self._gauges)
        registry.register(MissionGauges(self._evaluation.rows))
        self._rules = Rules({}, {})
        self._active: ActiveCatalog | None = None
        self._superseded_hash = ""  # of our own catalog, once another process made another one active
        self._claims: dict[Partition, tuple[int, Claim]] = {}  # with the assignment that it belongs to
        self._stopping = asyncio.Event()
        self._under_way: dict[str, float] = {}  # turn and tick, each since when
        self._healthy_at = float("-inf")

    def business_gauges(self) -> bytes:
        """The leader's values as lines of Prometheus' text; nothing from any other."""
        return self._gauges.lines()

    async def run(self) -> None:
        """Counts until `stop`. Raises LogReplaced, Stalled, or what is a bug."""
        await self._start_reader()
        try:
            async with asyncio.TaskGroup() as tasks:
                side = [tasks.create_task(self._keep_ticking()), tasks.create_task(self._watch_lag())]
                await self._consume()
                for task in side:
                    await task
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group  # the first to fail; the others were cancelled for it
        finally:
            self._stopping.set()
            await self._reader.stop()
            await self._history.stop()

    async def stop(self) -> None:
        """Ends `run` after the batch in hand."""
        self._stopping.set()

    def use(self, catalogs: Mapping[str, Catalog]) -> None:
        """Takes up changed catalogs before the next batch."""
        self._offered = catalogs

    async def ready(self) -> bool:
        """Whether batches are being counted, or would be if there were any."""
        return time.monotonic() - self._healthy_at < STALL_S / 4 and self._active is not None

    async def caught_up(self) -> bool:
        """Whether all that is in the log now has been counted."""
        if not self._claims:
            return False
        ends = await self._reader.end_offsets(list(self._claims))
        claimed = {partition: claim.next_offset for partition, (_, claim) in self._claims.items()}
        return all(claimed[partition] >= end for partition, end in ends.items())

    async def _start_reader(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._reader.start()
            except LogUnavailable as error:
                log.warning("log_unavailable", error=str(error), retry_s=RETRY_S)
                await self._pause(RETRY_S)
            else:
                return

    async def _consume(self) -> None:
        while not self._stopping.is_set():
            self._under_way["turn"] = time.monotonic()
            try:
                await self._take_turn()
                self._healthy_at = time.monotonic()
            except LogHole as hole:
                await self._skip(hole)
            except ClaimLost as error:
                await self._start_over("claim_lost", error)
            except CatalogBehind as error:
                await self._start_over("catalog_behind", error)
            except LogUnavailable as error:
                await self._start_over("log", error)
            except (SQLAlchemyError, OSError) as error:
                await self._start_over("database", error)

    async def _take_turn(self) -> None:
        if not await self._hold_catalog():
            await self._pause(RETRY_S)
            return
        await self._claim_assigned()
        records, trouble = await next_turn(self._reader)
        if not records:
            if self._active is not None:  # a rebuild, or another process's catalog: no commit would tell
                await self._check_generation(self._active)
            return
        # again: a catalog that was offered meanwhile is that under which the door took these events
        if await self._hold_catalog():
            await self._count(records)
        else:
            self._claims.clear()  # the records are read again once this process's catalog is in force
        if trouble is not None:
            raise trouble

    async def _start_over(self, cause: str, error: Exception) -> None:
        self._metrics.errors.labels(cause).inc()
        log.warning("batch_dropped", cause=cause, error=str(error).splitlines()[0], retry_s=RETRY_S)
        self._claims.clear()
        self._store.forget()
        if self._active is not None and cause == "claim_lost":
            await self._check_generation(self._active)
        await self._pause(RETRY_S if cause != "claim_lost" else 0)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    # --- catalog --------------------------------------------------------------------------------------

    async def _hold_catalog(self) -> bool:
        """Makes this process's catalog the active one if it was not tried yet; False while another is."""
        if self._offered is not None:
            self._catalogs, self._offered, self._active = self._offered, None, None
        if self._active is not None:
            return True
        digest = catalogs_hash(self._catalogs)
        if self._superseded_hash == digest and (await active_state(self._engine))[1] != digest:
            return False
        self._adopt(await activate(self._engine, self._catalogs, self._clock()))
        self._rules.admit(await self._store.known_series(list(self._catalogs)))
        return True

    def _adopt(self, active: ActiveCatalog) -> None:
        self._rules = Rules(self._catalogs, active.versions)
        metrics = Metrics(self._catalogs, active.versions)
        self._rolling.use(metrics, active.generation)
        self._evaluation.use(self._catalogs, metrics, active.generation)
        self._gauges.use(self._catalogs)
        self._active = active
        self._superseded_hash = ""
        log.info("catalog_active", generation=active.generation, hash=active.hash[:12])

    async def _check_generation(self, active: ActiveCatalog) -> None:
        try:
            generation, digest = await active_state(self._engine)
        except (SQLAlchemyError, OSError):
            return  # the next turn will meet the same trouble, and name it
        if generation == active.generation:
            return
        self._active = None
        if digest != active.hash:
            self._superseded_hash = active.hash
            self._metrics.errors.labels("catalog_superseded").inc()
            log.error(
                "catalog_superseded",
                active=digest[:12],
                mine=active.hash[:12],
                next="update the catalog files",
            )

    # --- counting -------------------------------------------------------------------------------------

    async def _claim_assigned(self) -> None:
        assignment = self._reader.assignment()
        for partition in [p for p, (number, _) in self._claims.items() if assignment.get(p) != number]:
            del self._claims[partition]
        new = [partition for partition in assignment if partition not in self._claims]
        if not new:
            return
        log_ids = {
            topic: await self._reader.log_id(topic) for topic in {partition.topic for partition in new}
        }
        claims = {
            partition: await self._store.claim(partition, log_ids[partition.topic]) for partition in new
        }
        # after the claims: before them another holder may still move next_offset past these ends; and all at
        # once before any seek: a fetch under way holds the next request to a broker up for half a second
        ends = await self._reader.end_offsets(new)
        for partition, claim in claims.items():
            check_end(partition, claim.next_offset, ends[partition])
            self._reader.seek(partition, claim.next_offset)
            self._claims[partition] = (assignment[partition], claim)

    async def _count(self, records: Sequence[Record]) -> None:
        """One transaction for all that a poll brought."""
        by_partition = self._of_claimed(records)
        if not by_partition or self._active is None:
            return
        claims = {partition: claim for partition, (_, claim) in self._claims.items()}
        batches = await self._counting.batches(claims, by_partition, self._rules)
        await _finish(self._store.commit(batches, self._rules, self._active.generation))
        for batch in batches:
            claim = batch.claim
            number = self._claims[claim.partition][0]
            self._claims[claim.partition] = (number, Claim(claim.partition, claim.epoch, batch.next_offset))
        self._observe(batches, by_partition)

    def _of_claimed(self, records: Sequence[Record]) -> dict[Partition, list[Record]]:
        """The records that are next in the partitions that are claimed. Raises LogHole for a gap."""
        wanted: dict[Partition, list[Record]] = {}
        for record in records:
            if record.partition not in self._claims:
                continue
            group = wanted.get(record.partition)
            expected = group[-1].offset + 1 if group else self._claims[record.partition][1].next_offset
            if record.offset > expected:
                raise LogHole(record.partition, expected, record.offset - 1, "the log skips these offsets")
            if record.offset == expected:
                wanted.setdefault(record.partition, []).append(record)
        return wanted

    def _observe(self, batches: Sequence[Batch], records: Mapping[Partition, Sequence[Record]]) -> None:
        tallies = [tally for batch in batches for tally in batch.folded.tallies.values()]
        for outcome, count in totals(tallies).items():
            self._metrics.events.labels(outcome).inc(count)
        now = self._clock()
        for group in records.values():
            for record in group:
                self._metrics.freshness.observe(max(0, now - record.received_at) / 1_000_000)

    async def _skip(self, hole: LogHole) -> None:
        """Writes the hole down and reads on behind it."""
        log.error(
            "log_hole",
            partition=hole.partition,
            first=hole.first_offset,
            last=hole.last_offset,
            why=hole.reason,
        )
        claimed = self._claims.get(hole.partition)
        try:
            if claimed is not None and self._active is not None:
                await _finish(self._store.skip_hole(claimed[1], hole, self._active.generation))
        except (ClaimLost, SQLAlchemyError, OSError) as error:
            await self._start_over("database", error)
        self._claims.clear()

    # --- beside counting ------------------------------------------------------------------------------

    async def _keep_ticking(self) -> None:
        while not self._stopping.is_set():
            self._under_way["tick"] = started = time.monotonic()
            try:
                leads = await _finish(self._rolling.tick())
            except (SQLAlchemyError, OSError) as error:
                leads = False
                log.warning("tick_failed", error=str(error).splitlines()[0])
            self._metrics.leads.set(leads)
            if leads:
                self._metrics.tick.observe(time.monotonic() - started)
                await self._evaluate()
            took = time.monotonic() - self._under_way.pop("tick")
            await self._pause(pause_after(took))

    async def _evaluate(self) -> None:
        started = time.monotonic()
        try:
            await _finish(self._evaluation.tick())
        except (SQLAlchemyError, OSError) as error:
            log.warning("evaluation_failed", error=str(error).splitlines()[0])
        self._metrics.evaluation.observe(time.monotonic() - started)
        self._metrics.trends_waiting.set(self._evaluation.waiting)

    async def _watch_lag(self) -> None:
        """Exports the lag, and ends a process that is stuck without an error."""
        moved: dict[Partition, tuple[int, float]] = {}
        while not self._stopping.is_set():
            try:
                ends = await self._reader.end_offsets(list(self._claims))
            except LogUnavailable:
                ends = {}
            now = time.monotonic()
            self._refuse_to_hang(now)
            self._metrics.lag.clear()
            for partition, end in ends.items():
                if partition not in self._claims:
                    continue
                offset = self._claims[partition][1].next_offset
                self._metrics.lag.labels(f"{partition.topic}-{partition.number}").set(max(0, end - offset))
                if partition not in moved or moved[partition][0] != offset or end <= offset:
                    moved[partition] = (offset, now)
                elif now - moved[partition][1] > STALL_S and now - self._healthy_at < POLL_S * 4:
                    raise Stalled(
                        f"{partition} has records at {offset} but none has come for {STALL_S:.0f} s"
                    )
            await self._pause(LAG_S if ends else TICK_S)  # at the start there is nothing claimed yet

    def _refuse_to_hang(self, now: float) -> None:
        """A database that neither answers nor closes its connection would be waited for without end."""
        for what, began in self._under_way.items():
            if now - began > HUNG_S:
                raise Stalled(f"a {what} has not ended for {HUNG_S:.0f} s: the database does not answer")


def pause_after(took_s: float) -> float:
    """Seconds until the next tick: it takes a third of the time at most, unless the lease ran out by that.

    One that slept, or waited for a database, took minutes without having done anything.
    """
    return max(TICK_S - took_s, min(2 * took_s, LEASE_SECONDS - 1))


async def _finish(work: Coroutine[object, object, T]) -> T:
    """Awaits a transaction to its end even if cancelled: one cut off leaves a dirty connection.

    One that does not end in time is left to the end of the process.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=CLOSE_S)
        raise
