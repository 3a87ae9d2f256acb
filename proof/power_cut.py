"""Power cuts: what a disk holds after one, from the journal of writes and syncs, and what must be in it.

Kill -9 keeps the page cache, a power cut does not: what was written since a file's last sync may be there,
whole, in part and in any order, or not. Names of files (made, removed, renamed) are taken as durable at once.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
from typing import TYPE_CHECKING

from proof import oracle, shim
from proof.ledger import Ledger
from proof.load import Load, LoadPlan
from proof.topologies import EmbeddedTopology

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from proof.shim import Step

# how long the journal was when the answer came, and the ids that are in the log since
Marks = list[tuple[int, list[str]]]
CUTS = 200  # looked at in the log's file
STARTS = 3  # of them, with a service started on what is left
_PLAN = LoadPlan(workers=3, impatient=0, retract_every=0, conflict_every=0)


class MarkingLedger(Ledger):
    """Also keeps how far the journal was when an answer came: what was accepted by then must survive."""

    def __init__(self, path: Path, journal: Path) -> None:
        super().__init__(path)
        self._journal = journal
        self.marks: Marks = []

    def decided(self, numbers: Iterable[int], outcome: str) -> None:
        """Writes the mark down, too."""
        letter = "e" if outcome == "accepted" else "i"
        numbers = list(numbers)
        self.marks.append((self._journal.stat().st_size, [f"{letter}{number}" for number in numbers]))
        super().decided(numbers, outcome)


def run(
    folder: Path,
    source: random.Random,
    pace: float,
    program: Sequence[str] | None = None,
    starts: int = STARTS,
) -> list[str]:
    """Load on `impact up` over the shim; then many cuts. Raises Red. `program`: one without its guard."""
    recorded = folder / "recorded"
    recorded.mkdir()
    journal = folder / "journal"
    settings = shim.environment(recorded / "data", journal=journal)
    service = EmbeddedTopology(recorded, **settings)
    if program is not None:
        service.door.program = program
    ledger = MarkingLedger(folder / "ledger.db", journal)
    with service:
        begin = journal.stat().st_size
        load = Load(service, ledger, _PLAN, source.randrange(1000))
        load.start()
        time.sleep(max(2.0, 6 * pace))
        load.end()
        service.door.stop(signal.SIGKILL)
    steps = list(shim.read_journal(journal))
    ends = [step.end for step in steps if step.end > begin]
    cuts = [source.choice(ends) for _ in range(max(10, round(CUTS * pace)))]
    checked = sum([_log_holds(folder / "cut", steps, cut, ledger.marks, source) for cut in cuts])
    for cut in cuts[:starts]:
        _starts_again(folder, service, steps, cut, ledger, source)
    ledger.close()
    shutil.rmtree(recorded)
    return [f"{len(cuts)} cuts, {checked:,} acknowledged events looked for, {starts} starts"]


def disk_after(steps: Sequence[Step], cut: int, source: random.Random, folder: Path) -> None:
    """Makes in `folder` what the disk holds after a cut at this place of the journal."""
    before = [step for step in steps if step.end <= cut]
    last_sync: dict[str, int] = {}
    for place, step in enumerate(before):
        if step.what == "S":
            last_sync[step.path] = place
        elif step.what == "R" and step.path in last_sync:
            last_sync[step.new_path] = last_sync.pop(step.path)
    share = source.choice((0.0, 0.5, 1.0))  # of what was not synced: nothing, some of it, everything
    files: dict[str, bytearray] = {}
    names = _final_names(before)
    for place, step in enumerate(before):
        if place <= last_sync.get(names[place], -1):
            _apply(files, step)
        else:
            for part in shim.parts_of(step) if step.what == "W" else (step,):
                if step.what in "DR" or source.random() < share:
                    _apply(files, part)
    for path, body in files.items():
        if not path.endswith("-shm"):  # memory that processes share: gone with the power
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)


def _final_names(steps: Sequence[Step]) -> list[str]:
    """What the file of each step is called in the end."""
    names: list[str] = []
    renamed: dict[str, str] = {}
    for step in reversed(steps):
        if step.what == "R":
            renamed[step.path] = renamed.get(step.new_path, step.new_path)
        names.append(renamed.get(step.path, step.path))
    return names[::-1]


def _apply(files: dict[str, bytearray], step: Step) -> None:
    if step.what == "D":
        files.pop(step.path, None)
    elif step.what == "R":
        files[step.new_path] = files.pop(step.path, bytearray())
    elif step.what == "T":
        file = files.setdefault(step.path, bytearray())
        del file[step.offset :]
        file.extend(bytes(step.offset - len(file)))
    elif step.what == "W":
        file = files.setdefault(step.path, bytearray())
        file.extend(bytes(max(0, step.offset + len(step.body) - len(file))))
        file[step.offset : step.offset + len(step.body)] = step.body


def _log_holds(
    folder: Path,
    steps: Sequence[Step],
    cut: int,
    marks: Marks,
    source: random.Random,
) -> int:
    """Every event that was answered before the cut is in the log. Gives how many. Raises Red (L1)."""
    shutil.rmtree(folder, ignore_errors=True)
    of_log = [step for step in steps if step.path.startswith("events.db")]
    disk_after(of_log, cut, source, folder)
    due = {name for mark, names in marks if mark <= cut for name in names}
    database = sqlite3.connect(folder / "events.db")
    try:
        sound = database.execute("PRAGMA quick_check").fetchone()[0]
        payloads = database.execute("SELECT payload FROM record").fetchall()
    except sqlite3.DatabaseError as error:
        raise oracle.Red(f"L1 after a power cut at {cut} the log cannot be read: {error}") from error
    finally:
        database.close()
    if sound != "ok":
        raise oracle.Red(f"L1 after a power cut at {cut} the log is damaged: {sound}")
    entries = [entry for (payload,) in payloads for entry in json.loads(payload)]
    found = {entry.get("event", entry).get("id") for entry in entries}  # refused ones stand under "event"
    if missing := due - found:
        raise oracle.Red(
            f"L1 after a power cut at {cut} {len(missing)} of {len(due)} answered events are gone,"
            f" such as {sorted(missing)[:3]}"
        )
    return len(due)


def _starts_again(
    folder: Path,
    recorded: EmbeddedTopology,
    steps: Sequence[Step],
    cut: int,
    ledger: MarkingLedger,
    source: random.Random,
) -> None:
    """The service starts on what the disk holds, catches up, and every law holds."""
    again = folder / f"again-{cut}"
    shutil.rmtree(again, ignore_errors=True)
    service = EmbeddedTopology(again)
    disk_after(steps, cut, source, again / "data")
    lost = [name for mark, names in ledger.marks if mark > cut for name in names]
    ledger.rows("CREATE TEMP TABLE IF NOT EXISTS saved AS SELECT number, outcome FROM event")
    for name in lost:  # their answers came after the cut: for this disk they were never given
        ledger.rows("UPDATE event SET outcome = 'unknown' WHERE number = ?", (name[1:],))
    try:
        with service:
            service.key_of = dict(recorded.key_of)
            oracle.check(service, ledger)
    finally:
        ledger.rows(
            "UPDATE event SET outcome = (SELECT s.outcome FROM saved s WHERE s.number = event.number)"
        )
    shutil.rmtree(again)
