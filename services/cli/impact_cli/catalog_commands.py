"""`impact catalog`: check, compare and begin a catalog."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from impact_cli import catalogs, settings, terminal
from impact_cli.options import AsJson, Data, settings_of
from impact_cli.terminal import Refused, WrongUse, answered
from impact_schemas.catalog import CatalogFaults, catalog_json_schema, catalog_warnings, parse_catalogs
from impact_schemas.catalog.forms import NAME

catalog_app = typer.Typer(help="The catalog: what events look like and which numbers they become.")


@catalog_app.command("check")
@answered
def catalog_check(
    path: Annotated[
        Path | None, typer.Argument(help="Folder or file. [default: IMPACT_CATALOG, else ./catalog]")
    ] = None,
    as_json: AsJson = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of catalog files, for editors.")
    ] = False,
) -> None:
    """Print every fault as FILE:LINE:COLUMN PATH: REASON. Exit code 1 if there is one.

    Without faults: warnings of properties that look personal and are kept as they come.
    """
    if schema:
        terminal.print_json(catalog_json_schema())
        return
    try:
        texts = catalogs.read_texts(path or settings.load().catalog_path())
        found = parse_catalogs(texts)
    except CatalogFaults as faults:
        if as_json:
            terminal.print_json({"ok": False, "faults": [fault._asdict() for fault in faults.faults]})
        else:
            _print_faults(faults)
        raise typer.Exit(terminal.NO) from faults
    counts = {name: len(one.metrics) for name, one in sorted(found.items())}
    warnings = catalog_warnings(texts)
    if as_json:
        told = [warning._asdict() for warning in warnings]
        terminal.print_json({"ok": True, "faults": [], "warnings": told, "products": counts})
        return
    for warning in warnings:
        terminal.out().print(f"{warning} (a warning)", markup=False, soft_wrap=True)
    for name, metrics in counts.items():
        terminal.out().print(f"{name}: {metrics} metrics, no fault", markup=False)


@catalog_app.command("diff")
@answered
def catalog_diff(
    path: Annotated[
        Path | None, typer.Argument(help="Folder or file. [default: IMPACT_CATALOG, else ./catalog]")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Compare catalog files with the catalog that is in force: which numbers change, which only words.

    Exit code 1 if a number that is shown now would change or go away; a metric that is added is no reason.
    """
    from impact_cli import catalog_diff as compare

    found = settings_of(data)
    files = catalogs.load(path or found.catalog_path())
    differences = asyncio.run(compare.against_database(found.required_database_url(), files))
    if as_json:
        terminal.print_json(differences)
    else:
        compare.show(differences, terminal.out())
    if any(one.touches_numbers for one in differences):
        raise typer.Exit(terminal.NO)


@catalog_app.command("init")
@answered
def catalog_init(
    file: Annotated[
        Path | None, typer.Argument(help="Where to write it; nothing is overwritten. [default: print it]")
    ] = None,
    events: Annotated[
        str | None,
        typer.Option("--from", help="NDJSON, JSON or CSV of events to infer it from; - for stdin."),
    ] = None,
    product: Annotated[
        str | None, typer.Option(help="The product's name. [default: as the events say, else my_product]")
    ] = None,
) -> None:
    """Write a commented catalog to begin with; --from infers types, schemas and candidate metrics."""
    from impact_cli import catalog_starter, event_files

    if product is not None and not NAME.fits(product):
        raise WrongUse(f"--product {product}: expected {NAME.words}")
    if events is None:
        text = catalog_starter.starter(product or "my_product")
    else:
        try:
            with event_files.opened(events, None) as texts:
                text = catalog_starter.inferred(texts, product)
        except catalog_starter.NoEvents as error:
            raise Refused(f"{events}: {error}") from error
    if file is None:
        typer.echo(text, nl=False)
        return
    catalogs.write_new(file, text)
    terminal.err().print(f"wrote {file}: now impact catalog check {file}", markup=False)


def _print_faults(faults: CatalogFaults) -> None:
    console = terminal.out()
    for fault in faults.faults:
        console.print(str(fault), markup=False)
    count = len(faults.faults)
    terminal.err().print(f"{count} fault{'s' if count > 1 else ''}", style="red")
