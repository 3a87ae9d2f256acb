"""Puts services together: the only place that knows all of them. Each runs until SIGTERM or SIGINT.

A service's modules are imported by the function that runs it: an image holds one service alone.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog
import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from impact_cli import catalogs, event_logs, logs
from impact_cli.keys import ensure_keys, write_secret
from impact_cli.operations import ByPath, MetricsGuard, is_loopback, operations_app
from impact_cli.server import listen, serve, url_of
from impact_cli.settings import (
    KEYS_FILE,
    PSEUDONYM_CHECK_FILE,
    PSEUDONYM_KEY_FILE,
    Settings,
    SettingsError,
    load_limits,
)
from impact_cli.terminal import Refused
from impact_database import migrate as schema
from impact_database.engine import SchemaOutOfDate, connect
from impact_database.event_status import SqlEventStatus
from impact_database.keys import SqlKeyStore
from impact_schemas.identity import Identities, Pseudonyms, derive_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from pathlib import Path

    from fastapi import FastAPI
    from sqlalchemy.ext.asyncio import AsyncEngine
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from impact_aggregator.runner import Aggregator
    from impact_cli.http_whole import Take
    from impact_cli.operations import Check
    from impact_cli.partner_door import HttpDoor
    from impact_eventlog.ports import EventLogWriter
    from impact_ingest.app import DoorApp
    from impact_ingest.rules import Rules
    from impact_schemas.catalog import Catalog

log = structlog.get_logger(__name__)

OPERATIONS_PATHS = ("/healthz", "/readyz", "/metrics")
DOOR_PATHS = ("/v1/events", "/docs", "/openapi.json", *OPERATIONS_PATHS)


# --- the processes ------------------------------------------------------------------------------------


def up(settings: Settings, folder: Path) -> None:
    """Everything in one process over the embedded log and database in `folder`.

    Raises SettingsError, NoCatalog, CatalogFaults, Refused, LogError.
    """
    found = catalogs.load(settings.catalog_path())
    with listen(settings.host, settings.port) as listening:
        os.umask(0o077)  # whatever is written holds keys, pseudonyms or events
        _make_folder(folder)
        settings = settings.for_folder(folder)
        ensure_pseudonym_key(settings, folder)
        _run(settings, _up(settings, folder, found, listening))


def ingest(settings: Settings) -> None:
    """The door alone. Raises SettingsError, NoCatalog, CatalogFaults, Refused, LogError, SchemaOutOfDate."""
    found = catalogs.load(settings.for_production().catalog_path())
    with listen(settings.host, settings.port) as listening:
        _run(settings, _ingest(settings, found, listening))


def aggregator(settings: Settings) -> None:
    """An aggregator alone. Raises as `ingest` does, and SchemaOutOfDate."""
    found = catalogs.load(settings.for_production().catalog_path())
    with listen(settings.host, settings.metrics_port) as listening:
        _run(settings, _aggregator(settings, found, listening))


def reports(settings: Settings) -> None:
    """The pages and the query API alone. Raises SettingsError, Refused, SchemaOutOfDate."""
    with listen(settings.host, settings.port) as listening:
        _run(settings, _reports_alone(settings, listening))


async def migrate(settings: Settings, *, print_only: bool) -> list[str]:
    """Brings schema and topics up to date and tells what was done, or only what would be."""
    told = []
    async with _database(settings) as engine:
        try:
            await schema.check(engine)
            told.append("database: up to date")
        except SchemaOutOfDate as error:
            told.append(f"database: {error}" if print_only else "database: brought up to date")
        if not print_only:
            await schema.upgrade(engine)  # repeated where nothing is to be done: the views are made anew
    bootstrap = settings.kafka_bootstrap()
    if bootstrap is not None:
        told.extend(await _make_topics(settings, bootstrap, print_only=print_only))
    return told


async def _make_topics(settings: Settings, bootstrap: str, *, print_only: bool) -> list[str]:
    from impact_eventlog.kafka import create_topics

    topics = event_logs.topics_of(settings)
    shape = f"{settings.kafka_partitions} partitions, replication factor {settings.kafka_replication_factor}"
    if print_only:
        return [f"topic {name}: {shape}, kept for ever; made unless it is there" for name in topics]
    made = await create_topics(event_logs.kafka_settings(settings, bootstrap), topics)
    return [
        f"topic {name}: made with {shape}" if name in made else f"topic {name}: is there" for name in topics
    ]


# --- what they are made of ------------------------------------------------------------------------------


async def _up(
    settings: Settings, folder: Path, found: Mapping[str, Catalog], listening: socket.socket
) -> None:
    async with AsyncExitStack() as stack:
        # the writer first: it holds the folder's lock, so that a second service changes nothing
        writer = await stack.enter_async_context(event_logs.writing(settings, takes_guests=True))
        engine = await stack.enter_async_context(_database(settings))
        await schema.upgrade(engine)
        await _check_log(settings, engine, writer)
        await ensure_keys(engine, folder / KEYS_FILE, found)
        registry = CollectorRegistry()
        counting = counting_of(settings, found, engine, registry, writer)
        door = await stack.enter_async_context(
            _door(
                settings,
                found,
                engine,
                registry,
                writer,
                {"aggregator": counting.ready},
                more_metrics=counting.business_gauges,
            )
        )
        guard_metrics(door.app, settings)
        pages = await stack.enter_async_context(_reports(_with_pages(settings, url_of(listening))))

        async def use(changed: Mapping[str, Catalog]) -> None:
            await ensure_keys(engine, folder / KEYS_FILE, changed)
            counting.use(changed)
            door.rules.use(changed)

        url = url_of(listening)
        log.info(
            "started",
            url=url,
            pages=f"{url}/",
            docs=f"{url}/docs",
            keys=str(folder / KEYS_FILE),
            products=sorted(found),
        )
        watching = catalogs.watch(settings.catalog_path(), use)
        await _serve(
            ByPath(DOOR_PATHS, door.app, pages),
            listening,
            _count(counting),
            watching,
            take=door.app.express.take,
        )


async def _ingest(settings: Settings, found: Mapping[str, Catalog], listening: socket.socket) -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(_database(settings))
        await _check_if_it_answers(engine)
        writer = await stack.enter_async_context(event_logs.writing(settings))
        door = await stack.enter_async_context(
            _door(settings, found, engine, CollectorRegistry(), writer, {})
        )

        async def use(changed: Mapping[str, Catalog]) -> None:
            door.rules.use(changed)

        log.info("started", url=url_of(listening), products=sorted(found))
        watching = catalogs.watch(settings.catalog_path(), use)
        await _serve(door.app, listening, watching, take=door.app.express.take)


async def _aggregator(settings: Settings, found: Mapping[str, Catalog], listening: socket.socket) -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(_database(settings))
        await schema.check(engine)
        registry = CollectorRegistry()
        counting = counting_of(settings, found, engine, registry, None)
        app = operations_app(registry, {"aggregator": counting.ready}, counting.business_gauges)
        guard_metrics(app, settings)

        async def use(changed: Mapping[str, Catalog]) -> None:
            counting.use(changed)

        log.info("started", url=url_of(listening), products=sorted(found))
        await _serve(app, listening, _count(counting), catalogs.watch(settings.catalog_path(), use))


async def _reports_alone(settings: Settings, listening: socket.socket) -> None:
    async with _database(settings) as engine:
        await schema.check(engine)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # it has no metrics of its own yet: memory, time, open files
        operations = operations_app(registry, {"database": partial(_answers, engine)})
        async with _reports(settings) as pages:
            log.info("started", url=url_of(listening))
            await _serve(ByPath(OPERATIONS_PATHS, operations, pages), listening)


@asynccontextmanager
async def _reports(settings: Settings) -> AsyncIterator[FastAPI]:
    """The pages, over connections of their own: readers and the aggregator do not wait for each other."""
    from impact_reports.app import create_app

    key = settings.session_key
    async with _database(settings) as engine:
        keys = SqlKeyStore(engine)
        await keys.start()
        try:
            yield create_app(
                engine,
                keys,
                # without the setting everybody signs in again after a restart
                session_key=key.get_secret_value().encode() if key else secrets.token_bytes(32),
                open_to_all=is_loopback(settings.host),
                door=_door_of_pages(settings),
            )
        finally:
            await keys.stop()


def _with_pages(settings: Settings, url: str) -> Settings:
    """In one process the pages send to their own port, and what they hash stays the same over a restart."""
    key = settings.session_key or SecretStr(derive_key(settings.master_key(), "pages").hex())
    return settings.model_copy(update={"ingest_url": settings.ingest_url or url, "session_key": key})


def _door_of_pages(settings: Settings) -> HttpDoor | None:
    """None: uploads are off. Without the key of the sessions resent rows would not be known again."""
    if settings.ingest_url is None or settings.session_key is None:
        return None
    from impact_cli.partner_door import HttpDoor

    return HttpDoor(settings.ingest_url)


async def _answers(engine: AsyncEngine) -> bool:
    await schema.check(engine)
    return True


class _Door(NamedTuple):
    app: DoorApp
    rules: Rules


@asynccontextmanager
async def _door(
    settings: Settings,
    found: Mapping[str, Catalog],
    engine: AsyncEngine,
    registry: CollectorRegistry,
    writer: EventLogWriter,
    readiness: Mapping[str, Check],
    more_metrics: Callable[[], bytes] = bytes,
) -> AsyncIterator[_Door]:
    from impact_ingest.app import create_app
    from impact_ingest.limits import Limits
    from impact_ingest.rules import Rules

    events_topic, quarantine_topic = event_logs.topics_of(settings)
    master = settings.master_key()
    keys = SqlKeyStore(engine)
    rules = Rules(found)
    app = create_app(
        catalogs=rules,
        writer=writer,
        keys=keys,
        identities=Identities(master),
        pseudonyms=Pseudonyms(master),
        registry=registry,
        limits=load_limits(Limits),
        events_topic=events_topic,
        quarantine_topic=quarantine_topic,
        readiness={"event log": writer.ready, "keys": keys.ready, **readiness},
        more_metrics=more_metrics,
        known_events=SqlEventStatus(engine),
    )
    await keys.start()
    try:
        yield _Door(app, rules)
    finally:
        await keys.stop()


def counting_of(
    settings: Settings,
    found: Mapping[str, Catalog],
    engine: AsyncEngine,
    registry: CollectorRegistry,
    writer: EventLogWriter | None,
) -> Aggregator:
    """The aggregator, which starts and stops its reader itself."""
    from impact_aggregator.runner import Aggregator

    return Aggregator(
        reader=event_logs.open_reader(settings, group=settings.kafka_group, beside=writer),
        history=event_logs.open_reader(settings, group=None, beside=writer),
        engine=engine,
        catalogs=found,
        identities=Identities(settings.master_key()),
        registry=registry,
        quarantine_topic=settings.kafka_quarantine_topic,
        # in one folder there is one process, which need not wait for the lease that it had before a crash
        holder=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}" if writer is None else "up",
    )


async def _check_log(settings: Settings, engine: AsyncEngine, writer: EventLogWriter) -> None:
    """Raises Refused before the door opens: what it appended to a log that is not counted would be lost."""
    from impact_aggregator.store import LogReplaced, check_log

    reader = event_logs.open_reader(settings, group=None, beside=writer)
    await reader.start()
    try:
        await check_log(engine, reader)
    except LogReplaced as error:
        raise Refused(str(error)) from error
    finally:
        await reader.stop()


async def _count(counting: Aggregator) -> None:
    """Raises Refused if the aggregator cannot go on."""
    from impact_aggregator.runner import Stalled
    from impact_aggregator.store import LogReplaced

    try:
        await counting.run()
    except (LogReplaced, Stalled) as error:
        raise Refused(str(error)) from error


async def _check_if_it_answers(engine: AsyncEngine) -> None:
    """Raises SchemaOutOfDate. The door starts without a database that is down, and loads its keys later."""
    try:
        await schema.check(engine)
    except (SQLAlchemyError, OSError) as error:
        log.warning("schema_not_checked", error=type(error).__name__)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = connect(settings.required_database_url())
    try:
        yield engine
    finally:
        await engine.dispose()


def guard_metrics(app: Starlette, settings: Settings) -> None:
    """Business gauges are for everybody on this machine, beyond it for the holder of the token."""
    token = settings.metrics_token
    if token is not None or not is_loopback(settings.host):
        app.add_middleware(MetricsGuard, token=token.get_secret_value() if token else None)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"cannot make the data folder {folder}: {error.strerror}") from error


def ensure_pseudonym_key(settings: Settings, folder: Path) -> None:
    """Makes the folder's key on the first start. Raises SettingsError where it is gone, or is another.

    Under another key everybody would be counted again and no resent event would be known.
    """
    own, check = folder / PSEUDONYM_KEY_FILE, folder / PSEUDONYM_CHECK_FILE
    if settings.pseudonym_key_file == own and not own.exists():
        if check.exists():
            raise SettingsError(
                f"{own} is gone, but the events of {folder} were hashed with it: restore it from a backup, "
                "or give the key as IMPACT_PSEUDONYM_KEY"
            )
        write_secret(own, secrets.token_urlsafe(32) + "\n")
    fingerprint = derive_key(settings.master_key(), "fingerprint").hex()
    if not check.exists():
        write_secret(check, fingerprint + "\n")
    elif check.read_text("ascii").strip() != fingerprint:
        raise SettingsError(
            f"IMPACT_PSEUDONYM_KEY (or its file) is another key than that with which the events of {folder}"
            " were hashed: give that one, or use another folder"
        )


async def _serve(
    app: ASGIApp,
    listening: socket.socket,
    *beside: Coroutine[None, None, None],
    take: Take | None = None,
) -> None:
    # what is here now stays to the end: the collector need not look at it again
    gc.collect()
    gc.freeze()
    gc.set_threshold(
        100_000, 50, 100
    )  # batches make many objects and no cycles: a fifth of the time was spent here
    await serve(app, listening, *beside, take=take)
    log.info("stopped")


def _run(settings: Settings, main: Coroutine[None, None, None]) -> None:
    logs.configure(settings.log_level)
    factory = uvicorn.Config(
        "", loop="auto", log_config=None
    ).get_loop_factory()  # uvloop where it is installed
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
