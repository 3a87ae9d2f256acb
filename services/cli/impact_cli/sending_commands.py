"""`impact send`, `impact try` and `impact import`: events on their way in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from impact_cli import catalogs, settings, terminal
from impact_cli.options import DEFAULT_DATA, AsJson, Key, KeysFile, Mapping, State, Url
from impact_cli.terminal import WrongUse, answered

if TYPE_CHECKING:
    from impact_cli.send import Target

app = typer.Typer()
import_app = typer.Typer(help="Files of partners that were sent with impact send --csv.")
app.add_typer(import_app, name="import", no_args_is_help=True)


@app.command()
@answered
def send(
    file: Annotated[
        str | None, typer.Argument(help="NDJSON, JSON or CSV of events; - for standard input.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--csv", help="Instead: a partner's CSV file, read by --map.")
    ] = None,
    mapping: Mapping = None,
    replace: Annotated[
        bool, typer.Option(help="With --csv: take back rows that were sent before and are not in it.")
    ] = False,
    strict: Annotated[bool, typer.Option(help="With --csv: send nothing if any row is wrong.")] = False,
    state: State = None,
    url: Url = "http://127.0.0.1:8080",
    key: Key = None,
    keys_file: KeysFile = None,
    product: Annotated[str | None, typer.Option(help="Whose key to take from the keys file.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="ndjson, json or csv; seen by itself.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events a request.")] = 1_000,
    in_flight: Annotated[
        int, typer.Option(min=1, max=64, help="Requests at once; with 1 events arrive in their order.")
    ] = 4,
    retry_for: Annotated[float, typer.Option(min=0, help="Seconds to try a request again.")] = 60.0,
    dry_run: Annotated[bool, typer.Option(help="Only ask for the verdicts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send events to a running ingest service. Exit code 1 if any event was rejected.

    The same file may be sent again: no event is counted twice. A partner's file may come again with other
    values: its changed rows become corrections. What was sent of it is noted in a journal beside the mapping.
    """
    from impact_cli import send_file
    from impact_cli.send import Target

    if (file is None) == (rows is None):
        raise WrongUse("give either a file of events, or --csv FILE with --map MAPPING")
    if rows is not None:
        options = (dry_run, replace, strict)
        access = _Access(url, key, keys_file, product, retry_for)
        _send_rows(rows, _mapping_file(mapping), state, access, options, as_json)
        return
    if mapping is not None or replace or strict or file is None:
        raise WrongUse("--map, --replace and --strict are for a partner's file: give it with --csv")
    target = Target(
        url=url,
        key=send_file.find_key(key, keys_file, DEFAULT_DATA / settings.KEYS_FILE, product),
        dry_run=dry_run,
        compress=send_file.compress_for(url),
        in_flight=in_flight,
        batch_events=batch,
        retry_for_s=retry_for,
    )
    summary = send_file.run(file, target, form)
    if as_json:
        terminal.print_json(summary)
    else:
        send_file.print_summary(summary, dry_run)
    if summary.rejected:
        raise typer.Exit(terminal.NO)


class _Access(NamedTuple):
    """How a partner's file reaches the service."""

    url: str
    key: str | None
    keys_file: Path | None
    product: str | None = None
    retry_for: float = 60.0


def _send_rows(
    rows: Path,
    mapping_file: Path,
    state: Path | None,
    access: _Access,
    options: tuple[bool, bool, bool],
    as_json: bool,
) -> None:
    from impact_cli import partner_import
    from impact_cli.partner_mapping import read_mapping

    mapping = read_mapping(mapping_file)
    chosen = partner_import.Options(*options)
    try:
        target = _partner_target(access, mapping.product)
    except WrongUse:
        if not chosen.dry_run:
            raise
        target = None  # a dry run can do without the service
    journal = partner_import.journal_file(mapping_file, state)
    report = partner_import.run(rows, mapping, journal, access.url, target, chosen)
    if as_json:
        terminal.print_json(report)
    else:
        partner_import.show(report, terminal.out())
    if report.refused:
        raise typer.Exit(terminal.NO)


def _partner_target(access: _Access, product: str | None) -> Target:
    from impact_cli import send_file
    from impact_cli.send import Target

    default, owner = DEFAULT_DATA / settings.KEYS_FILE, access.product or product
    key = send_file.find_key(access.key, access.keys_file, default, owner)
    compress = send_file.compress_for(access.url)
    return Target(url=access.url, key=key, compress=compress, retry_for_s=access.retry_for)


def _mapping_file(mapping: Path | None) -> Path:
    if mapping is None:
        raise WrongUse("give the mapping file with --map: examples/partner/mapping.yaml shows one")
    return mapping


@import_app.command("list")
@answered
def import_list(mapping: Mapping = None, state: State = None, as_json: AsJson = False) -> None:
    """List the files that were sent by a mapping, as its journal knows them."""
    from impact_cli import partner_import

    found = partner_import.imports(partner_import.journal_file(_mapping_file(mapping), state))
    if as_json:
        terminal.print_json(found)
    else:
        partner_import.show_imports(found, terminal.out())


@import_app.command("undo")
@answered
def import_undo(
    importid: Annotated[str, typer.Argument(help="As import list shows it.")],
    mapping: Mapping = None,
    state: State = None,
    url: Url = "http://127.0.0.1:8080",
    key: Key = None,
    keys_file: KeysFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a whole file back: its new rows are retracted, those that it changed are as before."""
    from impact_cli import partner_import
    from impact_cli.partner_mapping import read_mapping

    mapping_file = _mapping_file(mapping)
    target = _partner_target(_Access(url, key, keys_file), read_mapping(mapping_file).product)
    undone = partner_import.undo(importid, partner_import.journal_file(mapping_file, state), target)
    if as_json:
        terminal.print_json(undone)
    else:
        partner_import.show_undone(undone, terminal.out())
    if undone.left or undone.rejected:
        raise typer.Exit(terminal.NO)


@app.command("try")
@answered
def try_(
    catalog: Annotated[Path, typer.Argument(help="Catalog file, or folder of them.")],
    events: Annotated[str, typer.Argument(help="NDJSON, JSON or CSV; - for standard input.")],
    product: Annotated[str | None, typer.Option(help="Whose events; else by their types.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="ndjson, json or csv; seen by itself.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fold a file of events in memory: every verdict, every metric, no server.

    Exit code 1 if any event was rejected. The events are taken as received now.
    """
    from impact_cli import event_files, trial

    found = catalogs.load(catalog)
    if product is not None and product not in found:
        raise WrongUse(f"{catalog} has no catalog of {product}: it has {', '.join(sorted(found))}")
    with event_files.opened(events, form) as texts:
        tried = trial.run(found, texts, product)
    if as_json:
        terminal.print_json(tried)
    else:
        trial.show(tried, terminal.out())
    if tried.refused:
        raise typer.Exit(terminal.NO)
