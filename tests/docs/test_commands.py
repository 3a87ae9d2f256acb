"""Every command of the documents is run, as a reader runs it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from impact_cli import lag, settings
from impact_database.engine import connect
from impact_eventlog.ports import LogError
from tests.cli.service import environment, wait_until
from tests.docs.documents import DOCUMENTS, Block, blocks, read
from tests.rig.servers import REPOSITORY, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = "impact-data"  # where `impact up` keeps its data if it is not told otherwise
# The documents speak of the usual port. What a reader has exported is there in the next block as well.
PRELUDE = """
set -euo pipefail
impact() {{
  case "$1 $*" in
    "send "*--url*) command impact "$@" ;;
    "send "*) shift; command impact send --url {url} "$@" ;;
    *) command impact "$@" ;;
  esac
}}
[ ! -e .state ] || . ./.state
set -a
"""


class Reader:
    """Somebody who copies a document's blocks into a terminal, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._service: subprocess.Popen[bytes] | None = None

    def write(self, block: Block) -> None:
        head, _, text = block.text.partition("\n")
        file = self._folder / head.removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run(self, block: Block) -> str:
        """What it prints on standard output."""
        if block.text.startswith("impact up"):
            self._start(block)
            return ""
        self._settle(f"line {block.line}: what was sent before is counted")
        if "impact digest" in block.text:
            self._wait_until_judged(block)
        url = f"http://127.0.0.1:{self._port}"
        text = re.sub(r"http://(localhost|127\.0\.0\.1):8080", url, block.text)
        script = PRELUDE.format(url=url) + text + "\nset +a\nexport -p > .state\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        code = int(match[1]) if (match := re.fullmatch(r"exit code (\d+)", block.note)) else 0
        assert done.returncode == code, f"line {block.line}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        if self._service is not None:
            self._service.send_signal(signal.SIGTERM)
            self._service.wait(30)
            print((self._folder / "service.log").read_text())  # noqa: T201 (pytest shows it if the test fails)

    def _start(self, block: Block) -> None:
        command = [*shlex.split(block.text), "--port", str(self._port)]
        with (self._folder / "service.log").open("wb") as log:
            self._service = subprocess.Popen(
                command, cwd=self._folder, env=self._environment(), stdout=log, stderr=log
            )
        wait_until(self._is_ready, f"line {block.line}: {block.text.strip()} is ready", 60)

    def _is_ready(self) -> bool:
        self._assert_running()
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def _settle(self, what: str) -> None:
        """Waits as long as a reader needs to go on to the next block: until all is counted."""
        if self._service is not None:
            wait_until(self._is_counted, what)
            time.sleep(0.1)

    def _wait_until_judged(self, block: Block) -> None:
        """Until what was counted has been evaluated: the second evaluation from now began after now."""
        wanted = self._evaluations() + 2
        wait_until(lambda: self._evaluations() >= wanted, f"line {block.line}: what was sent is judged")

    def _evaluations(self) -> int:
        text = httpx.get(f"http://127.0.0.1:{self._port}/metrics", timeout=10).text
        (found,) = re.findall(r"^impact_\w*evaluation_seconds_count(?:{.*})? (\S+)", text, re.MULTILINE)
        return int(float(found))

    def _assert_running(self) -> None:
        assert self._service is not None
        assert self._service.poll() is None, (self._folder / "service.log").read_text()

    def _is_counted(self) -> bool:
        self._assert_running()
        return asyncio.run(self._nothing_waits())

    async def _nothing_waits(self) -> bool:
        found = settings.Settings().for_folder(self._folder / DATA)
        engine = connect(found.required_database_url())
        try:
            return not await lag.records_behind(found, engine) and await lag.numbers_follow(engine)
        except LogError:
            return False
        finally:
            await engine.dispose()

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return environment(PATH=path, COLUMNS="110", HOME=str(self._folder))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """In a folder with the catalog of README.md, which the other documents speak of too."""
    reader = Reader(tmp_path)
    for block in blocks(read("README.md")):
        if block.kind == "yaml":
            reader.write(block)
    yield reader
    reader.stop()


def is_run_elsewhere(block: Block) -> bool:
    return block.note.startswith(("run by ", "not run: "))


@pytest.mark.parametrize(
    "document", [one for one in DOCUMENTS if any(b.kind == "sh" for b in blocks(read(one)))]
)
def test_every_command_does_what_the_document_says(document: str, reader: Reader) -> None:
    printed = None
    for block in blocks(read(document)):
        if block.kind == "yaml" and block.text.startswith("# "):
            reader.write(block)
        if block.kind == "text" and printed is not None:
            assert_printed(block, printed)
        runs = block.kind == "sh" and not is_run_elsewhere(block)
        printed = reader.run(block) if runs else None


def assert_printed(block: Block, printed: str) -> None:
    """The block's lines are among those printed, in their order."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in block.text.splitlines():
        wanted = " ".join(line.split())
        found = not wanted or wanted == "..." or any(one == wanted for one in lines)
        assert found, f"line {block.line}: {wanted!r} was not printed, but:\n{printed}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_is_run_elsewhere_is_run_there(document: str) -> None:
    for block in blocks(read(document)):
        if not block.note.startswith("run by "):
            continue
        runner = read(block.note.removeprefix("run by "))
        for line in block.text.splitlines():
            command = line.partition("#")[0].strip()
            assert command in runner, f"{block.note} does not run {command!r}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_has_a_kind_that_is_known(document: str) -> None:
    known = {"sh", "text", "yaml", "sql", "sql sqlite", "sql postgresql", "json"}
    assert [block for block in blocks(read(document)) if block.kind not in known] == []


def test_the_repository_is_where_the_documents_are() -> None:
    assert [document for document in DOCUMENTS if not (REPOSITORY / document).is_file()] == []
