"""The command `impact`: its services, and the commands of the other modules put together.

Each command's work is in the module that it names. Modules of a service are imported by the command that
needs them: an image holds one service alone.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from impact_cli import settings, terminal
from impact_cli.catalog_commands import catalog_app
from impact_cli.key_commands import keys_app
from impact_cli.looking_commands import app as looking_app
from impact_cli.options import DEFAULT_DATA, AsJson, CatalogPath, Data, Host, Port, overridden, settings_of
from impact_cli.privacy_commands import privacy_app
from impact_cli.quarantine_commands import quarantine_app
from impact_cli.report_commands import app as reading_app
from impact_cli.report_commands import report_app
from impact_cli.sending_commands import app as sending_app
from impact_cli.subject_commands import subjects_app
from impact_cli.terminal import answered

app = typer.Typer(
    help="Impact Telemetry: product events become live impact numbers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug is for developers: a plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
@answered
def up(
    catalog: CatalogPath = None,
    data: Annotated[Path, typer.Option(help="Folder for everything that is kept.")] = DEFAULT_DATA,
    host: Host = None,
    port: Port = None,
) -> None:
    """Run the whole service in one process: no broker, no database server."""
    from impact_cli import assemble

    assemble.up(overridden(settings.load(), catalog=catalog, host=host, port=port), data)


@app.command()
@answered
def ingest() -> None:
    """Run the door: events over HTTP into the event log."""
    from impact_cli import assemble

    assemble.ingest(settings.load())


@app.command()
@answered
def aggregator() -> None:
    """Run an aggregator: events of the log into numbers. Several share the log's partitions."""
    from impact_cli import assemble

    assemble.aggregator(settings.load())


@app.command()
@answered
def reports() -> None:
    """Run the pages and the query API over the metrics database."""
    from impact_cli import assemble

    assemble.reports(settings.load())


@app.command()
@answered
def migrate(
    data: Data = None,
    print_only: Annotated[bool, typer.Option("--print", help="Only show what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema up to date and make the Kafka topics. May be repeated."""
    from impact_cli import assemble

    told = asyncio.run(assemble.migrate(settings_of(data), print_only=print_only))
    if as_json:
        terminal.print_json({part: said for part, _, said in (line.partition(": ") for line in told)})
        return
    for line in told:
        terminal.out().print(line, markup=False)


@app.command()
@answered
def rebuild(
    metric: Annotated[
        list[str] | None, typer.Option(help="Only this metric, or product.metric; may be repeated.")
    ] = None,
    catalog: CatalogPath = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Recount history from the log under the present catalog while live counting goes on, then swap."""
    from impact_cli import rebuild as recount

    done = asyncio.run(recount.rebuild(overridden(settings_of(data), catalog=catalog), metric or []))
    versions = {".".join(name): version for name, version in sorted(done.versions.items())}
    if as_json:
        terminal.print_json({"versions": versions, "records": done.records, "revised": done.revised})
        return
    words = f"{len(versions)} metrics recounted from {done.records:,} records"
    terminal.out().print(
        f"{words}; {done.revised:,} day values are other than before (view metric_revisions)"
    )


@app.command()
@answered
def replay(
    source: Annotated[
        str, typer.Argument(help="The log to copy: sqlite:///FOLDER/events.db, or kafka://HOST:PORT.")
    ],
    topic: Annotated[str | None, typer.Option(help="Its topic, if not that of the settings.")] = None,
    quarantine_topic: Annotated[str | None, typer.Option(help="The same, of its quarantine.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy another event log into the empty one of the settings: to move to Kafka, or to other partitions."""
    from impact_cli import replay as copying

    target = settings_of(None)
    names = {"kafka_topic": topic, "kafka_quarantine_topic": quarantine_topic}
    changes = {name: value for name, value in names.items() if value is not None}
    done = asyncio.run(copying.replay(target.model_copy(update={"event_log": source, **changes}), target))
    if as_json:
        terminal.print_json(done._asdict())
    else:
        terminal.out().print(f"{done.events:,} events in {done.records:,} records copied")


@app.command()
@answered
def demo(
    example: Annotated[str, typer.Option(help="A folder of examples/, or all: every story.")] = "caremessage",
    leave: Annotated[bool, typer.Option("--exit", help="End after the summary.")] = False,
    data: Annotated[Path, typer.Option(help="Folder for everything that is kept.")] = DEFAULT_DATA,
    port: Port = None,
) -> None:
    """Start the service on an example, play its events in over HTTP, and show where to look."""
    from impact_cli import demo as play

    play.run(example, data, port, stay=not leave and play.someone_watches())


app.add_typer(sending_app)
app.add_typer(looking_app)
app.add_typer(reading_app)
app.add_typer(catalog_app, name="catalog", no_args_is_help=True)
app.add_typer(keys_app, name="keys", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine", no_args_is_help=True)
app.add_typer(privacy_app, name="privacy", no_args_is_help=True)
app.add_typer(report_app, name="report")
app.add_typer(subjects_app, name="subjects", no_args_is_help=True)
