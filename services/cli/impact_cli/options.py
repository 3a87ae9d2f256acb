"""Options that several commands take, and the settings that they make."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from impact_cli import settings
from impact_cli.terminal import WrongUse

DEFAULT_DATA = Path("impact-data")

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Data = Annotated[
    Path | None,
    typer.Option(help="The data folder of 'impact up'; without it the IMPACT_... settings say where."),
]
CatalogPath = Annotated[
    Path | None,
    typer.Option("--catalog", help="Folder of catalog files. [default: IMPACT_CATALOG, else ./catalog]"),
]
Host = Annotated[
    str | None, typer.Option(help="Address to listen on. [default: IMPACT_HOST, else 127.0.0.1]")
]
Port = Annotated[
    int | None, typer.Option(help="HTTP port, 0 for a free one. [default: IMPACT_PORT, else 8080]")
]

Url = Annotated[str, typer.Option(help="The ingest service.")]
Key = Annotated[str | None, typer.Option(envvar="IMPACT_KEY", help="API key.")]
KeysFile = Annotated[
    Path | None, typer.Option(help=f"keys.json of a data folder. [default: {DEFAULT_DATA}/keys.json]")
]
Mapping = Annotated[
    Path | None, typer.Option("--map", help="The mapping file: what the columns of a partner's file mean.")
]
State = Annotated[
    Path | None, typer.Option(help="Folder of the import journal. [default: the mapping's folder]")
]
Product = Annotated[str | None, typer.Option(help="Only this product's.")]
Code = Annotated[str | None, typer.Option(help="Only those with this verdict, such as unknown_type.")]
Since = Annotated[datetime | None, typer.Option(help="Only those received at or after this time, UTC.")]
Until = Annotated[datetime | None, typer.Option(help="Only those received before this time, UTC.")]


def settings_of(data: Path | None = None) -> settings.Settings:
    """The environment; with `data`, or where nothing is set and ./impact-data is there, that folder's."""
    found = settings.load()
    if data is not None:
        if not (data / settings.METRICS_DB).exists():
            raise WrongUse(f"{data} is no data folder of 'impact up': it has no {settings.METRICS_DB}")
        return found.for_folder(data)
    if found.database_url is None and (DEFAULT_DATA / settings.METRICS_DB).exists():
        return found.for_folder(DEFAULT_DATA)
    return found


def overridden(found: settings.Settings, **given: object) -> settings.Settings:
    """Options win over the environment."""
    return found.model_copy(update={name: value for name, value in given.items() if value is not None})
