"""A partner's file: looked at, approved, taken back. Nothing of a file is kept until it is approved.

What goes out are the ordinary events of an ordinary key. The journal remembers what was sent of each row, so
that a file that comes again changes what is other in it and nothing else.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from impact_reports.partner_store import Busy, Noted, Run
from impact_reports.problems import Problem
from impact_schemas.partner_plan import (
    ChangedRow,
    Elsewhere,
    Known,
    Plan,
    Sender,
    Stamp,
    Step,
    as_content,
    compare,
    differences,
    new_event,
)
from impact_schemas.partner_private import Private, hides_something
from impact_schemas.partner_rows import Key, Row, Rows, Wrong, row_id
from impact_schemas.tables import to_datetime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from impact_reports.partner_door import Door, Verdict
    from impact_reports.partner_store import Form, PartnerStore, Stored
    from impact_schemas.catalog.row_mapping import RowMapping
    from impact_schemas.partner_private import KeptKey
    from impact_schemas.partner_rows import Content

CHUNK = 500  # rows between two notes in the journal
NOTED_WRONG = 200
MAX_NAME = 120
HIDDEN_CELL = "(hidden)"


class Upload(NamedTuple):
    """A file that was read."""

    name: str
    digest: str  # SHA-256
    rows: Rows


@dataclass(frozen=True)
class Outlook:
    """What a file would do."""

    upload: Upload
    replace: bool
    plan: Plan
    new: list[Row]  # without those that the service has from elsewhere
    changed: list[ChangedRow]
    wrong: list[Wrong]
    journal: _Journal
    elsewhere: dict[Key, Elsewhere]
    resumed: Run | None

    @property
    def sends(self) -> bool:
        """Whether there is anything to approve."""
        return bool(self.new or self.changed or (self.replace and self.plan.missing)) and not self.forbidden

    @property
    def forbidden(self) -> bool:
        """A wrong row could be one that seems to be missing."""
        return self.replace and bool(self.wrong)

    def seal(self) -> str:
        """The same as long as the file would do the same."""
        said = [
            self.upload.digest,
            str(self.replace),
            *(repr(row.key) for row in self.new),
            *(repr((one.key, one.fields)) for one in self.changed),
            *map(repr, self.plan.missing),
            *map(repr, self.wrong),
        ]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()


class _Journal(NamedTuple):
    """What was sent before, by whole keys as far as the file has them, and the rows' ids."""

    known: dict[Key, Known]
    ids: dict[Key, str]


class Approval(NamedTuple):
    """Who approves: the key goes to the door and nowhere else."""

    key: str
    key_id: str


