"""The command `impact`: what it takes and prints. Each command's work is in the module that it names.

Modules of a service are imported by the command that needs them: an image holds one service alone.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.table import Table

from impact_cli import catalogs, settings, terminal
from impact_cli.terminal import Refused, WrongUse, answered
from impact_schemas.catalog import CatalogFaults, catalog_json_schema, catalog_warnings, parse_catalogs
from impact_schemas.catalog.models import NAME
from impact_schemas.tables import to_micros

if TYPE_CHECKING:
    from impact_cli import quarantine
    from impact_cli.send import Target

DEFAULT_DATA = Path("impact-data")

app = typer.Typer(
    help="Impact Telemetry: product events become live impact numbers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug is for developers: a plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
catalog_app = typer.Typer(help="The catalog: what events look like and which numbers they become.")
keys_app = typer.Typer(help="API keys of products.")
import_app = typer.Typer(help="Files of partners that were sent with impact send --csv.")
quarantine_app = typer.Typer(help="Events that could not be counted: why, and their replay.")
subjects_app = typer.Typer(help="The people and things that events are about.")
app.add_typer(subjects_app, name="subjects", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog", no_args_is_help=True)
app.add_typer(keys_app, name="keys", no_args_is_help=True)
app.add_typer(import_app, name="import", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine", no_args_is_help=True)

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


def _settings(data: Path | None = None) -> settings.Settings:
    """The environment; with `data`, or where nothing is set and ./impact-data is there, that folder's."""
    found = settings.load()
    if data is not None:
        if not (data / settings.METRICS_DB).exists():
            raise WrongUse(f"{data} is no data folder of 'impact up': it has no {settings.METRICS_DB}")
        return found.for_folder(data)
    if found.database_url is None and (DEFAULT_DATA / settings.METRICS_DB).exists():
        return found.for_folder(DEFAULT_DATA)
    return found


def _with(found: settings.Settings, **given: object) -> settings.Settings:
    """Options win over the environment."""
    return found.model_copy(update={name: value for name, value in given.items() if value is not None})


# --- services -----------------------------------------------------------------------------------------


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

    assemble.up(_with(settings.load(), catalog=catalog, host=host, port=port), data)


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
def migrate(
    data: Data = None,
    print_only: Annotated[bool, typer.Option("--print", help="Only show what would be done.")] = False,
) -> None:
    """Bring the database's schema up to date and make the Kafka topics. May be repeated."""
    from impact_cli import assemble

    for line in asyncio.run(assemble.migrate(_settings(data), print_only=print_only)):
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

    done = asyncio.run(recount.rebuild(_with(_settings(data), catalog=catalog), metric or []))
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

    target = _settings(None)
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
    example: Annotated[str, typer.Option(help="A folder of examples/.")] = "flights",
    leave: Annotated[bool, typer.Option("--exit", help="End after the summary.")] = False,
    data: Annotated[Path, typer.Option(help="Folder for everything that is kept.")] = DEFAULT_DATA,
    port: Port = None,
) -> None:
    """Start the service on an example, play its events in over HTTP, and show where to look."""
    from impact_cli import demo as play

    play.run(example, data, port, stay=not leave and play.someone_watches())


# --- sending ------------------------------------------------------------------------------------------


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


# --- looking ------------------------------------------------------------------------------------------


@app.command()
@answered
def status(data: Data = None, as_json: AsJson = False) -> None:
    """Show every product's numbers now, and what became of the events."""
    from impact_cli import status as look

    found = asyncio.run(look.read(_settings(data).required_database_url()))
    if as_json:
        terminal.print_json(found)
    else:
        look.show(found, terminal.out())


@app.command()
@answered
def doctor(catalog: CatalogPath = None, data: Data = None, as_json: AsJson = False) -> None:
    """Check the installation: what is wrong, and the one next command. Exit code 1 if anything is."""
    from impact_cli import doctor as examine

    checks = asyncio.run(examine.examine(lambda: _with(_settings(data), catalog=catalog)))
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

    found = asyncio.run(
        why.read(_settings(data), Scope(product, metric), segment, window, with_log=not quick)
    )
    if as_json:
        terminal.print_json(found)
    else:
        why.show(found, terminal.out())


@app.command()
@answered
def verify(
    product: Annotated[str | None, typer.Option(help="Only this product's numbers.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric; of a ratio its parts too.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every number from the event log, apart from the service's own code, and compare.

    Exit code 1 if any number differs.
    """
    from impact_cli import verify as audit

    report = asyncio.run(audit.run(_settings(data), product, metric))
    if as_json:
        terminal.print_json(report)
    else:
        audit.show(report, terminal.out())
    if not report.equal:
        raise typer.Exit(terminal.NO)


# --- catalog ------------------------------------------------------------------------------------------


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

    found = _settings(data)
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


# --- keys ---------------------------------------------------------------------------------------------


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
            _settings(data).required_database_url(), product, scope or ["write"], label, expires_in_days
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

    found = asyncio.run(keys.listed(_settings(data).required_database_url(), product))
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

    if not asyncio.run(keys.revoke(_settings(data).required_database_url(), key_id)):
        raise Refused(f"there is no key {key_id} that could be revoked: impact keys list shows them")
    terminal.out().print(f"{key_id} is revoked", markup=False)


# --- quarantine -----------------------------------------------------------------------------------------


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

    found = asyncio.run(quarantine.listed(_settings(data), _filter(product, code, since, until), limit))
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

    found = asyncio.run(quarantine.shown(_settings(data), name))
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

    Identity and receipt time stay. It may be repeated. Exit code 1 if any event was not replayed. With an
    embedded event log 'impact up' must be stopped first.
    """
    from impact_cli import quarantine

    found = _with(_settings(data), catalog=catalog)
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

    found = _with(_settings(data), catalog=catalog)
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
