"""`impact send --csv` and `impact import`: a partner's file into events, changes into corrections.

The journal beside the mapping says what was sent before. Rows that it does not know are looked up at the
service, so that a second sender with a journal of their own corrects what the first one sent instead of
sending it as new.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from rich.markup import escape
from rich.table import Table

from impact_cli import partner_door, partner_journal
from impact_cli.send import SendError, send
from impact_cli.terminal import Refused, WrongUse
from impact_schemas.partner_plan import (
    ChangedRow,
    Elsewhere,
    Sender,
    Stamp,
    as_content,
    as_text,
    compare,
    differences,
    new_event,
)
from impact_schemas.partner_rows import Wrong, WrongFile, read_csv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from impact_cli.partner_journal import Import, Journal, Kind
    from impact_cli.send import Rejection, Target
    from impact_schemas.catalog.row_mapping import RowMapping
    from impact_schemas.partner_plan import Known, Step
    from impact_schemas.partner_rows import Content, Key, Row, Rows

CHUNK_STEPS = 500  # between two notes in the journal; `send` keeps all rejections of so many
SHOWN = 20


class Report(msgspec.Struct, frozen=True):
    """What a file does, or in a dry run would do."""

    dry_run: bool
    checked: bool  # whether the service judged the rows too
    importid: str | None
    resumed: int  # events of interrupted imports that were sent first
    new: list[list[str]]
    changed: list[ChangedRow]
    unchanged: int
    missing: list[list[str]]
    retracted: int
    wrong: list[Wrong]
    rejected: list[str]

    @property
    def refused(self) -> bool:
        """Whether anything in the file was not taken."""
        return bool(self.wrong or self.rejected)


class Options(NamedTuple):
    """How a file is sent."""

    dry_run: bool
    replace: bool
    strict: bool


class Undone(msgspec.Struct, frozen=True):
    """What was sent to take an import back. `left`: rows that were first sent from elsewhere."""

    importid: str
    undone: str
    rows: int
    left: list[list[str]]
    rejected: list[str]


# --- what the commands do -------------------------------------------------------------------------------


def journal_file(mapping: Path, state: Path | None) -> Path:
    """Beside the mapping, so that everybody who sends from that folder shares it."""
    return (state or mapping.parent) / f"{mapping.stem}.journal.db"


def run(
    file: Path, mapping: RowMapping, journal: Path, url: str, target: Target | None, options: Options
) -> Report:
    """Sends what the file changes. Without a target only a dry run, and the service at `url` is not asked.

    Raises WrongUse for the file as a whole, and Refused; what was sent until then is noted, and the same
    command goes on from there.
    """
    try:
        rows = read_csv(file.read_bytes(), mapping)
    except OSError as error:
        raise WrongUse(f"cannot read {file}: {error.strerror}") from error
    except WrongFile as error:
        raise WrongUse(str(error)) from error
    with partner_journal.opened(journal) as opened, _told():
        return asyncio.run(_Sending(opened, mapping, _server(url), target).file(file.name, rows, options))


def undo(importid: str, journal: Path, target: Target) -> Undone:
    """Takes back what an import did: new rows are retracted, changed and missing ones are as before.

    Raises Refused if a later import changed the same rows.
    """
    with partner_journal.opened(journal) as opened, _told():
        return asyncio.run(_Outbox(opened, target).undo(importid))


def imports(journal: Path) -> list[Import]:
    """All imports that the journal knows, the oldest first."""
    if not journal.exists():
        raise Refused(f"nothing was sent from here: there is no import journal {journal}")
    with partner_journal.opened(journal) as opened:
        return opened.imports()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except SendError as error:
        raise Refused(f"{error}\nWhat was sent is noted: the same command goes on from there") from error


def _server(url: str) -> str:
    return url.rstrip("/")


def _stamp(journal: Journal, reason: str) -> Stamp:
    """Later than everything in the journal, also where a clock is behind: the latest correction holds."""
    now = max(datetime.now(UTC), journal.last_time() + timedelta(microseconds=1))
    # sortable, and told apart where two people send in the same second
    importid = f"{now:%Y%m%dt%H%M%S}-{secrets.token_hex(3)}"
    return Stamp(importid, now.isoformat(timespec="microseconds").replace("+00:00", "Z"), reason)


class _Outbox:
    """Sends what is written down in the journal."""

    def __init__(self, journal: Journal, target: Target) -> None:
        self._journal = journal
        self._target = target
        self._server = _server(target.url)

    async def resume(self) -> int:
        """Sends what is written down and has no verdict yet. The number of events."""
        sent = 0
        for importid, steps in self._journal.waiting(self._server).items():
            for start in range(0, len(steps), CHUNK_STEPS):
                sent += await self._deliver(importid, steps[start : start + CHUNK_STEPS])
        return sent

    async def _deliver(self, importid: str, steps: Sequence[Step]) -> int:
        owners = [step for step in steps for _ in step.events]
        summary = await send([event for step in steps for event in step.events], self._target)
        problems = {
            owners[one.index].number: f"{' '.join(owners[one.index].key)}: {_said(one)}"
            for one in summary.rejections
        }
        self._journal.settle(self._server, importid, steps, problems)
        return len(owners)

    async def write(self, kind: Kind, file: str, stamp: Stamp, steps: Sequence[Step]) -> list[str]:
        """Writes an import down, then sends it. What of it was rejected."""
        self._journal.begin(stamp.importid, self._server, kind, file, stamp.time, steps)
        await self.resume()
        return self._journal.problems(stamp.importid)

    async def undo(self, importid: str) -> Undone:
        """See `undo`."""
        await self.resume()
        self._check_undo(importid)
        steps = self._journal.accepted_steps(importid)
        rows = {
            source: self._journal.rows(self._server, source) for source in {step.source for step in steps}
        }
        now = [(rows[step.source][step.key], step.after) for step in steps]
        later = {known.importid for known, after in now if known.content != after}
        if later:
            raise Refused(
                f"rows of {importid} were changed since by {', '.join(sorted(later))}: "
                "undo that first, or send a corrected file"
            )
        stamp = _stamp(self._journal, f"import {importid} was taken back")
        back = [
            Sender(step.source, stamp).step(
                step.key,
                rows[step.source][step.key],
                None if step.before is None else as_content(step.before),
            )
            for step in steps
            if step.before_known
        ]
        left = [list(step.key) for step in steps if not step.before_known]
        rejected = await self.write("undo", importid, stamp, back)
        return Undone(stamp.importid, importid, len(back), left, rejected)

    def _check_undo(self, importid: str) -> None:
        known = {one.importid: one for one in self._journal.imports()}
        if importid not in known:
            raise Refused(f"there is no import {importid}: impact import list shows them")
        if known[importid].server != self._server:
            raise Refused(f"{importid} was sent to {known[importid].server}: give that with --url")
        for one in known.values():
            if (one.kind, one.file, one.server) == ("undo", importid, self._server):
                raise Refused(f"{importid} was taken back before, by {one.importid}")


class _Sending:
    """One file on its way to one service; without a target only looked at."""

    def __init__(self, journal: Journal, mapping: RowMapping, server: str, target: Target | None) -> None:
        self._journal = journal
        self._server = server
        self._mapping = mapping
        self._target = target
        self._outbox = None if target is None else _Outbox(journal, target)

    async def file(self, name: str, rows: Rows, options: Options) -> Report:
        """Compares the file with what was sent, has the service judge it, and sends it."""
        resumed = 0 if options.dry_run or self._outbox is None else await self._outbox.resume()
        known = self._journal.rows(self._server, self._mapping.source)
        faults = sorted((*rows.wrong, *await self._judged(rows.right, known)), key=lambda fault: fault.line)
        bad = {fault.line for fault in faults}
        good = [row for row in rows.right if row.line not in bad]
        untold = [row.key for row in rows.right if row.line in bad]
        plan = compare(good, known, self._mapping, untold)
        elsewhere = await self._elsewhere([row for row in plan.new if row.key not in known])
        changed = [*plan.changed, *(row for row in plan.new if _is_counted(elsewhere, row))]
        report = Report(
            dry_run=options.dry_run,
            checked=self._target is not None,
            importid=None,
            resumed=resumed,
            new=[list(row.key) for row in plan.new if not _is_counted(elsewhere, row)],
            changed=[_differences(row, known.get(row.key)) for row in changed],
            unchanged=plan.unchanged,
            missing=[list(key) for key in plan.missing],
            retracted=len(plan.missing) if options.replace else 0,
            wrong=faults,
            rejected=[],
        )
        if options.dry_run or not _may_send(report, options):
            return report
        sender = Sender(self._mapping.source, _stamp(self._journal, f"changed by {name}"))
        wanted: dict[Key, Content | None] = {row.key: row.content for row in (*plan.new, *plan.changed)}
        if options.replace:
            wanted |= dict.fromkeys(plan.missing)
        steps = [sender.step(key, known.get(key), after, elsewhere.get(key)) for key, after in wanted.items()]
        rejected = await self._reached().write("send", name, sender.stamp, steps)
        return msgspec.structs.replace(report, importid=sender.stamp.importid, rejected=rejected)

    def _reached(self) -> _Outbox:
        if self._outbox is None:
            raise WrongUse("no key: give one with --key or IMPACT_KEY, or a keys file with --keys-file")
        return self._outbox

    async def _judged(self, rows: Sequence[Row], known: Mapping[Key, Known]) -> list[Wrong]:
        """What the service finds wrong with rows that are new or changed, in a dry run as new events."""
        if self._target is None:
            return []
        asked = [
            row for row in rows if row.key not in known or known[row.key].content != as_text(row.content)
        ]
        wrong = []
        for start in range(0, len(asked), CHUNK_STEPS):
            chunk = asked[start : start + CHUNK_STEPS]
            source = self._mapping.source
            events = [new_event(source, row.key, 0, row.content, "dry") for row in chunk]
            for one in await partner_door.judge(self._target, events):
                column = self._mapping.column_at(one.pointer)
                wrong.append(Wrong(chunk[one.index].line, column, _said(one)))
        return wrong

    async def _elsewhere(self, rows: Sequence[Row]) -> dict[Key, Elsewhere]:
        """Which of these rows the service has, though the journal does not know them."""
        if self._target is None or not rows:
            return {}
        return await partner_door.find(self._target, self._mapping.source, [row.key for row in rows])


def _is_counted(elsewhere: Mapping[Key, Elsewhere], row: Row) -> bool:
    return row.key in elsewhere and elsewhere[row.key].counted


def _may_send(report: Report, options: Options) -> bool:
    """False if there is nothing to send. Raises Refused where wrong rows forbid all of it."""
    if report.wrong and (options.strict or options.replace):
        why = "--strict" if options.strict else "--replace: a wrong row could be one that seems to be missing"
        first = report.wrong[0]
        raise Refused(
            f"nothing was sent: {len(report.wrong)} faults and {why}\nline {first.line}, "
            f"{first.column or 'the row'}: {first.reason}; --dry-run lists them all"
        )
    return bool(report.new or report.changed or report.retracted)


def _said(one: Rejection) -> str:
    return f"{one.code}: {one.detail or ''}".rstrip(": ")


def _differences(row: Row, before: Known | None) -> ChangedRow:
    return differences(row.key, None if before is None else before.content, as_text(row.content))


# --- what is printed ------------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    """The counts, then what is changed, missing and wrong."""
    if report.resumed:
        console.print(f"{report.resumed:,} events of an import that was interrupted were sent first")
    would = "would be " if report.dry_run else ""
    console.print(
        f"{len(report.new):,} {would}new, {len(report.changed):,} {would}changed, "
        f"{report.unchanged:,} unchanged, {len(report.missing):,} missing"
        + (f" ({would}taken back)" if report.retracted else " (left as they are)" if report.missing else "")
        + (f"; import {report.importid}" if report.importid else "")
    )
    if not report.checked:
        console.print("no key was given: the service was not asked what it says, nor what it has")
    if report.dry_run:
        _table(console, ("new",), [(" ".join(key),) for key in report.new], len(report.new))
    _table(console, ("changed", "column", "before", "after"), _changes(report.changed), len(report.changed))
    _table(console, ("missing",), [(" ".join(key),) for key in report.missing], len(report.missing))
    wrong = [(str(one.line), one.column or "", one.reason) for one in report.wrong]
    _table(console, ("line", "column", "what is wrong"), wrong, len(wrong))
    for problem in report.rejected[:SHOWN]:
        console.print(f"rejected: {problem}", markup=False)


def _changes(changed: Sequence[ChangedRow]) -> list[tuple[str, ...]]:
    return [
        (" ".join(row.key), name, _shown(before), _shown(after))
        for row in changed
        for name, (before, after) in row.fields.items()
    ]


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _table(console: Console, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], count: int) -> None:
    if not rows:
        return
    table = Table(*columns)
    for row in rows[:SHOWN]:
        table.add_row(*map(escape, row))
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"The first {SHOWN} of {count:,}; --json gives all.")


def show_imports(found: Sequence[Import], console: Console) -> None:
    """One line an import."""
    table = Table(
        "import", "started (UTC)", "what", "new", "changed", "taken back", "rejected", "to", "state"
    )
    for one in found:
        state = f"interrupted, {one.waiting:,} rows wait" if one.waiting else "done"
        what = one.file if one.kind == "send" else f"undo of {one.file}"
        counts = (one.new, one.changed, one.retracted, one.rejected)
        cells = (one.importid, one.started_at[:19], what, *map(str, counts), one.server, state)
        table.add_row(*map(escape, cells))
    console.print(table)


def show_undone(undone: Undone, console: Console) -> None:
    """What was taken back, and what could not be."""
    console.print(
        f"{undone.rows:,} rows of {undone.undone} are as they were before; import {undone.importid}"
    )
    if undone.left:
        console.print(
            f"{len(undone.left):,} rows were first sent from elsewhere: what they said before is not known "
            "here, and they are left as they are"
        )
    for problem in undone.rejected[:SHOWN]:
        console.print(f"rejected: {problem}", markup=False)
