"""`make bench`: measures, shows one table, and writes docs/performance.md and JSON.

    python -m benchmarks [--only aggregator,growth] [--quick] [--page FILE] [--json FILE]

A run of some sections or of small sizes does not touch docs/performance.md unless --page says so.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from benchmarks import aggregator, door, embedded, growth, plan, reading, results
from benchmarks.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.plan import Plan
    from benchmarks.results import Row

PAGE = ROOT / "docs" / "performance.md"
JSON = ROOT / ".cache" / "performance.json"


class Section(NamedTuple):
    """One part of the table, which can be run alone."""

    title: str
    note: str
    run: Callable[[Plan], list[Row]]


SECTIONS = {
    "aggregator": Section(aggregator.SECTION, aggregator.NOTE, aggregator.run),
    "growth": Section(growth.SECTION, growth.NOTE, growth.run),
    "reading": Section(reading.SECTION, reading.NOTE, reading.run),
    "embedded": Section(embedded.SECTION, embedded.NOTE, embedded.run),
    "ingest": Section(door.SECTION, door.NOTE, door.run),
}


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, one run: two minutes")
    parser.add_argument("--page", type=Path, help=f"the page to write [a full run: {PAGE.relative_to(ROOT)}]")
    parser.add_argument("--json", type=Path, default=JSON, help=f"[{JSON.relative_to(ROOT)}]")
    given = parser.parse_args(arguments)
    wanted = [name.strip() for name in given.only.split(",")]
    unknown = sorted(set(wanted) - set(SECTIONS))
    if unknown:
        parser.error(f"there is no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    in_full = not given.quick and set(wanted) == set(SECTIONS)
    page = given.page or (PAGE if in_full else None)
    _bench(wanted, plan.quick if given.quick else plan.full, page, given.json)


def _bench(
    wanted: list[str], sizes: Callable[[Callable[[str], None]], Plan], page: Path | None, data: Path
) -> None:
    console = Console()
    started = time.monotonic()
    rows: list[Row] = []
    with console.status("") as status:

        def tell(what: str) -> None:
            status.update(what)
            if not console.is_terminal:
                console.print(f"{time.monotonic() - started:5.0f} s  {what}", markup=False)

        for name in wanted:
            rows += SECTIONS[name].run(sizes(tell))
    console.print(results.table(rows))
    took = f"The run took {(time.monotonic() - started) / 60:.0f} minutes"
    remark = f"{took}{'' if sizes is plan.full else ' with small sizes: not for comparison'}."
    notes = {SECTIONS[name].title: SECTIONS[name].note for name in wanted}
    results.write(rows, notes, remark, page, data)
    console.print(f"{remark} JSON: {data}" + (f", page: {page}" if page else ""), markup=False)


if __name__ == "__main__":
    main()
