"""What was sent of a partner's rows, in a small SQLite file: the state of `impact send --csv`.

It holds what the CSV files hold, so it belongs where they are. One process at a time works with it. What is
to be sent is written down before it is sent (an outbox), so that after an interruption the same events, not
new ones, are sent again.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import StaticPool

from impact_cli.terminal import Refused
from impact_schemas.partner_plan import Known, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from impact_schemas.partner_rows import Key

Kind = Literal["send", "undo"]

_metadata = MetaData()
_import = Table(
    "import",
    _metadata,
    Column("importid", String, primary_key=True),
    Column("server", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("file", Text, nullable=False),  # of an undo: the import that it takes back
    Column("started_at", String, nullable=False),
)
_row = Table(
    "row",  # what the service has of a row, as far as it was sent from here
    _metadata,
    Column("server", String, primary_key=True),  # what one service was sent, another was not
    Column("source", String, primary_key=True),
    Column("row_key", Text, primary_key=True),  # JSON
    Column("generation", Integer, nullable=False),
    Column("content", Text),  # JSON; null: taken back
    Column("importid", String, nullable=False),  # the last that changed it
)
_step = Table(
    "step",  # what an import does to one row
    _metadata,
    Column("importid", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("source", String, nullable=False),
    Column("row_key", Text, nullable=False),
    Column("action", String, nullable=False),
    Column("generation", Integer, nullable=False),  # after it
    Column("before", Text),
    Column("after", Text),
    Column("before_known", Integer, nullable=False),
    Column("events", Text),  # JSON lines, until they have their verdicts
    Column("state", String, nullable=False),  # waiting, accepted, rejected
    Column("problem", Text),
)

_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


class Import(msgspec.Struct, frozen=True):
    """One file that was sent, or taken back."""

    importid: str
    server: str
    kind: Kind
    file: str
    started_at: str
    new: int = 0
    changed: int = 0
    retracted: int = 0
    rejected: int = 0
    waiting: int = 0


@contextmanager
def opened(file: Path) -> Iterator[Journal]:
    """The journal at `file`, made if it is not there, for this process alone. Raises Refused."""
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{file}", poolclass=StaticPool, connect_args={"timeout": 1})
    try:
        with engine.connect() as connection:
            # held until the file is closed, by every kind of end
            connection.exec_driver_sql("PRAGMA locking_mode=EXCLUSIVE")
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            connection.commit()
            _metadata.create_all(connection)
            connection.commit()
            yield Journal(connection)
    except OperationalError as error:
        raise Refused(
            f"the import journal {file} cannot be used: {error.orig}. If another send works with it, wait "
            "for its end; --state names another folder"
        ) from error
    except DatabaseError as error:
        raise Refused(f"{file} is no import journal: {error.orig}; --state names another folder") from error
    finally:
        engine.dispose()


class Journal:
    """An open journal."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, server: str, source: str) -> dict[Key, Known]:
        """Every row that was sent to `server`, those taken back too."""
        query = select(_row).where(_row.c.server == server, _row.c.source == source)
        return {
            tuple(msgspec.json.decode(row.row_key)): Known(row.generation, row.content, row.importid)
            for row in self._read(query)
        }

    def begin(
        self, importid: str, server: str, kind: Kind, file: str, at: str, steps: Sequence[Step]
    ) -> None:
        """Writes down what an import is going to send."""
        rows = [
            {
                "importid": importid,
                "number": number,
                "source": step.source,
                "row_key": _encode(step.key).decode(),
                "action": step.action,
                "generation": step.generation,
                "before": step.before,
                "after": step.after,
                "before_known": int(step.before_known),
                "events": b"\n".join(step.events).decode(),
                "state": "waiting",
            }
            for number, step in enumerate(steps)
        ]
        entry = {"importid": importid, "server": server, "kind": kind, "file": file, "started_at": at}
        self._connection.execute(insert(_import).values(entry))
        if rows:
            self._connection.execute(insert(_step), rows)
        self._connection.commit()

    def waiting(self, server: str) -> dict[str, list[Step]]:
        """Steps without a verdict, by import, the oldest import first."""
        query = (
            select(_step)
            .join(_import, _import.c.importid == _step.c.importid)
            .where(_step.c.state == "waiting", _import.c.server == server)
            .order_by(_import.c.started_at, _step.c.importid, _step.c.number)
        )
        found: dict[str, list[Step]] = {}
        for row in self._read(query):
            found.setdefault(row.importid, []).append(_as_step(row))
        return found

    def settle(self, server: str, importid: str, steps: Sequence[Step], problems: dict[int, str]) -> None:
        """Notes the verdicts of `steps`: `problems` by their numbers, all others were accepted."""
        for step in steps:
            problem = problems.get(step.number)
            values = {"state": "rejected" if problem else "accepted", "problem": problem, "events": None}
            place = (_step.c.importid == importid) & (_step.c.number == step.number)
            self._connection.execute(update(_step).where(place).values(values))
            if problem is None:
                row = {"generation": step.generation, "content": step.after, "importid": importid}
                key = {"server": server, "source": step.source, "row_key": _encode(step.key).decode()}
                added = upsert(_row).values({**key, **row})
                self._connection.execute(added.on_conflict_do_update(index_elements=list(key), set_=row))
        self._connection.commit()

    def last_time(self) -> datetime:
        """When the latest import began; long ago if there is none."""
        times = [datetime.fromisoformat(row.started_at) for row in self._read(select(_import.c.started_at))]
        return max(times, default=datetime.fromtimestamp(0, UTC))

    def imports(self) -> list[Import]:
        """All imports, the oldest first."""
        counts: dict[str, dict[str, int]] = {}
        query = select(_step.c.importid, _step.c.action, _step.c.state, func.count()).group_by(
            _step.c.importid, _step.c.action, _step.c.state
        )
        for importid, action, state, count in self._read(query):
            name = action if state == "accepted" else state
            of_import = counts.setdefault(importid, {})
            of_import[name] = of_import.get(name, 0) + count
        return [
            Import(
                row.importid, row.server, row.kind, row.file, row.started_at, **counts.get(row.importid, {})
            )
            for row in self._read(select(_import).order_by(_import.c.started_at, _import.c.importid))
        ]

    def accepted_steps(self, importid: str) -> list[Step]:
        """What an import did."""
        query = select(_step).where(_step.c.importid == importid, _step.c.state == "accepted")
        return [_as_step(row) for row in self._read(query.order_by(_step.c.number))]

    def problems(self, importid: str) -> list[str]:
        """What of an import was rejected, and why."""
        query = select(_step.c.problem).where(_step.c.importid == importid, _step.c.state == "rejected")
        return [row.problem for row in self._read(query.order_by(_step.c.number))]

    def _read(self, query: Any) -> Sequence[Any]:
        rows = self._connection.execute(query).all()
        self._connection.rollback()
        return rows


def _as_step(row: Any) -> Step:
    return Step(
        source=row.source,
        key=tuple(msgspec.json.decode(row.row_key)),
        action=row.action,
        generation=row.generation,
        before=row.before,
        after=row.after,
        events=tuple(row.events.encode().split(b"\n")) if row.events else (),
        before_known=bool(row.before_known),
        number=row.number,
    )
