"""The embedded event log: one SQLite file, one writing process, offsets like Kafka's.

An append returns after a COMMIT that was synced to the disk (WAL, synchronous=FULL); all appends that wait
while one transaction is written share the next. All of SQLite runs in one thread an object.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import time
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from impact_eventlog.pending import PendingAppends, WriterLimits
from impact_eventlog.ports import LogError, LogHole, LogUnavailable, Partition, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from impact_eventlog.pending import Batch
    from impact_eventlog.ports import KeyedEvent

_log = structlog.get_logger(__name__)
Result = TypeVar("Result")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    id TEXT NOT NULL,
    partitions INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS record (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    product TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (topic, partition, offset)
);
"""
_INSERT = "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)"
_END = "SELECT coalesce(max(offset) + 1, 0) FROM record WHERE topic = ? AND partition = ?"
_READ = (
    "SELECT offset, product, received_at, payload FROM record "
    "WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset"
)
DOUBT_S = 2.0  # so long after a write that failed no small one is tried
_PROBE = "UPDATE log SET partitions = partitions"
_CHECKPOINT_PAGES = 4000  # 16 MiB of WAL: the default of 4 MiB costs two more syncs every 16,000 events
_TRANSACTION_BYTES = 16 * 1024 * 1024
_BUSY_TIMEOUT_S = 5.0
_OTHER_PROCESS_POLL_S = 0.1  # how late a reader without the writer in its process sees an append
POLL_BYTES = 4 * 1024 * 1024
_GUESTS = "takes guests"  # in the lock file, after the id of the process


