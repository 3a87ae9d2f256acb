"""Figures as rows, and the three ways in which they leave: the terminal, docs/performance.md, JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_INTRODUCTION = """\
# Performance

Made by `make bench`; do not edit. CPU is user and system time of the measured process alone, from the
operating system. What is compared ran in turns (A B A B) in one run, on one broker, with the same events
of about 260 bytes; a figure is the median of its runs. Figures tell about the machine too: compare the
ratios. The same figures for programs are in [performance.json](performance.json).
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    section: str
    what: str
    value: float | None  # None: it could not be measured, `beside` says why
    unit: str
    beside: str = ""  # what else was seen in the same runs
    target: str = ""
    met: bool | None = None  # None: nothing was aimed at

    @property
    def shown(self) -> str:
        """The figure with three significant digits."""
        if self.value is None:
            return ""
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 2
        return f"{self.value:,.{digits}f} {self.unit}"

    @property
    def verdict(self) -> str:
        """Whether the target was met."""
        return "" if self.met is None else "yes" if self.met else "**no**"


class Measured(NamedTuple):
    """One section's run, as it is kept: sections may be measured one at a time."""

    title: str
    note: str  # what was measured, and how
    on: str  # the day and the machine
    rows: Sequence[Row]


def measured(title: str, note: str, rows: Sequence[Row], took_s: float, *, quick: bool) -> Measured:
    """A run on this machine that has just ended."""
    machine = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.system()}"
    remark = ", small sizes: not for comparison" if quick else ""
    return Measured(
        title, note, f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {took_s / 60:.0f} min{remark}", rows
    )


def table(rows: Iterable[Row]) -> Table:
    """For the terminal."""
    shown = Table(title="Impact Telemetry: performance")
    for column in ("what", "figure", "beside it", "target", "met?"):
        shown.add_column(column, justify="right" if column == "figure" else "left")
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            shown.add_section()
            shown.add_row(f"[bold]{section}")
        met = row.verdict.replace("**no**", "[red]no")
        shown.add_row(row.what, row.shown, row.beside, row.target, met)
    return shown


def markdown(sections: Iterable[Measured]) -> str:
    """For docs/performance.md: what each part measured, then one table."""
    sections = list(sections)
    parts = [_INTRODUCTION]
    parts += [f"- **{one.title}** ({one.on}): {one.note}" for one in sections]
    parts += ["", "| what | figure | beside it | target | met? |", "| --- | ---: | --- | --- | --- |"]
    for one in sections:
        parts.append(f"| **{one.title}** | | | | |")
        parts += [
            f"| {row.what} | {row.shown} | {row.beside} | {row.target} | {row.verdict} |" for row in one.rows
        ]
    return "\n".join(parts) + "\n"


def read(data: Path) -> dict[str, Measured]:
    """The sections that `write` has kept, by name."""
    if not data.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(data.read_text())
    return {
        name: Measured(one["title"], one["note"], one["on"], [Row(**row) for row in one["rows"]])
        for name, one in found.items()
    }


def write(sections: Mapping[str, Measured], page: Path | None, data: Path) -> None:
    """Writes the JSON, and the page where it is wanted."""
    document = {
        name: {**one._asdict(), "rows": [asdict(row) for row in one.rows]} for name, one in sections.items()
    }
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text(json.dumps(document, indent=1) + "\n")
    if page is not None:
        page.write_text(markdown(sections.values()))
