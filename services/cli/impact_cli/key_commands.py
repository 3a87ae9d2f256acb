"""`impact keys`: make, list and revoke API keys."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from impact_cli import terminal
from impact_cli.options import AsJson, Data, settings_of
from impact_cli.terminal import Refused, answered

keys_app = typer.Typer(help="API keys of products.")


@keys_app.command("create")
@answered
def keys_create(
    product: Annotated[str, typer.Argument(help="The product whose events or numbers it opens.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="write, read, import, admin. [default: write]")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Who has it and what for.")] = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1, help="It stops working then.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once: only its hash is stored."""
    from impact_cli import keys

    made = asyncio.run(
        keys.create(
            settings_of(data).required_database_url(), product, scope or ["write"], label, expires_in_days
        )
    )
    if as_json:
        terminal.print_json(made)
        return
    terminal.out().print(made.key, markup=False)
    terminal.err().print(f"{made.key_id}: shown this once, only its hash is stored", markup=False)


@keys_app.command("list")
@answered
def keys_list(
    product: Annotated[str | None, typer.Argument(help="Only this product's.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List keys, the revoked ones too."""
    from impact_cli import keys

    found = asyncio.run(keys.listed(settings_of(data).required_database_url(), product))
    if as_json:
        terminal.print_json(found)
        return
    table = Table("key id", "product", "scopes", "label", "created (UTC)", "state")
    for one in found:
        table.add_row(
            one.key_id, one.product, " ".join(one.scopes), one.label or "", one.created_at, one.state
        )
    terminal.out().print(table)


@keys_app.command("revoke")
@answered
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="As keys list shows it.")], data: Data = None
) -> None:
    """Make a key worthless, within a minute everywhere. For good."""
    from impact_cli import keys

    if not asyncio.run(keys.revoke(settings_of(data).required_database_url(), key_id)):
        raise Refused(f"there is no key {key_id} that could be revoked: impact keys list shows them")
    terminal.out().print(f"{key_id} is revoked", markup=False)
