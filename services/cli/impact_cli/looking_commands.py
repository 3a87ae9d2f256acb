"""`impact status`, `doctor`, `explain` and `verify`: what the numbers are, and whether they are right."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from impact_cli import terminal
from impact_cli.options import AsJson, CatalogPath, Data, overridden, settings_of
from impact_cli.terminal import answered

app = typer.Typer()


@app.command()
@answered
def status(data: Data = None, as_json: AsJson = False) -> None:
    """Show every product's numbers now, and what became of the events."""
    from impact_cli import status as look

    found = asyncio.run(look.read(settings_of(data).required_database_url()))
    if as_json:
        terminal.print_json(found)
    else:
        look.show(found, terminal.out())


@app.command()
@answered
def doctor(catalog: CatalogPath = None, data: Data = None, as_json: AsJson = False) -> None:
    """Check the installation: what is wrong, and the one next command. Exit code 1 if anything is."""
    from impact_cli import doctor as examine

    checks = asyncio.run(examine.examine(lambda: overridden(settings_of(data), catalog=catalog)))
    if as_json:
        terminal.print_json(checks)
    else:
        examine.show(checks, terminal.out())
    if not all(check.ok for check in checks):
        raise typer.Exit(terminal.NO)


@app.command()
@answered
def explain(
    product: Annotated[str, typer.Argument(help="As in the catalog.")],
    metric: Annotated[str, typer.Argument(help="As in the catalog.")],
    segment: Annotated[str, typer.Option(help='JSON, like {"language":"es"}; {} is the total.')] = "{}",
    window: Annotated[str | None, typer.Option(help="One of the metric's. [default: all]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not read the log.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say why a number is what it is: definition, evidence, events, what was left out, and its SQL."""
    from impact_aggregator.verify import Scope
    from impact_cli import explain as why

    found, unit = asyncio.run(
        why.read(settings_of(data), Scope(product, metric), segment, window, with_log=not quick)
    )
    if as_json:
        terminal.print_json(found)
    else:
        why.show(found, unit, terminal.out())


@app.command()
@answered
def verify(
    product: Annotated[str | None, typer.Option(help="Only this product's numbers.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric; of a ratio its parts too.")] = None,
    memory: Annotated[
        int | None, typer.Option(min=64, help="MiB to work in. [default: half of the machine's]")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every number from the event log, apart from the service's own code, and compare.

    Exit code 1 if any number differs.
    """
    from impact_cli import verify as audit

    report = asyncio.run(audit.run(settings_of(data), product, metric, memory))
    if as_json:
        terminal.print_json(report)
    else:
        audit.show(report, terminal.out())
    if not report.equal:
        raise typer.Exit(terminal.NO)
