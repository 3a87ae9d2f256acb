"""`impact privacy`: whether small groups are safe in what is published."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from impact_cli import terminal
from impact_cli.options import AsJson, Data, settings_of
from impact_cli.terminal import answered

privacy_app = typer.Typer(help="Whether small groups are safe in what is published.")


@privacy_app.callback()
def _about() -> None:
    """Keeps `audit` a command of its own name, though it is the only one."""


@privacy_app.command()
@answered
def audit(
    product: Annotated[str | None, typer.Option(help="Only this product's metrics.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Attack the published numbers: bound every hidden cell from all others. Exit code 1 if one gives way."""
    try:
        from impact_cli import privacy
    except ModuleNotFoundError as error:
        if error.name != "scipy":
            raise
        raise terminal.Refused("the audit needs scipy: pip install 'impact-telemetry[audit]'") from error

    found = asyncio.run(privacy.run(settings_of(data), product))
    if as_json:
        terminal.print_json(found)
    else:
        privacy.show(found, terminal.out())
    if found.exposures:
        raise typer.Exit(terminal.NO)
