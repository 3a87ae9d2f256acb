"""What `impact demo` says in the end: what came in, what it became, what it means, and where to look."""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from rich.markup import escape

from impact_cli import settings
from impact_cli.event_files import encode
from impact_cli.status import show_numbers
from impact_cli.status_meaning import STYLES, judged
from impact_cli.terminal import print_told

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from impact_cli.examples import Example
    from impact_cli.send import Summary
    from impact_cli.status import Product

QUERY = (
    "SELECT metric, segment, value, n FROM rolling_metrics"
    " WHERE product = '{product}' AND time_window = 'all' ORDER BY metric, segment"
)
READ_SQLITE = (  # for a machine without the command sqlite3
    "import sqlite3, sys; [print(*row, sep='|') for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])]"
)


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
    if example.north_star is not None:
        console.print(example.statement, markup=False)
    show_numbers(one, console)
    print_told(console, judged(one.meaning, one.metrics), STYLES)


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