class PartnerFiles:
    """What may be done with partners' files.

    `clock` gives microseconds since 1970; `secret` is the key of the journal's hashes.
    """

    def __init__(self, store: PartnerStore, door: Door, clock: Callable[[], int], secret: bytes) -> None:
        self.store = store
        self._door = door
        self._clock = clock
        self._secret = secret

    async def look(self, form: Form, upload: Upload, key: str, *, replace: bool) -> Outlook:
        """Compares the file with what was sent, and has the door judge it. Raises DoorUnavailable."""
        mapping, private = form.described.row_mapping(), self._private(form)
        resumed = await self.store.interrupted(form.product, form.name, upload.digest)
        journal = await self._journal(form, mapping, upload.rows, resumed)
        known = journal.known
        judged = await self._judged(mapping, private, upload.rows.right, known, key)
        wrong = sorted((*upload.rows.wrong, *judged), key=lambda one: one.line)
        bad = {one.line for one in wrong}
        right = [row for row in upload.rows.right if row.line not in bad]
        untold = [row.key for row in upload.rows.right if row.line in bad]
        plan = compare(right, known, mapping, untold, private.written)
        unknown = [row.key for row in plan.new if row.key not in known]
        elsewhere = await self._door.find(key, mapping.source, unknown) if unknown else {}
        there = {one for one, found in elsewhere.items() if found.counted}
        changed = [*plan.changed, *(row for row in plan.new if row.key in there)]
        return Outlook(
            upload=upload,
            replace=replace,
            plan=plan,
            new=[row for row in plan.new if row.key not in there],
            changed=[_change(row, known.get(row.key), private) for row in changed],
            wrong=wrong,
            journal=journal,
            elsewhere=elsewhere,
            resumed=resumed,
        )

    async def approve(self, form: Form, outlook: Outlook, seal: str, approval: Approval) -> str:
        """Sends what the file changes; the id of the import. Raises Problem 409, DoorUnavailable.

        `seal` is that of the outlook that was looked at.
        """
        if outlook.seal() != seal or not outlook.sends:
            raise _conflict("What the file would do has changed since you looked: look again, then approve.")
        mapping, private = form.described.row_mapping(), self._private(form)
        run = outlook.resumed or await self._run(form, mapping, "send", outlook.upload.name, approval)
        run = msgspec.structs.replace(
            run,
            digest=outlook.upload.digest,
            state="running",
            seen_at=self._clock(),
            unchanged=outlook.plan.unchanged,
            missing=len(outlook.plan.missing),
            wrong=[(one.line, one.column) for one in outlook.wrong[:NOTED_WRONG]],
        )
        stamp = Stamp(run.importid, run.stamp_time, f"changed by {run.file}")
        sender = Sender(mapping.source, stamp, private.written)
        plan = outlook.plan
        wanted: dict[Key, Content | None] = {row.key: row.content for row in (*plan.new, *plan.changed)}
        if outlook.replace:
            wanted |= dict.fromkeys(plan.missing)
        steps = []
        for key, after in wanted.items():
            before = outlook.journal.known.get(key)
            step = sender.step(key, before, after, outlook.elsewhere.get(key))
            steps.append((step, _noted(step, before, private.kept(key), outlook.journal.ids.get(key))))
        await self._send(run, steps, approval.key)
        return run.importid

    async def undo(self, form: Form, undone: Run, approval: Approval) -> str:
        """Makes the rows of an import what they were before; the id of the undo. Raises Problem 409."""
        store = self.store
        begun = await store.undo_of(undone.product, undone.importid)
        if begun is not None and begun.state != "interrupted":
            raise _conflict(f"This import was taken back before, by {begun.importid}.")
        if undone.state != "done":
            raise _conflict("This import did not come to its end: upload the same file again, then undo it.")
        rows = await store.rows(undone.product, undone.source)
        noted = [one for one in await store.steps(undone.importid, "accepted") if one.row_id in rows]
        if begun is not None:
            noted = [one for one in noted if rows[one.row_id].known.importid != begun.importid]
        now = [(rows[one.row_id].known, one.after) for one in noted]
        later = {known.importid for known, after in now if known.content != after}
        if later:
            raise _conflict(
                f"Rows of this import were changed since by {', '.join(sorted(later))}: undo that first, or "
                "send a corrected file."
            )
        mapping = form.described.row_mapping()
        run = begun or await self._run(form, mapping, "undo", undone.importid, approval)
        run = msgspec.structs.replace(run, state="running", seen_at=self._clock())
        sender = Sender(
            undone.source, Stamp(run.importid, run.stamp_time, f"import {undone.importid} was taken back")
        )
        steps = [_back(sender, one, rows[one.row_id]) for one in noted if can_go_back(one)]
        run = msgspec.structs.replace(run, missing=len(noted) - len(steps))
        await self._send(run, steps, approval.key)
        return run.importid

    def _private(self, form: Form) -> Private:
        hashed = frozenset(form.described.pseudonymous)
        return Private(self._secret, form.described.row_mapping(), hashed)

    async def _journal(self, form: Form, mapping: RowMapping, rows: Rows, resumed: Run | None) -> _Journal:
        stored = await self.store.rows(form.product, mapping.source)
        # what nobody is sure of is asked for at the door, like what was sent from elsewhere
        own = None if resumed is None else resumed.importid
        for name in await self.store.in_doubt(form.product, mapping.source, but=own):
            stored.pop(name, None)
        in_file = {row_id(mapping.source, row.key, 0): row.key for row in rows.right}
        ids = {in_file.get(name) or _shown_key(name, one.key): name for name, one in stored.items()}
        return _Journal({key: stored[name].known for key, name in ids.items()}, ids)

    async def _judged(
        self,
        mapping: RowMapping,
        private: Private,
        rows: Sequence[Row],
        known: Mapping[Key, Known],
        key: str,
    ) -> list[Wrong]:
        """What the door finds wrong with rows that are new or changed."""
        asked = [
            row
            for row in rows
            if row.key not in known or known[row.key].content != private.written(row.content)
        ]
        wrong = []
        for start in range(0, len(asked), CHUNK):
            chunk = asked[start : start + CHUNK]
            events = [new_event(mapping.source, row.key, 0, row.content, "dry") for row in chunk]
            wrong += [
                Wrong(chunk[one.number].line, mapping.column_at(one.pointer), said(one))
                for one in await self._door.judge(key, events)
            ]
        return wrong

    async def _run(self, form: Form, mapping: RowMapping, kind: str, file: str, approval: Approval) -> Run:
        now = self._clock()
        # later than all before it, also where a clock is behind: the latest correction holds
        moment = max(to_datetime(now), await self.store.last_stamp(form.product) + timedelta(microseconds=1))
        return Run(
            importid=f"{moment:%Y%m%dt%H%M%S}-{secrets.token_hex(3)}",
            product=form.product,
            form=form.name,
            source=mapping.source,
            kind="send" if kind == "send" else "undo",
            file=file,
            digest="",
            key_id=approval.key_id,
            stamp_time=moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            state="running",
            started_at=now,
            seen_at=now,
        )

    async def _send(self, run: Run, steps: Sequence[tuple[Step, Noted]], key: str) -> None:
        """A chunk at a time: noted, sent, settled. What was sent is noted, whatever happens."""
        try:
            await self.store.begin(run)
        except Busy as error:
            raise _conflict(
                "Another import of these rows is running: wait for its end, then look again."
            ) from error
        try:
            for start in range(0, len(steps), CHUNK):
                await self._send_chunk(run, steps[start : start + CHUNK], key)
        except BaseException:
            await self._interrupted(run)
            raise
        await self.store.end(run.importid, "done")

    async def _send_chunk(self, run: Run, steps: Sequence[tuple[Step, Noted]], key: str) -> None:
        await self.store.note(run.importid, [noted for _, noted in steps])
        owners = [number for number, (step, _) in enumerate(steps) for _ in step.events]
        verdicts = await self._door.send(key, [event for step, _ in steps for event in step.events])
        problems = {owners[one.number]: said(one) for one in verdicts}
        settled = [
            noted._replace(
                state="rejected" if number in problems else "accepted", problem=problems.get(number)
            )
            for number, (_, noted) in enumerate(steps)
        ]
        await self.store.settle(run, settled)

    async def _interrupted(self, run: Run) -> None:
        with suppress(SQLAlchemyError, OSError):  # else it is found to be silent later
            await self.store.end(run.importid, "interrupted")


