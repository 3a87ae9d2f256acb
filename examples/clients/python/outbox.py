"""The outbox: an event is written in the same transaction as what it tells of, and sent afterwards.

Neither is there without the other, whatever breaks in between. The relay may run anywhere and as often as it
likes: it sends the oldest events, and forgets them once they have their verdict. See README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox_refused (event TEXT NOT NULL, verdict TEXT NOT NULL);
"""

Post = Callable[[Sequence[str]], dict[int, str] | None]


def put(database: sqlite3.Connection, event: str) -> None:
    """Within the caller's transaction: the event as JSON, its id already in it."""
    database.execute("INSERT INTO outbox (event) VALUES (?)", (event,))


def relay(database: sqlite3.Connection, post: Post, limit: int = 1_000) -> int:
    """Sends the oldest events; returns how many have left the outbox.

    `post` returns the verdicts of those that were refused by their place, and None where the answer was not
    for good (no answer, 429, 503): then nothing is deleted, and the next call sends the same again.
    """
    rows = database.execute(
        "SELECT position, event FROM outbox ORDER BY position LIMIT ?", (limit,)
    ).fetchall()
    if not rows:
        return 0
    refused = post([event for _, event in rows])
    if refused is None:
        return 0
    with database:  # one transaction
        for place, verdict in refused.items():
            database.execute("INSERT INTO outbox_refused VALUES (?, ?)", (rows[place][1], verdict))
        database.executemany("DELETE FROM outbox WHERE position = ?", [(position,) for position, _ in rows])
    return len(rows)
