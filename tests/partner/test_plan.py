"""Whatever is sent, interrupted and taken back: the service counts what the file that came last says."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from impact_cli import partner_journal
from impact_schemas.catalog.row_mapping import RowMapping
from impact_schemas.partner_plan import Known, Sender, Stamp, as_content, as_text, compare
from impact_schemas.partner_rows import Content, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from impact_cli.partner_journal import Journal
    from impact_schemas.partner_plan import Step
    from impact_schemas.partner_rows import Key

SERVER, SOURCE = "http://service", "/water/north"
MAPPING = RowMapping.model_validate({"source": SOURCE, "type": "t", "key": ["k"], "data": {"k": "k"}})

Rows = dict[str, tuple[int, int]]  # key -> value, day


class World:
    """A service that follows the contract, in memory."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.retracted: set[str] = set()
        self.corrections: dict[str, tuple[str, str, Any]] = {}

    def take(self, texts: Iterable[bytes]) -> None:
        for event in map(json.loads, texts):
            data = event["data"]
            if event["type"] == "impact.retraction.v1":
                self.retracted.add(data["id"])
            elif event["type"] == "impact.correction.v1":
                said = (event["time"], event["id"], data["data"])
                self.corrections[data["id"]] = max(self.corrections.get(data["id"], ("", "", None)), said)
            else:
                first = self.events.setdefault(event["id"], event)
                assert first == event | {"importid": first["importid"]}, "an id_conflict"

    def counted(self) -> list[tuple[str, int, str]]:
        found = []
        for event_id, event in self.events.items():
            if event_id not in self.retracted:
                data = self.corrections.get(event_id, ("", "", event["data"]))[2]
                found.append((data["k"], data["v"], event["time"]))
        return sorted(found)


class Partner:
    def __init__(self, journal: Journal, world: World) -> None:
        self.journal = journal
        self.world = world
        self.number = 0

    def stamp(self) -> Stamp:
        self.number += 1
        return Stamp(f"import{self.number:04}", f"2026-01-01T00:00:{self.number:02}Z", "r")

    def send(self, rows: Rows, *, replace: bool, lost: int) -> None:
        known = self.journal.rows(SERVER, SOURCE)
        read = [Row(2, (key,), content(key, *said)) for key, said in rows.items()]
        plan = compare(read, known, MAPPING, ())
        assert not compare(read, _after(known, read), MAPPING, ()).changed
        wanted: dict[Key, Content | None] = {row.key: row.content for row in (*plan.new, *plan.changed)}
        if replace:
            wanted |= dict.fromkeys(plan.missing)
        stamp = self.stamp()
        steps = [Sender(SOURCE, stamp).step(key, known.get(key), after) for key, after in wanted.items()]
        self.write(stamp, steps, lost)

    def undo(self, importid: str, lost: int) -> None:
        known = self.journal.rows(SERVER, SOURCE)
        stamp = self.stamp()
        steps = [
            Sender(SOURCE, stamp).step(
                step.key, known[step.key], None if step.before is None else as_content(step.before)
            )
            for step in self.journal.accepted_steps(importid)
        ]
        self.write(stamp, steps, lost)

    def write(self, stamp: Stamp, steps: Sequence[Step], lost: int) -> None:
        """The last `lost` events are not sent before an interruption; all are sent after it."""
        self.journal.begin(stamp.importid, SERVER, "send", "file", stamp.time, steps)
        events = [event for step in steps for event in step.events]
        self.world.take(events[: max(0, len(events) - lost)])
        for importid, waiting in self.journal.waiting(SERVER).items():
            self.world.take(event for step in waiting for event in step.events)
            self.journal.settle(SERVER, importid, waiting, {})


def content(key: str, value: int, day: int) -> Content:
    return Content("t", {"k": key, "v": value}, f"2026-01-0{day}T00:00:00Z")


def _after(known: dict[Key, Known], rows: Sequence[Row]) -> dict[Key, Known]:
    return {**known, **{row.key: Known(0, as_text(row.content), "x") for row in rows}}


_files = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.tuples(st.integers(1, 3), st.integers(1, 2)), min_size=1
)
_steps = st.tuples(st.sampled_from(["send", "replace", "undo"]), _files, st.integers(0, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(_steps, min_size=1, max_size=7))
def test_the_service_counts_what_the_files_say(steps: list[tuple[str, Rows, int]]) -> None:
    states: list[Rows] = [{}]  # as it should be after each import
    last_undone = True
    with tempfile.TemporaryDirectory() as folder, partner_journal.opened(Path(folder) / "j.db") as journal:
        sender = Partner(journal, World())
        for what, rows, lost in steps:
            if what == "undo":
                if last_undone:
                    continue
                sender.undo(f"import{sender.number:04}", lost)
                states.append(states[-2])
            else:
                sender.send(rows, replace=what == "replace", lost=lost)
                states.append(rows if what == "replace" else {**states[-1], **rows})
            last_undone = what == "undo"
            expected = sorted(
                (key, value, f"2026-01-0{day}T00:00:00Z") for key, (value, day) in states[-1].items()
            )
            assert sender.world.counted() == expected