class EmbeddedWriter:
    """The one writer of the file at `path`; makes the file with `partitions` a topic if there is none.

    One that `takes_guests` lets a command of another process append beside it (`is_guest`): every transaction
    reads the end of the log under SQLite's own lock, so that neither overwrites the other.
    `clock_us` gives the time at which a record is closed, in microseconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        *,
        partitions: int = 1,
        limits: WriterLimits | None = None,
        takes_guests: bool = False,
        is_guest: bool = False,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._path = path
        self._partitions = partitions
        self._takes_guests = takes_guests
        self._is_guest = is_guest
        self._clock_us = clock_us
        self._work = asyncio.Event()
        self._pending = PendingAppends(limits or WriterLimits(), self._work.set)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="event-log-writer")
        self._database: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._loop: asyncio.Task[None] | None = None
        self._failed_at: float | None = None  # the last write, if it failed
        self._readers: weakref.WeakSet[asyncio.Event] = weakref.WeakSet()

    async def start(self) -> None:
        """Opens the file. Raises LogError if another process has it, or if it is damaged or no event log."""
        self._lock = _lock(self._path, takes_guests=self._takes_guests, is_guest=self._is_guest)
        try:
            self._database = await self._in_thread(lambda: _open_to_write(self._path, self._partitions))
        except LogError:
            if self._lock is not None:
                os.close(self._lock)
            raise
        self._loop = asyncio.create_task(self._write_batches())

    def append(
        self, topic: str, product: str, events: Sequence[KeyedEvent], received_at: int | None = None
    ) -> asyncio.Future[None]:
        """See EventLogWriter."""
        if self._loop is None:
            raise LogUnavailable("the event log is not open")
        return self._pending.add(topic, product, events, received_at, self._partitions)

    async def ready(self) -> bool:
        """False while too much waits, and after a write that failed (disk full, say) until one succeeds.

        Some time after the last failure it tries a small write itself: who is not ready may get no events to
        try with. Not at once, since a full disk often has room for a small one.
        """
        if self._loop is None or self._pending.full:
            return False
        if self._failed_at is not None and time.monotonic() - self._failed_at >= DOUBT_S:
            with contextlib.suppress(sqlite3.Error):
                await self._in_thread(lambda: self._opened().execute(_PROBE))
                self._failed_at = None
        return self._failed_at is None

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Writes what was accepted, within `timeout_s`, and closes. Can be repeated."""
        if self._loop is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._pending.drained()
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        self._loop = None
        self._pending.give_up("the event log was closed")
        if self._database is not None:  # closing waits for a transaction that is under way
            await self._in_thread(self._database.close)
        self._thread.shutdown(wait=False)
        if self._lock is not None:
            os.close(self._lock)

    async def rewrite(self, change: Callable[[str, str, bytes], bytes | None]) -> int:
        """Replaces payloads for good, for erasure alone: no copy is left in the file. Gives how many.

        `change` gets topic, product and payload, and gives the new payload or None to leave it.
        """
        return await self._in_thread(partial(_rewrite, self._opened(), change))

    def wakes(self, reader: asyncio.Event) -> None:
        """Sets `reader` after each transaction, for as long as it lives."""
        self._readers.add(reader)

    async def _write_batches(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while batches := self._take():
                write = self._in_thread(partial(self._commit, batches))
                write.add_done_callback(partial(self._settle, batches))
                await asyncio.wait([write])  # a transaction under way outlives a cancelled writer

    def _take(self) -> list[Batch]:
        waiting = self._pending.waiting()
        share = _TRANSACTION_BYTES // max(len(waiting), 1)
        return [batch for partition in waiting if (batch := self._pending.take(partition, share))]

    def _settle(self, batches: list[Batch], write: asyncio.Future[None]) -> None:
        error = write.exception()
        self._failed_at = None if error is None else time.monotonic()
        if error is not None:
            bug = None if isinstance(error, sqlite3.Error) else error
            _log.error("event_log_write_failed", path=str(self._path), error=str(error), exc_info=bug)
        for batch in batches:
            self._pending.settle(batch, error)
        for reader in self._readers:
            reader.set()

    def _commit(self, batches: list[Batch]) -> None:
        """One transaction; the end of each partition is read in it, so that a failed one leaves no gap."""
        database = self._opened()
        try:
            database.execute("BEGIN IMMEDIATE")
            now = self._clock_us()
            for batch in batches:
                database.executemany(_INSERT, _rows(batch, _end(database, batch.partition), now))
            database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise LogUnavailable("the event log is not open: call start() first")
        return self._database

    def _in_thread(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)


class EmbeddedReader:
    """Reads all partitions of `topics` in the file at `path`, beside a writer in any process.

    With `writer` (of this process and event loop) it sees an append at once.
    """

    def __init__(
        self,
        path: Path,
        topics: Collection[str],
        *,
        writer: EmbeddedWriter | None = None,
        poll_bytes: int = POLL_BYTES,
    ) -> None:
        self._path = path
        self._topics = tuple(topics)
        self._poll_bytes = poll_bytes
        self._appended = asyncio.Event()
        self._nap_s = None if writer else _OTHER_PROCESS_POLL_S
        if writer:
            writer.wakes(self._appended)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="event-log-reader")
        self._database: sqlite3.Connection | None = None
        self._assignment: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self._log_id = ""

    async def start(self) -> None:
        """Opens the file. Raises LogUnavailable if there is none yet, LogError if it is no event log."""
        self._database = await self._in_thread(lambda: _open_to_read(self._path))
        self._log_id, partitions = await self._ask(_identity)
        self._assignment = {
            Partition(topic, index): 1 for topic in self._topics for index in range(partitions)
        }

    def assignment(self) -> Mapping[Partition, int]:
        """Always all partitions, with the number 1."""
        return self._assignment

    def seek(self, partition: Partition, offset: int) -> None:
        """See EventLogReader."""
        if partition in self._assignment:
            self._next[partition] = offset

    def leave(self, partition: Partition) -> None:
        """See EventLogReader."""
        self._next.pop(partition, None)

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """See EventLogReader."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            self._appended.clear()
            records = await self._read()
            left_s = deadline - asyncio.get_running_loop().time()
            if records or left_s <= 0:
                return records
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s if self._nap_s is None else min(left_s, self._nap_s)):
                    await self._appended.wait()

    async def end_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See EventLogReader."""
        return await self._ask(
            lambda database: {partition: _end(database, partition) for partition in partitions}
        )

    async def log_id(self, topic: str) -> str:  # noqa: ARG002 - one file has one identity for all its topics
        """See EventLogReader."""
        return self._log_id

    async def stop(self) -> None:
        """Closes. Can be repeated."""
        if self._database is not None:
            await self._in_thread(self._database.close)
            self._database = None
        self._thread.shutdown(wait=False)

    async def _read(self) -> list[Record]:
        positions = dict(self._next)
        try:
            records = await self._ask(lambda database: _read_records(database, positions, self._poll_bytes))
        except LogHole as hole:
            self._next.pop(hole.partition, None)
            raise
        for record in records:
            self._next[record.partition] = record.offset + 1
        for partition in {record.partition for record in records}:
            # to the end of the line, so that the byte bound starves nobody
            self._next[partition] = self._next.pop(partition)
        return records

    async def _ask(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        database = self._database
        if database is None:
            raise LogUnavailable("the event log is not open: call start() first")
        try:
            return await self._in_thread(lambda: query(database))
        except sqlite3.OperationalError as error:
            raise LogUnavailable(f"{self._path} cannot be read now: {error}") from error
        except sqlite3.DatabaseError as error:
            raise _damaged(self._path, error) from error

    def _in_thread(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)


def _lock(path: Path, *, takes_guests: bool, is_guest: bool) -> int | None:
    """Takes the writer's lock, which lasts as long as the process: the file's descriptor; none for a guest.

    Raises LogError if another process has it and this one is no guest that it takes.
    """
    lock_file = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LogError(f"{lock_file} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder, _, guests = os.read(descriptor, 40).decode().partition(" ")
        os.close(descriptor)
        if is_guest and guests == _GUESTS:
            return None
        raise LogError(
            f"{path} is in use by another process (its id: {holder or 'unknown'}): stop that one, or use "
            "another folder"
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, b"%d" % os.getpid() + (f" {_GUESTS}".encode() if takes_guests else b""))
    return descriptor


def _open_to_write(path: Path, partitions: int) -> sqlite3.Connection:
    """Opens or makes the file. Raises LogError."""
    try:
        database = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            _claim(database, path, partitions)
        except BaseException:
            database.close()
            raise
    except sqlite3.OperationalError as error:
        raise LogError(f"{path} cannot be opened for writing: {error}") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error
    return database


def _claim(database: sqlite3.Connection, path: Path, partitions: int) -> None:
    """Gives a new file its identity; the number of partitions decides where an event goes, so it is fixed."""
    if database.execute("SELECT count(*) FROM log").fetchone()[0] == 0:
        database.execute("INSERT INTO log VALUES (?, ?)", (uuid.uuid4().hex, partitions))
    made_with = _identity(database)[1]
    if made_with != partitions:
        raise LogError(f"{path} was made with {made_with} partitions and cannot be opened with {partitions}")


def _rewrite(database: sqlite3.Connection, change: Callable[[str, str, bytes], bytes | None]) -> int:
    columns = "topic, partition, offset, product, payload"
    rewritten = 0
    database.execute("BEGIN IMMEDIATE")
    try:
        for *place, product, payload in database.execute(f"SELECT {columns} FROM record"):  # noqa: S608 (constants)
            new = change(place[0], product, payload)
            if new is not None:
                database.execute(
                    "UPDATE record SET payload = ? WHERE topic = ? AND partition = ? AND offset = ?",
                    (new, *place),
                )
                rewritten += 1
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
    if rewritten:  # the old pages go with the old file
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return rewritten


def _open_to_read(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise LogUnavailable(f"there is no event log at {path} yet: `impact up` makes it")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    except sqlite3.OperationalError as error:
        raise LogUnavailable(f"{path} cannot be read now: {error}") from error


def _identity(database: sqlite3.Connection) -> tuple[str, int]:
    """(id, partitions)."""
    log_id, partitions = database.execute("SELECT id, partitions FROM log").fetchone()
    return log_id, partitions


def _damaged(path: Path, error: sqlite3.Error) -> LogError:
    return LogError(f"{path} is damaged or no event log ({error}): restore it from a copy, or move it away")


def _end(database: sqlite3.Connection, partition: Partition) -> int:
    end: int = database.execute(_END, partition).fetchone()[0]
    return end


def _rows(batch: Batch, offset: int, now: int) -> Iterator[tuple[str, int, int, str, int, bytes]]:
    for number, (product, received_at, payload) in enumerate(batch.records, offset):
        yield (*batch.partition, number, product, now if received_at is None else received_at, payload)


def _read_records(
    database: sqlite3.Connection, positions: Mapping[Partition, int], max_bytes: int
) -> list[Record]:
    """At most `max_bytes` but at least one, if there is any. Raises LogHole, LogError."""
    records: list[Record] = []
    size = 0
    for partition, position in positions.items():
        expected = position
        for offset, product, received_at, payload in database.execute(_READ, (*partition, position)):
            if records and size + len(payload) > max_bytes:
                return records
            if offset != expected:
                if records:  # the good ones first; the next poll comes here again
                    return records
                raise LogHole(partition, expected, offset - 1, "the rows are missing")
            records.append(Record(partition, offset, product, received_at, payload))
            size += len(payload)
            expected += 1
        if expected == position and _end(database, partition) < position:
            raise LogError(
                f"{partition} ends at {_end(database, partition)}, before the offset {position}: "
                "this is another log than the one read so far, or an older copy of it"
            )
    return records
