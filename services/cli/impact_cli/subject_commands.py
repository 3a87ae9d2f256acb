"""`impact subjects`: those whom events are about."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from impact_cli import catalogs, terminal
from impact_cli.options import AsJson, CatalogPath, Data, overridden, settings_of
from impact_cli.terminal import answered

subjects_app = typer.Typer(help="The people and things that events are about.")


@subjects_app.command("erase")
@answered
def subjects_erase(
    product: Annotated[str, typer.Argument(help="The product whose events speak of the person.")],
    subject: Annotated[str, typer.Argument(help="The subject as the product sends it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    catalog: CatalogPath = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take a person's events back, and remove what is kept of them. Stop 'impact up' first."""
    from impact_cli import erasure

    found = overridden(settings_of(data), catalog=catalog)
    products = catalogs.load(found.catalog_path())
    done = asyncio.run(erasure.erase(found, products, product, subject, dry_run=dry_run))
    if as_json:
        terminal.print_json({**done._asdict(), "still_there": erasure.still_there(done)})
        return
    say = terminal.out().print
    verb = "would be taken back" if dry_run else "taken back"
    say(f"pseudonym {done.pseudonym}: {done.events:,} events and {done.quarantined:,} rejected ones {verb}")
    for place in erasure.still_there(done):
        say(f"still to be seen to: {place}")