def _shown_key(name: str, key: KeptKey) -> Key:
    """Different rows have different keys, also where the cells that tell them apart are not kept."""
    hidden = f"{HIDDEN_CELL} {name[4:10]}"
    return tuple(hidden if cell is None else cell for cell in key)


def can_go_back(step: Noted) -> bool:
    """Whether the journal knows enough to make a row what it was: it keeps nothing personal."""
    if not step.before_known:
        return False
    if step.before is None:  # it was new: its event is taken back
        return True
    before, after = as_content(step.before), as_content(step.after) if step.after else None
    stands = after is not None and (before.time, before.subject) == (after.time, after.subject)
    if stands:  # a correction leaves the subject as it is
        return not hides_something(msgspec.structs.replace(before, subject=None))
    return not hides_something(before) and None not in step.key


def _back(sender: Sender, step: Noted, stored: Stored) -> tuple[Step, Noted]:
    key = tuple(HIDDEN_CELL if cell is None else cell for cell in step.key)
    made = sender.step(key, stored.known, None if step.before is None else as_content(step.before))
    return made, _noted(made, stored.known, step.key, step.row_id)


def _noted(step: Step, before: Known | None, kept: KeptKey, name: str | None = None) -> Noted:
    same = before is not None and before.generation == step.generation and before.event_id is not None
    return Noted(
        row_id=name or row_id(step.source, step.key, 0),
        key=kept,
        action=step.action,
        generation=step.generation,
        event_id=(before.event_id if same and before else None)
        or row_id(step.source, step.key, step.generation),
        before=step.before,
        after=step.after,
        before_known=step.before_known,
    )


def _change(row: Row, before: Known | None, private: Private) -> ChangedRow:
    return differences(row.key, None if before is None else before.content, private.written(row.content))


def said(one: Verdict) -> str:
    """A verdict in words."""
    return f"{one.code}: {one.detail}".rstrip(": ")


def _conflict(detail: str) -> Problem:
    return Problem(409, "conflict", detail)
