"""What the pages for partners' files say: pure, from an outlook or the journal to words and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from impact_schemas import wording
from impact_schemas.partner_private import HIDDEN
from impact_schemas.tables import to_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from impact_reports.partner_files import Outlook
    from impact_reports.partner_store import Noted, Run
    from impact_schemas.catalog.row_mapping import RowMapping
    from impact_schemas.partner_plan import ChangedRow
    from impact_schemas.partner_rows import Wrong

SHOWN = 200  # rows of a kind; a page stays below a megabyte
NOT_KEPT = "hidden"
EMPTY = "empty"

STATES = {
    "done": ("met", "done"),
    "running": ("no_data", "being sent"),
    "interrupted": ("warning", "interrupted"),
}
ACTIONS = {"new": "new", "changed": "changed", "retracted": "taken back"}


class Cell(NamedTuple):
    """A cell of the file, and what is wrong with it."""

    text: str
    reasons: list[str]


class WrongLine(NamedTuple):
    """A line of the file that is not taken."""

    line: int
    cells: list[Cell]
    reasons: list[str]  # of the line as a whole


class ChangedLine(NamedTuple):
    """A row that is other than it was sent."""

    key: str
    fields: list[tuple[str, str, str]]  # column, before, after


@dataclass(frozen=True)
class Preview:
    """What a file would do."""

    name: str
    fingerprint: str
    counts: list[tuple[str, int, str]]  # class, count, words
    key_head: list[str]
    new: list[list[str]]
    new_head: list[str]
    changed: list[ChangedLine]
    missing: list[str]
    wrong: list[WrongLine]
    wrong_head: list[str]
    replace: bool
    sends: int
    resumed: str | None
    why_not: str
    left_out: Mapping[str, int]  # list -> rows beyond those that are shown


@dataclass(frozen=True)
class RunLine:
    """One import in the list."""

    importid: str
    what: str
    when: str
    counts: str
    state: tuple[str, str]
    key_id: str


@dataclass(frozen=True)
class Receipt:
    """What an import did."""

    run: RunLine
    kind: str
    facts: list[tuple[str, str]]
    rejected: list[tuple[str, str, str]]  # row, what was asked, why not
    wrong: list[str]
    undoes: int  # rows that an undo would put back
    stuck: int  # rows that it could not
    undone_by: str | None


def preview(outlook: Outlook, mapping: RowMapping, lines: Mapping[int, Sequence[str]]) -> Preview:
    """`lines`: the cells of each line of the file; the least number is the header's."""
    plan = outlook.plan
    header = list(lines[min(lines)]) if lines else []
    columns = [name for name in (cell.strip() for cell in header) if name in mapping.columns()]
    places = [place for place, cell in enumerate(header) if cell.strip() in columns]
    wrong = _by_line(outlook.wrong)
    sends = len(outlook.new) + len(outlook.changed) + (len(plan.missing) if outlook.replace else 0)
    counts = _counts(outlook, len(wrong))
    return Preview(
        name=outlook.upload.name,
        fingerprint=fingerprint(outlook.upload.digest),
        counts=counts,
        key_head=list(mapping.key),
        new=[[lines[row.line][place].strip() for place in places] for row in outlook.new[:SHOWN]],
        new_head=columns,
        changed=[_changed(one, mapping) for one in outlook.changed[:SHOWN]],
        missing=[", ".join(key) for key in plan.missing[:SHOWN]],
        wrong=[_wrong(line, found, header, places, lines) for line, found in list(wrong.items())[:SHOWN]],
        wrong_head=columns,
        replace=outlook.replace,
        sends=sends if outlook.sends else 0,
        resumed=None if outlook.resumed is None else outlook.resumed.importid,
        why_not=_why_not(outlook),
        left_out={name: max(0, count - SHOWN) for name, count, _ in counts},
    )


def fingerprint(digest: str) -> str:
    """Enough of a file's hash to compare it by eye."""
    return " ".join(digest[start : start + 4] for start in range(0, 16, 4))


