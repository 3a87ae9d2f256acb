"""The driver's own record: every event that was sent and what was answered, in SQLite.

It shares nothing with the service: what the service should show is plain SQL over this file.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SOURCE = "/proof"
COLLECTED = "proof.collected.v1"
RETRACTION = "impact.retraction.v1"
SITES = 5
PEOPLE = 700  # below the size up to which distinct counts are exact
SPREAD_MS = 60 * 3_600_000  # events lie this far back: several days and many hours

_SCHEMA = """
CREATE TABLE event (
    number INTEGER PRIMARY KEY,   -- its weight, too: one lost and another doubled show in the sums
    kind TEXT NOT NULL,           -- collected | invalid | conflict | retraction
    id TEXT NOT NULL,
    target INTEGER,               -- of a retraction: the event that it takes back
    person TEXT,
    site TEXT,
    plastic INTEGER,
    milligrams INTEGER,
    time_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,        -- accepted | rejected | unknown | not sent
    attempts INTEGER NOT NULL
);
CREATE TABLE answer (
    at REAL NOT NULL,             -- monotonic seconds
    took_s REAL NOT NULL,
    status INTEGER,               -- NULL: none came
    events INTEGER NOT NULL
);
"""


class Sent(NamedTuple):
    """One event as it goes out."""

    number: int
    kind: str
    id: str
    target: int | None
    person: str | None
    site: str | None
    plastic: bool
    milligrams: int
    time_ms: int

    def body(self) -> dict[str, Any]:
        """The CloudEvent."""
        event: dict[str, Any] = {"specversion": "1.0", "id": self.id, "source": SOURCE}
        if self.kind == "retraction":
            data: dict[str, Any] = {"source": SOURCE, "id": f"e{self.target}", "reason": "proof"}
            return event | {"type": RETRACTION, "time": _rfc3339(self.time_ms), "data": data}
        kg = "heavy" if self.kind == "invalid" else self.milligrams / 1000
        data = {"kg": kg, "site": self.site, "plastic": self.plastic}
        return event | {
            "type": COLLECTED,
            "time": _rfc3339(self.time_ms),
            "subject": self.person,
            "data": data,
        }


def collected(number: int, begin_ms: int, kind: str = "collected") -> Sent:
    """Event `number`: everything about it follows from the number. Times are distinct below 216 million."""
    return Sent(
        number,
        kind,
        f"e{number}",
        None,
        f"person {number % PEOPLE}",
        None if number % 11 == 0 else f"site {number % SITES}",
        number % 3 == 0,
        number,
        begin_ms + number * 7919 % SPREAD_MS,
    )


def conflicting(number: int, target: int, begin_ms: int) -> Sent:
    """The same id as the event `target`, but other content."""
    return collected(number, begin_ms, "conflict")._replace(id=f"e{target}")


def retracting(number: int, target: int, begin_ms: int) -> Sent:
    """Takes the event `target` back."""
    one = collected(number, begin_ms, "retraction")
    return one._replace(id=f"r{number}", target=target, person=None, site=None)


class Ledger:
    """The record. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        # of all events of the record, so that no two of them have one time, whichever load they are of
        self.begin_ms = time.time_ns() // 1_000_000 - SPREAD_MS - 120_000
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")  # the driver is not what is killed
        self._database.execute("PRAGMA journal_mode = MEMORY")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file, which stays for a look at it."""
        self._database.close()

    def sending(self, events: Iterable[Sent]) -> None:
        """Before each attempt: from now on they may be in the service."""
        rows = [(*event, "unknown", 1) for event in events]
        sql = (
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET attempts = attempts + 1"
        )
        with self._writing() as database:
            database.executemany(sql, rows)

    def answered(self, at: float, took_s: float, status: int | None, events: int) -> None:
        """One request and its answer."""
        with self._writing() as database:
            database.execute("INSERT INTO answer VALUES (?, ?, ?, ?)", (at, took_s, status, events))

    def decided(self, numbers: Iterable[int], outcome: str) -> None:
        """What the service said of these events. What was said once is never taken back by a later answer."""
        sql = "UPDATE event SET outcome = ? WHERE number = ? AND outcome NOT IN ('accepted', 'rejected')"
        with self._writing() as database:
            database.executemany(sql, [(outcome, number) for number in numbers])

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """A query over the record."""
        with self._lock:
            return self._database.execute(sql, parameters).fetchall()

    def count(self, outcome: str) -> int:
        """Events with this outcome."""
        ((number,),) = self.rows("SELECT COUNT(*) FROM event WHERE outcome = ?", (outcome,))
        return int(number)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN")
            try:
                yield self._database
            finally:
                self._database.execute("COMMIT")


def _rfc3339(time_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
