"""Results: a table for the terminal, JSON beside it, and the matrix of docs/reliability.md."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from proof.faults import FAULTS

if TYPE_CHECKING:
    from proof.blind_rounds import Seen
    from proof.rounds import Result
    from proof.scene import Fault

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"

Runs = dict[str, dict[str, Any]]  # by "fault/seed"


class Results:
    """Of this run; each is written at once, so that an interrupted run loses none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine: list[Result] = []

    @property
    def green(self) -> bool:
        """Whether no law was broken."""
        return all(result.green for result in self._mine)

    def add(self, result: Result) -> None:
        """To the table and to the file."""
        self._mine.append(result)
        runs = read(self._path)
        runs[f"{result.fault}/{result.seed}"] = asdict(result)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(runs, indent=1) + "\n")

    def table(self) -> Table:
        """A row a fault."""
        table = Table("", "fault", "seeds", "green", "sent", "no answer", "duplicates", "drain s", "peak MiB")
        for fault in FAULTS:
            mine = [asdict(result) for result in self._mine if result.fault == fault.name]
            if mine:
                table.add_row(
                    *_cells(fault, mine), style=None if all(one["green"] for one in mine) else "red"
                )
        return table


def read(path: Path) -> Runs:
    """All results so far."""
    runs: Runs = json.loads(path.read_text()) if path.exists() else {}
    return runs


def add_blind(path: Path, seen: list[Seen]) -> None:
    """What the runs without guards showed, beside the results."""
    runs = read(path)
    for one in seen:
        runs[f"blind/{one.guards}/{one.fault}"] = one._asdict()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(runs, indent=1) + "\n")


def write_page(path: Path) -> None:
    """Puts the results into docs/reliability.md."""
    runs = read(path)
    blind = {key: runs.pop(key) for key in [key for key in runs if key.startswith("blind/")]}
    page = PAGE.read_text()
    for name, text in (("matrix", _matrix(runs)), ("blind", _blind(list(blind.values())))):
        begin = f"<!-- generated: {name} -->\n"
        before, after = page.split(begin)
        page = before + begin + text + after[after.index("<!-- end -->") :]
    PAGE.write_text(page)


def _matrix(runs: Runs) -> str:
    head = (
        "| | fault | rounds | green | events sent | without an answer | duplicates | settled within |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    )
    rows = []
    for fault in FAULTS:
        mine = [run for run in runs.values() if run["fault"] == fault.name]
        what = f"`{fault.name}`: {fault.what}"
        if not mine:
            rows.append(f"| {fault.number} | {what} | not run | | | | | |\n")
            continue
        cells = _cells(fault, mine)
        drained = f"{cells[7]} s" if cells[7] else ""
        rows.append(f"| {fault.number} | {what} | {' | '.join(cells[2:7])} | {drained} |\n")
    return head + "".join(rows)


def _blind(seen: list[dict[str, Any]]) -> str:
    head = "| without | fault | what was seen | in round |\n| --- | --- | --- | ---: |\n"
    rows = [
        f"| {one['guards']} | `{one['fault']}` | {one['broken'] or '**nothing**'} | {one['rounds']} |\n"
        for one in seen
    ]
    return head + "".join(rows)


def _cells(fault: Fault, runs: list[dict[str, Any]]) -> list[str]:
    verdicts = [run["verdict"] for run in runs if run["verdict"]]
    sums = [
        f"{sum(verdict[field] for verdict in verdicts):,}" if verdicts else ""
        for field in ("sent", "unknown", "duplicates")
    ]
    drained = f"{max(verdict['drain_s'] for verdict in verdicts):.0f}" if verdicts else ""
    peak = f"{max(verdict['peak_mib'] for verdict in verdicts):.0f}" if verdicts else ""
    green = sum(run["green"] for run in runs)
    return [fault.number, fault.name, str(len(runs)), str(green), *sums, drained, peak]
