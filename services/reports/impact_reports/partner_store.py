"""The journal of partners' files in SQL: what was sent of each row, without anything personal.

These three tables are all that the reports service writes. A file's events are nowhere in it: after an
interruption the same file is uploaded again, and the same events go out.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from impact_database import bulk
from impact_database.engine import durable, read_only
from impact_schemas.partner_plan import Known
from impact_schemas.partner_template import Described, described
from impact_schemas.tables import import_form, import_row, import_run, import_step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_schemas.partner_plan import Action
    from impact_schemas.partner_private import KeptKey

SILENT_US = 120_000_000  # a chunk takes seconds: who was not heard of for so long is gone
RUNS_SHOWN = 100

Kind = Literal["send", "undo"]
_json = msgspec.json.Encoder().encode


class Busy(Exception):
    """Another import of the same source is running."""


class Form(NamedTuple):
    """A kind of file that the catalog describes."""

    product: str
    name: str
    title: str
    described: Described


class Stored(NamedTuple):
    """A row as it was sent last."""

    key: KeptKey
    known: Known


class Run(msgspec.Struct, frozen=True):
    """One file that was sent, or taken back."""

    importid: str
    product: str
    form: str
    source: str
    kind: Kind
    file: str
    digest: str
    key_id: str
    stamp_time: str
    state: Literal["running", "interrupted", "done"]
    started_at: int
    seen_at: int
    unchanged: int = 0
    missing: int = 0
    wrong: list[tuple[int, str | None]] = []
    counts: dict[str, int] = {}  # new, changed, retracted: accepted; rejected, waiting, superseded

    @property
    def accepted(self) -> int:
        """Rows that the service took."""
        return sum(self.counts.get(name, 0) for name in ("new", "changed", "retracted"))


class Noted(NamedTuple):
    """What an import does, or did, to one row."""

    row_id: str
    key: KeptKey
    action: Action
    generation: int
    event_id: str
    before: str | None
    after: str | None
    before_known: bool
    state: str = "waiting"
    problem: str | None = None


class PartnerStore:
    """Reads forms and journal, and writes the journal. All raise SQLAlchemyError, OSError."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock

    async def forms(self, product: str) -> list[Form]:
        """The kinds of files of a product."""
        query = select(import_form).where(import_form.c.product == product).order_by(import_form.c.form)
        return [
            Form(row.product, row.form, row.title, described(row.definition))
            for row in await self._all(query)
        ]

    async def rows(self, product: str, source: str) -> dict[str, Stored]:
        """What was sent of the rows of a source, by their ids; those taken back too."""
        here = (import_row.c.product == product) & (import_row.c.source == source)
        return {
            row.row_id: Stored(
                tuple(msgspec.json.decode(row.row_key)),
                Known(row.generation, row.content, row.importid, row.event_id),
            )
            for row in await self._all(select(import_row).where(here))
        }

    async def in_doubt(self, product: str, source: str, *, but: str | None) -> set[str]:
        """Rows of interrupted imports of which nobody knows whether they arrived; not those of `but`."""
        query = (
            select(import_step.c.row_id)
            .join(import_run, import_run.c.importid == import_step.c.importid)
            .where(import_run.c.product == product, import_run.c.source == source)
            .where(import_step.c.state == "waiting")
            .where((import_run.c.state != "running") | (import_run.c.seen_at < self._clock() - SILENT_US))
        )
        if but is not None:
            query = query.where(import_run.c.importid != but)
        return {row.row_id for row in await self._all(query)}

    async def last_stamp(self, product: str) -> datetime:
        """The latest time that an import's corrections carry; long ago if there is none."""
        query = select(func.max(import_run.c.stamp_time)).where(import_run.c.product == product)
        [(latest,)] = await self._all(query)
        return datetime.fromtimestamp(0, UTC) if latest is None else datetime.fromisoformat(latest)

    async def interrupted(self, product: str, form: str, digest: str) -> Run | None:
        """The last import of this file, if it did not come to its end."""
        here = (import_run.c.product == product) & (import_run.c.form == form)
        query = select(import_run).where(here, import_run.c.kind == "send")
        rows = await self._all(query.order_by(import_run.c.started_at.desc()).limit(1))
        last = next((self._run(row, {}) for row in rows), None)
        unfinished = last is not None and last.state == "interrupted" and last.digest == digest
        return last if unfinished else None

    async def runs(self, product: str) -> list[Run]:
        """The last imports, the latest first."""
        query = select(import_run).where(import_run.c.product == product)
        rows = await self._all(query.order_by(import_run.c.started_at.desc()).limit(RUNS_SHOWN))
        counts = await self._counts([row.importid for row in rows])
        return [self._run(row, counts.get(row.importid, {})) for row in rows]

    async def run(self, product: str, importid: str) -> Run | None:
        """One import."""
        here = (import_run.c.product == product) & (import_run.c.importid == importid)
        rows = await self._all(select(import_run).where(here))
        counts = await self._counts([importid])
        return next((self._run(row, counts.get(importid, {})) for row in rows), None)

    async def undo_of(self, product: str, importid: str) -> Run | None:
        """The import that took another one back, or began to."""
        here = (import_run.c.product == product) & (import_run.c.kind == "undo")
        query = select(import_run).where(here, import_run.c.file == importid)
        return next((self._run(row, {}) for row in await self._all(query)), None)

    async def steps(self, importid: str, state: str) -> list[Noted]:
        """What an import did, in the order of its keys."""
        here = (import_step.c.importid == importid) & (import_step.c.state == state)
        query = select(import_step).where(here).order_by(import_step.c.row_key, import_step.c.row_id)
        return [_noted(row) for row in await self._all(query)]

    async def begin(self, run: Run) -> None:
        """Notes that an import begins, or goes on. Raises Busy."""
        now = self._clock()
        values = msgspec.structs.asdict(run) | {"wrong": _json(run.wrong).decode()}
        del values["counts"]
        here = (import_run.c.product == run.product) & (import_run.c.source == run.source)
        gone = here & (import_run.c.state == "running") & (import_run.c.seen_at < now - SILENT_US)
        try:
            async with self._writing() as connection:
                await connection.execute(update(import_run).where(gone).values(state="interrupted"))
                same = (import_run.c.importid == run.importid) & (import_run.c.state == "interrupted")
                again = await connection.execute(update(import_run).where(same).values(values))
                if not again.rowcount:
                    await connection.execute(insert(import_run).values(values))
        except IntegrityError as error:
            raise Busy from error

    async def note(self, importid: str, steps: Sequence[Noted]) -> None:
        """Writes down what is going to be sent."""
        async with self._writing() as connection:
            await self._write(connection, importid, steps)
            await self._seen(connection, importid)

    async def settle(self, run: Run, steps: Sequence[Noted]) -> None:
        """Writes down the verdicts of `steps`, and what holds of their rows now."""
        taken = [step for step in steps if step.state == "accepted"]
        rows = [(run.product, run.source, *_row_values(one), one.after, run.importid) for one in taken]
        doubt = import_step.c.row_id.in_([one.row_id for one in taken]) & (import_step.c.state == "waiting")
        async with self._writing() as connection:
            await self._write(connection, run.importid, steps)
            await connection.execute(update(import_step).where(doubt).values(state="superseded"))
            if rows:
                await bulk.upsert(connection, tuple(import_row.c), rows)
            await self._seen(connection, run.importid)

    async def end(self, importid: str, state: Literal["interrupted", "done"]) -> None:
        """An import is over."""
        here = import_run.c.importid == importid
        async with self._writing() as connection:
            await connection.execute(update(import_run).where(here).values(state=state))

    async def _write(self, connection: AsyncConnection, importid: str, steps: Sequence[Noted]) -> None:
        rows = [(importid, *_step_values(one)) for one in steps]
        if rows:
            await bulk.upsert(connection, tuple(import_step.c), rows)

    async def _counts(self, importids: Collection[str]) -> dict[str, dict[str, int]]:
        columns = (import_step.c.importid, import_step.c.action, import_step.c.state)
        query = select(*columns, func.count()).where(import_step.c.importid.in_(importids))
        found: dict[str, dict[str, int]] = {}
        for importid, action, state, count in await self._all(query.group_by(*columns)):
            name = action if state == "accepted" else state
            of_import = found.setdefault(importid, {})
            of_import[name] = of_import.get(name, 0) + count
        return found

    async def _all(self, query: Select[Any]) -> Sequence[Any]:
        async with read_only(self._engine).connect() as connection:
            rows: Sequence[Any] = (await connection.execute(query)).all()
        return rows

    def _run(self, row: Any, counts: Mapping[str, int]) -> Run:
        values = dict(row._mapping)  # noqa: SLF001 (SQLAlchemy's public name for it)
        wrong = [(line, column) for line, column in msgspec.json.decode(row.wrong)]
        run = Run(**values | {"wrong": wrong, "counts": dict(counts)})
        silent = run.state == "running" and run.seen_at < self._clock() - SILENT_US
        return msgspec.structs.replace(run, state="interrupted") if silent else run

    async def _seen(self, connection: AsyncConnection, importid: str) -> None:
        here = import_run.c.importid == importid
        await connection.execute(update(import_run).where(here).values(seen_at=self._clock()))

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        async with durable(self._engine).begin() as connection:
            if connection.dialect.name == "postgresql":  # by default the role of the reports only reads
                await connection.execute(text("SET TRANSACTION READ WRITE"))
            yield connection


def _row_values(one: Noted) -> tuple[object, ...]:
    return one.row_id, _json(one.key).decode(), one.generation, one.event_id


def _step_values(one: Noted) -> tuple[object, ...]:
    row_id, key, *standing = _row_values(one)
    verdict = (one.before, one.after, one.before_known, one.state, one.problem)
    return row_id, key, one.action, *standing, *verdict


def _noted(row: Any) -> Noted:
    values = dict(row._mapping)  # noqa: SLF001 (SQLAlchemy's public name for it)
    key = tuple(msgspec.json.decode(values.pop("row_key")))
    del values["importid"]
    return Noted(key=key, **values)
