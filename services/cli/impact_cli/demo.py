"""`impact demo`: the whole service in a process of its own, and examples' events played in over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import httpx

from impact_cli import demo_summary, examples, lag, settings, status, terminal
from impact_cli.event_files import encode
from impact_cli.keys import read_keys_file
from impact_cli.send import SendError, Summary, Target, send
from impact_cli.server import listen
from impact_cli.terminal import Refused
from impact_database.engine import SchemaOutOfDate, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_cli.examples import Example
    from impact_cli.settings import Settings

LOG_FILE = "service.log"
DAY_FILE = "told-on"  # the day of the first run: later ones send the same events
START_TIMEOUT_S = 60.0
COUNT_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.1
SCRAPE_EVERY_S = 1.0  # more often would cost the service more than its own work
QUIET_S = 4.0  # a block of small cells is decided 2 s after its last change,
QUIET_TICKS = 4  # or a tick after it where ticks take longer
SAMPLE = re.compile(r"^impact_aggregator_(trends_waiting|evaluation_seconds_count) (\S+)$", re.MULTILINE)


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
    examples.write_catalogs(played, data / settings.CATALOG_FOLDER)
    with _ended_by_signals(), _service(data, _free_port(port)) as service:
        asyncio.run(_play(played, data, service, found, began))
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


class _Service:
    """`impact up` on the folder `data`."""

    def __init__(self, data: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log_file = data / LOG_FILE
        command = [sys.executable, "-m", "impact_cli", "up", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--catalog", str(data / settings.CATALOG_FOLDER), "--data", str(data)]
        with self._log_file.open("wb") as log:
            # in a session of its own: a Ctrl-C is for this process, which then ends the service
            self._process = subprocess.Popen(  # noqa: S603 (our own command)
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        """Raises Refused if it is not in good time."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise Refused(f"the service did not start:\n{self._tail()}")
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            time.sleep(LOOK_EVERY_S)
        raise Refused(f"the service is not ready after {START_TIMEOUT_S:.0f} s:\n{self._tail()}")

    async def judging(self, client: httpx.AsyncClient) -> tuple[int, int]:
        """How many trends are still to be worked out, and ticks until now. Raises Refused if it has ended."""
        if self._process.poll() is not None:
            raise Refused(f"the service has ended:\n{self._tail()}")
        found = dict(SAMPLE.findall((await client.get(f"{self.url}/metrics", timeout=30)).text))
        waiting, ticks = found.get("trends_waiting", 0), found.get("evaluation_seconds_count", 0)
        return int(float(waiting)), int(float(ticks))

    def end(self) -> None:
        """Returns when it has ended."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tail(self) -> str:
        lines = self._log_file.read_text("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-10:])


@contextmanager
def _service(data: Path, port: int) -> Iterator[_Service]:
    """The service once it is ready; ended on leaving."""
    service = _Service(data, port)
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.end()


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


async def _play(played: list[Example], data: Path, service: _Service, found: Settings, began: float) -> None:
    keys = read_keys_file(data / settings.KEYS_FILE)
    engine = connect(found.required_database_url())
    try:
        sent = [
            await _send(example, Target(url=service.url, key=keys[example.product], compress=False))
            for example in played
        ]
        await _wait_until_counted(found, engine)
        seconds = time.monotonic() - began
        await _wait_until_judged(service, engine)
    finally:
        await engine.dispose()
    products = {one.product: one for one in await status.read(found.required_database_url())}
    for example, summary in zip(played, sent, strict=True):
        demo_summary.show(products[example.product], example, summary, seconds, terminal.out())
    demo_summary.show_places(played[0], keys[played[0].product], data, service.url, terminal.out())


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
            if not behind and await lag.numbers_follow(engine):
                return
            bar.update(task, behind=behind)
            if time.monotonic() > deadline:
                raise Refused(
                    f"{behind:,} records are not counted after {COUNT_TIMEOUT_S:.0f} s: see impact doctor"
                )
            await asyncio.sleep(LOOK_EVERY_S)


async def _wait_until_judged(service: _Service, engine: AsyncEngine) -> None:
    """Until nothing has changed for a while: then small cells are decided, and trends worked out."""
    deadline = time.monotonic() + COUNT_TIMEOUT_S
    before, quiet_since, quiet_tick, ticks = "", time.monotonic(), 0, 0
    with terminal.progress_bar("{task.fields[behind]:,} trends to go") as bar:
        task = bar.add_task("judging", total=None, trouble="", behind=0)
        async with httpx.AsyncClient() as client:
            while ticks - quiet_tick < QUIET_TICKS or time.monotonic() - quiet_since < QUIET_S:
                waiting, ticks = await service.judging(client)
                changed = await lag.last_change(engine)
                if waiting or changed != before:
                    before, quiet_since, quiet_tick = changed, time.monotonic(), ticks
                bar.update(task, behind=waiting)
                if time.monotonic() > deadline:
                    terminal.err().print(
                        f"{waiting:,} trends are still to come: impact status has them later."
                    )
                    return
                await asyncio.sleep(SCRAPE_EVERY_S)