def _counts(outlook: Outlook, wrong: int) -> list[tuple[str, int, str]]:
    missing = "missing, and taken back" if outlook.replace else "missing, and left as they are"
    return [
        ("new", len(outlook.new), "new"),
        ("changed", len(outlook.changed), "changed"),
        ("unchanged", outlook.plan.unchanged, "unchanged"),
        ("missing", len(outlook.plan.missing), missing),
        ("wrong", wrong, "wrong, and not sent"),
    ]


def _why_not(outlook: Outlook) -> str:
    if outlook.forbidden:
        return (
            "A file that takes rows back must have no wrong row, for that could be one that seems to be "
            "missing. Correct the rows below, or upload it again without taking rows back."
        )
    if outlook.sends:
        return ""
    if outlook.wrong:
        return "No row can be sent as it is: correct the rows below and upload the file again."
    return "The service has every row of this file already, as it is here."


def _by_line(wrong: Sequence[Wrong]) -> dict[int, list[Wrong]]:
    found: dict[int, list[Wrong]] = {}
    for one in wrong:
        found.setdefault(one.line, []).append(one)
    return found


def _wrong(
    line: int,
    found: Sequence[Wrong],
    header: Sequence[str],
    places: Sequence[int],
    lines: Mapping[int, Sequence[str]],
) -> WrongLine:
    cells = []
    for place in places:
        name = header[place].strip()
        text = lines[line][place] if place < len(lines[line]) else ""
        cells.append(Cell(text.strip(), [one.reason for one in found if one.column == name]))
    named = {header[place].strip() for place in places}
    return WrongLine(line, cells, [one.reason for one in found if one.column not in named])


def _changed(one: ChangedRow, mapping: RowMapping) -> ChangedLine:
    fields = [
        (_column(name, mapping), shown(before), shown(after)) for name, (before, after) in one.fields.items()
    ]
    return ChangedLine(", ".join(one.key), fields)


def _column(name: str, mapping: RowMapping) -> str:
    """The column that a part of an event comes from."""
    return mapping.column_at("/" + name.replace(".", "/")) or name.removeprefix("data.")


def shown(value: Any) -> str:
    """A value of an event, as a cell would have it."""
    if value is None:
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith(HIDDEN):
        return NOT_KEPT
    return str(value)


def run_line(run: Run) -> RunLine:
    """One line of the list."""
    counted = [
        f"{run.counts[name]:,} {words}"
        for name, words in {**ACTIONS, "rejected": "rejected", "waiting": "without an answer"}.items()
        if run.counts.get(name)
    ]
    return RunLine(
        importid=run.importid,
        what=run.file if run.kind == "send" else f"undo of {run.file}",
        when=wording.minute(to_datetime(run.started_at)),
        counts=", ".join(counted) or "nothing",
        state=STATES[run.state],
        key_id=run.key_id,
    )


def receipt(
    run: Run, rejected: Sequence[Noted], can_go_back: Sequence[bool], undone_by: str | None
) -> Receipt:
    """`can_go_back`: of each accepted row."""
    facts = [
        (words, f"{run.counts[name]:,} rows")
        for name, words in (
            ("new", "New"),
            ("changed", "Changed"),
            ("retracted", "Taken back"),
            ("rejected", "Rejected"),
            ("waiting", "Without an answer"),
        )
        if run.counts.get(name)
    ]
    if run.kind == "send":
        facts.append(("Unchanged", f"{run.unchanged:,} rows"))
    if run.missing:
        words = "Missing from the file" if run.kind == "send" else "Left as they are"
        facts.append((words, f"{run.missing:,} rows"))
    facts += [("Approved with the key", run.key_id), ("Begun", wording.minute(to_datetime(run.started_at)))]
    if run.digest:
        facts.append(("Fingerprint of the file", fingerprint(run.digest)))
    return Receipt(
        run=run_line(run),
        kind=run.kind,
        facts=facts,
        rejected=[_rejected(one) for one in rejected[:SHOWN]],
        wrong=[f"line {line}, {column}" if column else f"line {line}" for line, column in run.wrong],
        undoes=sum(can_go_back),
        stuck=len(can_go_back) - sum(can_go_back),
        undone_by=undone_by,
    )


def _rejected(one: Noted) -> tuple[str, str, str]:
    key = ", ".join(NOT_KEPT if cell is None else cell for cell in one.key)
    return key, ACTIONS[one.action], one.problem or ""
