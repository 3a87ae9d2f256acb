"""`impact demo`: the whole service in a process of its own, and examples' events played in over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import httpx
from rich.markup import escape

from impact_cli import examples, lag, settings, status, terminal
from impact_cli.event_files import encode
from impact_cli.keys import read_keys_file
from impact_cli.send import SendError, Summary, Target, send
from impact_cli.server import listen
from impact_cli.terminal import Refused, shown
from impact_database.engine import SchemaOutOfDate, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_cli.examples import Example
    from impact_cli.settings import Settings

LOG_FILE = "service.log"
CATALOG_FOLDER = "catalog"
DAY_FILE = "told-on"  # the day of the first run: later ones send the same events
ANNOTATED = re.compile(r"(?<=\w)\{")  # kg{CO2e} is read as kg CO2e
BRACES = str.maketrans("", "", "{}")
QUERY = (
    "SELECT metric, segment, value, n FROM rolling_metrics"
    " WHERE product = '{product}' AND time_window = 'all' ORDER BY metric, segment"
)
READ_SQLITE = (  # for a machine without the command sqlite3
    "import sqlite3, sys; [print(*row, sep='|') for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])]"
)
START_TIMEOUT_S = 60.0
COUNT_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.1


def someone_watches() -> bool:
    """Whether a person is there to end the demo."""
    return sys.stdout.isatty() and not os.environ.get("CI")


def run(name: str, data: Path, port: int | None, *, stay: bool) -> None:
    """Ends after the summary, or with Ctrl-C if it is to `stay`. Raises Refused, WrongUse."""
    began = time.monotonic()
    found = settings.load().for_folder(data)
    played = examples.load(name, _told_on(data))
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(_look_at_earlier_runs(played, found, data))
    (data / DAY_FILE).write_text(f"{_told_on(data):%Y-%m-%d}\n", "ascii")
    examples.write_catalogs(played, data / CATALOG_FOLDER)
    with _ended_by_signals(), _service(data, _free_port(port)) as url:
        asyncio.run(_play(played, data, url, found, began))
        if stay:
            terminal.out().print("Ctrl-C ends it; the data stay in the folder.")
            with suppress(KeyboardInterrupt):
                signal.pause()


def _told_on(data: Path) -> datetime:
    """Now; in a folder with data, the day of its first run."""
    with suppress(OSError, ValueError):
        return datetime.fromisoformat((data / DAY_FILE).read_text("ascii").strip()).replace(tzinfo=UTC)
    return datetime.now(UTC)


def _free_port(given: int | None) -> int:
    """`given`; else the usual one; else any that is free."""
    if given:
        return given
    for port in (0,) if given == 0 else (settings.load().port, 0):
        with suppress(Refused), listen("127.0.0.1", port) as found:
            return int(found.getsockname()[1])
    raise Refused("no port of 127.0.0.1 is free")


# --- the service: a child process, so that it and the client use a core each ---------------------------


@contextmanager
def _service(data: Path, port: int) -> Iterator[str]:
    """The service's address once it is ready; ended on leaving."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "impact_cli", "up", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--catalog", str(data / CATALOG_FOLDER), "--data", str(data)]
    log_file = data / LOG_FILE
    with log_file.open("wb") as log:
        # in a session of its own: a Ctrl-C is for this process, which then ends the service
        process = subprocess.Popen(  # noqa: S603 (our own command)
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_ready(process, url, log_file)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log_file: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Refused(f"the service did not start:\n{_tail(log_file)}")
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(LOOK_EVERY_S)
    raise Refused(f"the service is not ready after {START_TIMEOUT_S:.0f} s:\n{_tail(log_file)}")


def _tail(log_file: Path) -> str:
    lines = log_file.read_text("utf-8", errors="replace").splitlines()
    return "\n".join(lines[-10:])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal leave like an exception, so that the service is ended too."""

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- playing in and looking ----------------------------------------------------------------------------


async def _play(played: list[Example], data: Path, url: str, found: Settings, began: float) -> None:
    keys = read_keys_file(data / settings.KEYS_FILE)
    engine = connect(found.required_database_url())
    try:
        sent = [
            await _send(example, Target(url=url, key=keys[example.product], compress=False))
            for example in played
        ]
        await _wait_until_counted(found, engine)
    finally:
        await engine.dispose()
    seconds = time.monotonic() - began
    products = {one.product: one for one in await status.read(found.required_database_url())}
    for example, summary in zip(played, sent, strict=True):
        _print_summary(products[example.product], example, summary, seconds)
    _print_where_to_look(played[0], keys[played[0].product], data, url)


async def _look_at_earlier_runs(played: list[Example], found: Settings, data: Path) -> None:
    """Raises Refused if the folder has the numbers of something else."""
    if not (data / settings.METRICS_DB).exists():
        return
    try:
        products = await status.read(found.required_database_url())
    except (Refused, SchemaOutOfDate):
        return  # a start that was cut off: the next one mends it
    others = {one.product for one in products} - {example.product for example in played}
    if others:
        raise Refused(
            f"{data} has the numbers of {', '.join(sorted(others))}: choose another folder with --data"
        )
    held = sum(one.ledger.received for one in products)
    if held:
        terminal.out().print(
            f"{data} already holds {held:,} events of this demo: sent again, they change no number.",
            markup=False,
        )


async def _send(example: Example, target: Target) -> Summary:
    terminal.err().print(f"Playing in {example.title} to {target.url} ...", markup=False)
    with terminal.progress_bar("{task.completed:,.0f} of {task.total:,} events") as bar:
        task = bar.add_task("sending", total=example.count, trouble="")

        def progress(so_far: Summary) -> None:
            bar.update(task, completed=so_far.events, trouble=so_far.trouble or "")

        try:
            return await send(map(encode, example.events()), target, progress)
        except SendError as error:
            raise Refused(str(error)) from error


async def _wait_until_counted(found: Settings, engine: AsyncEngine) -> None:
    deadline = time.monotonic() + COUNT_TIMEOUT_S
    with terminal.progress_bar("{task.fields[behind]:,} records to go") as bar:
        task = bar.add_task("counting", total=None, trouble="", behind=0)
        while True:
            behind = await lag.records_behind(found, engine)
            if not behind and await lag.windows_follow(engine):
                return
            bar.update(task, behind=behind)
            if time.monotonic() > deadline:
                raise Refused(
                    f"{behind:,} records are not counted after {COUNT_TIMEOUT_S:.0f} s: see impact doctor"
                )
            await asyncio.sleep(LOOK_EVERY_S)


def _print_summary(one: status.Product, example: Example, sent: Summary, seconds: float) -> None:
    console = terminal.out()
    console.print(
        f"\n[bold]{escape(example.title)}[/]: {sent.events:,} events over HTTP in {sent.seconds:.1f} s "
        f"({sent.events / sent.seconds:,.0f} a second), counted after {seconds:.1f} s in all"
    )
    ledger = one.ledger
    console.print(
        f"{ledger.received:,} received = {ledger.counted:,} counted + {ledger.duplicates:,} duplicates "
        f"+ {ledger.quarantined:,} quarantined"
    )
    numbers = [number for number in one.numbers if number.window == "all"]
    width = max((len(number.title) for number in numbers), default=0)
    for number in numbers:
        unit = ANNOTATED.sub(" ", number.unit).translate(BRACES) if number.unit != "1" else ""
        console.print(f"  {number.title:<{width}}  [bold]{shown(number.value):>15}[/] {escape(unit)}")


def _print_where_to_look(example: Example, key: str, data: Path, url: str) -> None:
    database = data / settings.METRICS_DB
    query = QUERY.format(product=example.product)
    event = encode({**next(example.events()), "id": "my-first-event"}).decode()
    lines = (
        ("Database", str(database)),
        ("A query", _query_command(database, query)),
        (
            "An event",
            f"curl -i {url}/v1/events -H 'Authorization: Bearer {key}' "
            f"-H 'Content-Type: application/cloudevents+json' -d {shlex.quote(event)}",
        ),
        ("Prometheus", f"curl {url}/metrics"),
        ("API docs", f"{url}/docs"),
        ("Numbers", f"impact status --data {shlex.quote(str(data))}"),
        (
            "Again",
            f"impact up --catalog {shlex.quote(str(data / CATALOG_FOLDER))} --data {shlex.quote(str(data))}",
        ),
    )
    for name, text in lines:
        terminal.out().print(f"[bold]{name:<11}[/]{escape(text)}")


def _query_command(database: Path, query: str) -> str:
    """A command that works on this machine: not everybody has sqlite3."""
    # in double quotes: the SQL has single ones, and nothing that a shell expands
    arguments = f'{shlex.quote(str(database))} "{query}"'
    if shutil.which("sqlite3"):
        return f"sqlite3 -header {arguments}"
    python = shlex.quote(sys.executable)
    if sys.version_info >= (3, 12):
        return f"{python} -m sqlite3 {arguments}"
    return f'{python} -c "{READ_SQLITE}" {arguments}'
