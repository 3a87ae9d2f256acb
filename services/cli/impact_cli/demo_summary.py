"""What `impact demo` says in the end: what came in, what it became, what it means, and where to look."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from rich.markup import escape

from impact_cli import settings
from impact_cli.event_files import encode
from impact_cli.terminal import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from impact_cli.examples import Example
    from impact_cli.send import Summary
    from impact_cli.status import Product
    from impact_cli.status_meaning import Meaning, Value

ANNOTATED = re.compile(r"(?<=\w)\{")  # kg{CO2e} is read as kg CO2e
BRACES = str.maketrans("", "", "{}")
QUERY = (
    "SELECT metric, segment, value, n FROM rolling_metrics"
    " WHERE product = '{product}' AND time_window = 'all' ORDER BY metric, segment"
)
READ_SQLITE = (  # for a machine without the command sqlite3
    "import sqlite3, sys; [print(*row, sep='|') for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])]"
)
STYLES = {
    **dict.fromkeys(("met", "proven", "on_track", "holding"), "green"),
    **dict.fromkeys(("at_risk", "warning"), "yellow"),
    **dict.fromkeys(("off_track", "failed", "critical", "behind"), "red"),
}


def show(one: Product, example: Example, sent: Summary, seconds: float, console: Console) -> None:
    """One product: events, numbers of all time, and what they mean."""
    console.print(
        f"\n[bold]{escape(example.title)}[/]: {sent.events:,} events over HTTP in {sent.seconds:.1f} s "
        f"({sent.events / sent.seconds:,.0f} a second), counted after {seconds:.1f} s in all"
    )
    ledger = one.ledger
    console.print(
        f"{ledger.received:,} received = {ledger.counted:,} counted + {ledger.duplicates:,} duplicates "
        f"+ {ledger.quarantined:,} quarantined"
    )
    numbers = [number for number in one.numbers if number.window == "all"]
    width = max((len(number.title) for number in numbers), default=0)
    for number in numbers:
        star = "*" if number.metric == example.north_star else " "
        value = shown(number.value) if number.value is not None else number.status
        console.print(f"{star} {number.title:<{width}}  [bold]{value:>15}[/] {escape(_unit(number.unit))}")
    if example.north_star is not None:
        console.print("* stands for the mission: " + example.statement, markup=False)
    for word, text in _meaning(one.meaning):
        style = STYLES.get(word, "dim")
        console.print(f"  [{style}]{word.replace('_', ' '):<10}[/] {escape(text)}")


def _unit(unit: str) -> str:
    return "" if unit == "1" else ANNOTATED.sub(" ", unit).translate(BRACES)


def _meaning(meaning: Meaning) -> Iterator[tuple[str, str]]:
    """A word and a line for each target, warning, group that is behind, and bet."""
    for target in meaning.targets:
        name = _named(target.title, target.segment)
        seen = f", {shown(target.forecast)} at this pace" if target.forecast is not None else ""
        yield target.status, f"{name}: {shown(target.value)} of {shown(target.target)} by {target.due}{seen}"
    for warned in meaning.warnings:
        answer = f" Answered: {warned.answered_by}." if warned.answered_by else ""
        yield warned.severity, f"{warned.detail}, since {warned.since}.{answer}"
    for gap in meaning.gaps:
        reference = _named("", gap.reference_segment)
        yield (
            "behind",
            f"{_named(gap.title, gap.segment)}: {shown(gap.value)},{reference} {shown(gap.reference_value)}",
        )
    for bet in meaning.bets:
        name = _named(bet.metric, bet.segment)
        yield bet.status, f"{bet.title}: {name} {_signed(bet.measured)}, {_signed(bet.expected)} expected"


def _named(name: str, segment: str) -> str:
    """A name and its segment in plain words: No-show rate (language es)."""
    split = segment.strip("{}").replace('"', "").replace(":", " ").replace(",", ", ")
    return f"{name} ({split})" if split else name


def _signed(value: Value) -> str:
    return "not measured yet" if value is None else f"{'+' if value > 0 else ''}{shown(value)}"


def show_places(example: Example, key: str, data: Path, url: str, console: Console) -> None:
    """Where to look, as commands that work as they stand."""
    query = QUERY.format(product=example.product)
    event = encode({**next(example.events()), "id": "my-first-event"}).decode()
    folder = shlex.quote(str(data))
    lines = (
        ("Pages", f"{url}/products/{example.product}"),
        ("Database", str(data / settings.METRICS_DB)),
        ("A query", _query_command(data / settings.METRICS_DB, query)),
        (
            "An event",
            f"curl -i {url}/v1/events -H 'Authorization: Bearer {key}' "
            f"-H 'Content-Type: application/cloudevents+json' -d {shlex.quote(event)}",
        ),
        ("Prometheus", f"curl {url}/metrics"),
        ("API docs", f"{url}/docs"),
        ("Numbers", f"impact status --data {folder}"),
        ("Again", f"impact up --catalog {shlex.quote(str(data / settings.CATALOG_FOLDER))} --data {folder}"),
    )
    for name, text in lines:
        console.print(f"[bold]{name:<11}[/]{escape(text)}")


def _query_command(database: Path, query: str) -> str:
    """A command that works on this machine: not everybody has sqlite3."""
    # in double quotes: the SQL has single ones, and nothing that a shell expands
    arguments = f'{shlex.quote(str(database))} "{query}"'
    if shutil.which("sqlite3"):
        return f"sqlite3 -header {arguments}"
    python = shlex.quote(sys.executable)
    if sys.version_info >= (3, 12):
        return f"{python} -m sqlite3 {arguments}"
    return f'{python} -c "{READ_SQLITE}" {arguments}'
