"""Results: a table for the terminal, JSON beside it, and the matrix of docs/reliability.md."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from proof.blindness import BLIND
from proof.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proof.blind_rounds import Seen
    from proof.rounds import Result
    from proof.scene import Fault

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"

Runs = dict[str, dict[str, Any]]  # by "fault/seed"


class Results:
    """Of this run; each is written at once, so that an interrupted run loses none."""

    def __init__(self, path: Path, pace: float) -> None:
        self._path = path
        self._about = {"pace": pace, "commit": _commit(), "day": time.strftime("%Y-%m-%d", time.gmtime())}
        self._mine: list[Result] = []
        self._blind: list[Seen] = []

    @property
    def green(self) -> bool:
        """Whether no law was broken, and each was without its guards."""
        return all(result.green for result in self._mine) and all(seen.broken for seen in self._blind)

    def done(self) -> set[str]:
        """Keys of the stored rounds that showed what they must."""
        stored = read(self._path).items()
        return {key for key, run in stored if (run["broken"] if "guards" in run else run["green"])}

    def add(self, result: Result) -> None:
        """To the table and to the file; a red round before it is remembered."""
        self._mine.append(result)
        key = f"{result.fault}/{result.seed}"
        before = read(self._path).get(key, {"green": True})
        reds = before.get("reds", 0) + (not before["green"])
        self._store(key, asdict(result) | {"reds": reds})

    def add_blind(self, seen: Seen) -> None:
        """To the file."""
        self._blind.append(seen)
        self._store(blind_key(seen.guards.split(", "), seen.fault), seen._asdict())

    def _store(self, key: str, run: dict[str, Any]) -> None:
        runs = read(self._path) | {key: run | self._about}
        lines = [f"{json.dumps(key)}: {json.dumps(runs[key])}" for key in sorted(runs)]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("{\n" + ",\n".join(lines) + "\n}\n")

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


def blind_key(guards: Iterable[str], fault: str) -> str:
    """Of a run without guards, among the results."""
    return f"blind/{', '.join(guards)}/{fault}"


def _commit() -> str:
    """Of the code that is run; with a plus if files are changed."""
    git = ["git", "-C", str(PAGE.parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def write_page(path: Path) -> None:
    """Puts the results into docs/reliability.md."""
    runs = read(path)
    blind = [runs.pop(key) for key in [blind_key(one.guards, one.fault) for one in BLIND] if key in runs]
    runs = {key: run for key, run in runs.items() if "guards" not in run}
    page = PAGE.read_text()
    for name, text in (("matrix", _matrix(runs)), ("blind", _blind(blind))):
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
    return head + "".join(rows) + _summary(runs)


def _summary(runs: Runs) -> str:
    if not runs:
        return ""
    green = sum(run["green"] for run in runs.values())
    days = sorted({run["day"] for run in runs.values()})
    paces = sorted({run["pace"] for run in runs.values()})
    repeated = sum(run["reds"] > 0 for run in runs.values())
    commits = " and ".join(sorted({f"`{run['commit']}`" for run in runs.values()}))
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    pace = " and ".join(f"{pace:g}" for pace in paces)
    return (
        f"\n{green:,} of {len(runs):,} rounds are green, run on {when} at pace {pace}"
        f" with the code of {commits}; {repeated} of them had been red before and were repeated.\n"
    )


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
