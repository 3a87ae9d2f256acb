"""How commands speak: results on standard output, everything else on standard error, and the exit code.

Exit codes: 0 done, 1 the answer is no, 2 wrong use.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any, ParamSpec

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from impact_cli.catalogs import NoCatalog
from impact_cli.settings import SettingsError
from impact_database.engine import SchemaOutOfDate, UnsupportedDatabase
from impact_eventlog.ports import LogError
from impact_schemas.catalog import CatalogFaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from decimal import Decimal

P = ParamSpec("P")

DONE, NO, WRONG_USE = 0, 1, 2


class Refused(Exception):
    """The answer is no; the message says why and what to do next."""


class WrongUse(Exception):
    """The command was called in a way that cannot work; the message says how it can."""


PIPE_WIDTH = 120  # of what is no terminal and does not say how wide it is: 80 would break rows in two


def out() -> Console:
    """Results. Rich leaves colours out where this is no terminal."""
    is_pipe = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, soft_wrap=True, width=PIPE_WIDTH if is_pipe else None)


def print_told(console: Console, told: Iterable[tuple[str, str]], styles: Mapping[str, str]) -> None:
    """A word and a sentence a line; on a terminal a long sentence goes on below its own beginning."""
    rows = [(word.replace("_", " "), text, styles.get(word, "dim")) for word, text in told]
    width = max((len(word) for word, _, _ in rows), default=0)
    if not console.is_terminal:  # one line each, to be searched
        for word, text, _ in rows:
            console.print(f"  {word:<{width}}  {text}", markup=False)
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=width + 2, no_wrap=True)
    table.add_column(overflow="fold")
    for word, text, style in rows:
        table.add_row(f"  [{style}]{word}[/]", escape(text))
    console.print(table)


def err() -> Console:
    """Messages and progress."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(result: Any) -> None:
    """One JSON document on standard output."""
    text = msgspec.json.format(msgspec.json.Encoder(decimal_format="number").encode(result))
    sys.stdout.write(text.decode() + "\n")


def answered(command: Callable[P, None]) -> Callable[P, None]:
    """Turns the errors that a user can mend into a message and an exit code; others are bugs and go on."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (WrongUse, SettingsError, NoCatalog, UnsupportedDatabase) as error:
            _tell(str(error))
            raise typer.Exit(WRONG_USE) from error
        except (Refused, CatalogFaults, LogError, SchemaOutOfDate) as error:
            _tell(str(error))
            raise typer.Exit(NO) from error
        except (SQLAlchemyError, ConnectionError) as error:
            _tell(database_trouble(error))
            raise typer.Exit(NO) from error

        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("impact_cli"):
                raise
            _tell(f"this installation has no {error.name}: install impact-telemetry[demo]")
            raise typer.Exit(WRONG_USE) from error

    return run


def database_trouble(error: Exception) -> str:
    """One line without the statement and its parameters."""
    reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return f"the metrics database (IMPACT_DATABASE_URL) does not do its work: {reason.splitlines()[0]}"


def _tell(message: str) -> None:
    console = err()
    for line in message.splitlines():
        console.print(line, style="red", markup=False)


def progress_bar(counted: str) -> Progress:
    """A bar on standard error, nothing at all where that is no terminal; tasks need a field `trouble`.

    `counted` says how far it is, as text with the task's fields in it.
    """
    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(counted),
        TimeElapsedColumn(),
        TextColumn("[yellow]{task.fields[trouble]}"),
        console=console,
        disable=not console.is_terminal,
    )


def shown(value: Decimal | float | int | None) -> str:
    """A value for people: thousands separated, about six significant digits."""
    if value is None:
        return "-"
    if value % 1 == 0:
        return f"{int(value):,}"
    if abs(float(value)) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.6g}"
