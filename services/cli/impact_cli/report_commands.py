"""`impact digest`, ten lines for those who decide, and `impact report`, dated editions to be checked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from impact_cli import terminal
from impact_cli.options import AsJson, Data, Product, settings_of
from impact_cli.terminal import Refused, WrongUse, answered

app = typer.Typer()
report_app = typer.Typer(invoke_without_command=True)

Out = Annotated[Path, typer.Option(help="Folder of the editions.")]


@app.command("digest")
@answered
def digest(
    product: Product = None,
    since: Annotated[str, typer.Option(help="Days or weeks: 7d, 4w.")] = "7d",
    stakeholder: Annotated[
        str | None, typer.Option(help="One of the catalog: only what concerns them.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say in ten lines what changed beyond noise, what is at risk, and what is to be decided, as Markdown."""
    from impact_cli import digests

    found = asyncio.run(digests.read(settings_of(data), product, digests.days_of(since), stakeholder))
    if as_json:
        terminal.print_json([digests.plain(one) for one in found])
    else:
        typer.echo("\n\n".join(one.markdown for one in found))


@report_app.callback()
@answered
def report(
    context: typer.Context,
    product: Product = None,
    period: Annotated[
        str | None, typer.Option(help="A month 2026-07, a quarter 2026-Q3 or a year 2026.")
    ] = None,
    stakeholder: Annotated[
        str | None, typer.Option(help="One of the catalog: only what concerns them.")
    ] = None,
    due: Annotated[
        bool, typer.Option("--due", help="Those of every stakeholder's last period that are missing.")
    ] = False,
    out: Out = Path("editions"),
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write an edition: HTML, Markdown, JSON, CSV, and their hashes. The same state gives the same bytes."""
    if context.invoked_subcommand is not None:
        return
    from impact_cli import editions

    if due == (period is not None) or (not due and product is None) or (due and stakeholder is not None):
        raise WrongUse("give --product and --period, or --due alone or with --product")
    if due:
        written = asyncio.run(editions.write_due(settings_of(data), product, out))
    else:
        written = [
            asyncio.run(editions.write_one(settings_of(data), product or "", period or "", stakeholder, out))
        ]
    if as_json:
        terminal.print_json([{"folder": str(one.folder), "new": one.new} for one in written])
        return
    for one in written:
        terminal.out().print(f"{one.folder}{'' if one.new else ' (was there already)'}", markup=False)
    if due and not written:
        terminal.err().print("no edition is due")


@report_app.command("verify")
@answered
def verify(folder: Annotated[Path, typer.Argument(help="An edition's folder.")]) -> None:
    """Compute the hashes of an edition again. Exit code 1 if a byte of it has changed."""
    from impact_reports import edition_files

    faults = edition_files.verify(folder)
    if faults:
        raise Refused("\n".join(faults))
    terminal.out().print(f"{folder}: every byte is as it was written", markup=False)
