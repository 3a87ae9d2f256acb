"""Figures as rows, and the three ways in which they leave: the terminal, docs/performance.md, JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_INTRODUCTION = """\
# Performance

Made by `make bench`; do not edit. CPU is user and system time of the measured process alone, from the
operating system. What is compared ran in turns (A B A B) in one run, on one broker, with the same events
of about 260 bytes; a figure is the median of its runs. Figures tell about the machine too: compare the
ratios.
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


def table(rows: Sequence[Row]) -> Table:
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


def markdown(rows: Sequence[Row], notes: Mapping[str, str], remark: str) -> str:
    """For docs/performance.md: one table, what each part measured above it."""
    machine = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.system()}"
    parts = [_INTRODUCTION, f"{datetime.now(UTC):%Y-%m-%d}, {machine}. {remark}\n"]
    parts += [f"- **{section}**: {note}" for section, note in notes.items()]
    parts += ["", "| what | figure | beside it | target | met? |", "| --- | ---: | --- | --- | --- |"]
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            parts.append(f"| **{section}** | | | | |")
        parts.append(f"| {row.what} | {row.shown} | {row.beside} | {row.target} | {row.verdict} |")
    return "\n".join(parts) + "\n"


def write(
    rows: Sequence[Row], notes: Mapping[str, str], remark: str, page: Path | None, data: Path | None
) -> None:
    """Writes the page and the JSON, each where it is wanted."""
    if page is not None:
        page.write_text(markdown(rows, notes, remark))
    if data is not None:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "system": platform.platform()}
        figures = [asdict(row) for row in rows]
        document = {"machine": machine, "remark": remark, "figures": figures}
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_text(json.dumps(document, indent=2) + "\n")
