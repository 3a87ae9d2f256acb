"""`impact quarantine`: look at what could not be counted, and replay it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from impact_cli import catalogs, terminal
from impact_cli.options import AsJson, CatalogPath, Code, Data, Product, Since, Until, overridden, settings_of
from impact_cli.terminal import answered
from impact_schemas.tables import to_micros

if TYPE_CHECKING:
    from impact_cli import quarantine

quarantine_app = typer.Typer(help="Events that could not be counted: why, and their replay.")


def _filter(
    product: str | None,
    code: str | None,
    since: datetime | None,
    until: datetime | None,
    names: list[str] | None = None,
) -> quarantine.Filter:
    from impact_cli import quarantine

    return quarantine.Filter(product, code, _micros(since), _micros(until), tuple(names or ()))


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment.replace(tzinfo=UTC))


@quarantine_app.command("list")
@answered
def quarantine_list(
    product: Product = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=0, help="How many of the latest to show.")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Count the events in quarantine by product and reason, and show the latest."""
    from impact_cli import quarantine

    found = asyncio.run(quarantine.listed(settings_of(data), _filter(product, code, since, until), limit))
    if as_json:
        terminal.print_json(found)
    else:
        quarantine.show_list(found, terminal.out())


@quarantine_app.command("show")
@answered
def quarantine_show(
    name: Annotated[str, typer.Argument(help="As quarantine list shows it.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show one event as it is kept (its subject is a pseudonym), and what can be done."""
    from impact_cli import quarantine

    found = asyncio.run(quarantine.shown(settings_of(data), name))
    if as_json:
        terminal.print_json(found)
    else:
        quarantine.show_entry(found, terminal.out())


@quarantine_app.command("replay")
@answered
def quarantine_replay(
    names: Annotated[list[str] | None, typer.Argument(help="As quarantine list shows them.")] = None,
    product: Product = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    catalog: CatalogPath = None,
    dry_run: Annotated[bool, typer.Option(help="Only tell what would become of them.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Judge events again under the present catalog; what can be counted now goes to the event log.

    Identity and receipt time stay. It may be repeated, and the service may run meanwhile. Exit code 1 if any
    event was not replayed.
    """
    from impact_cli import quarantine

    found = overridden(settings_of(data), catalog=catalog)
    wanted = _filter(product, code, since, until, names)
    replayed = asyncio.run(
        quarantine.replay(found, catalogs.load(found.catalog_path()), wanted, dry_run=dry_run)
    )
    if as_json:
        terminal.print_json(replayed)
    else:
        quarantine.show_replay(replayed, terminal.out())
    if replayed.others:
        raise typer.Exit(terminal.NO)
