"""`make bench`: measures, shows one table, and brings docs/performance.md and .json up to date.

    python -m benchmarks [--only aggregator,growth] [--quick] [--page FILE] [--json FILE]

Some sections alone replace what the page said of them. A quick run does not touch the page.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from benchmarks import aggregator, door, embedded, growth, plan, reading, results, scale
from benchmarks.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.plan import Plan
    from benchmarks.results import Measured, Row

PAGE = ROOT / "docs" / "performance.md"
JSON = ROOT / "docs" / "performance.json"
QUICK_JSON = ROOT / ".cache" / "performance.json"


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
    "scale": Section(scale.SECTION, scale.NOTE, scale.run),
}


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, one run: two minutes")
    parser.add_argument("--page", type=Path, help=f"[{PAGE.relative_to(ROOT)}; of a quick run none]")
    parser.add_argument(
        "--json",
        type=Path,
        help=f"[{JSON.relative_to(ROOT)}; of a quick run {QUICK_JSON.relative_to(ROOT)}]",
    )
    given = parser.parse_args(arguments)
    wanted = [name.strip() for name in given.only.split(",")]
    unknown = sorted(set(wanted) - set(SECTIONS))
    if unknown:
        parser.error(f"there is no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    page = given.page or (None if given.quick else PAGE)
    _bench(wanted, page, given.json or (QUICK_JSON if given.quick else JSON), quick=given.quick)


def _bench(wanted: Sequence[str], page: Path | None, data: Path, *, quick: bool) -> None:
    console = Console()
    known = results.read(data)
    for name in wanted:
        known[name] = _measure(SECTIONS[name], console, quick=quick)
        # after each section: an hour's figures are not lost with the last one
        results.write({name: known[name] for name in SECTIONS if name in known}, page, data)
    console.print(results.table(row for name in wanted for row in known[name].rows))
    console.print(f"JSON: {data}" + (f", page: {page}" if page else ""), markup=False)


def _measure(section: Section, console: Console, *, quick: bool) -> Measured:
    started = time.monotonic()
    with console.status("") as status:

        def tell(what: str) -> None:
            status.update(what)
            if not console.is_terminal:
                console.print(f"{time.monotonic() - started:5.0f} s  {what}", markup=False)

        rows = section.run(plan.quick(tell) if quick else plan.full(tell))
    return results.measured(section.title, section.note, rows, time.monotonic() - started, quick=quick)


if __name__ == "__main__":
    main()
