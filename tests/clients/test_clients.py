"""The example clients against a real service that is too busy at first: every event is counted, once."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import pytest

from impact_database.keys import REFRESH_S
from tests.cli.in_process import impact
from tests.cli.service import Service, environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"
RETRY_AFTER_S = 1
TOOL_TIMEOUT_S = 240


def cannot(reason: str) -> NoReturn:
    """Skips; in CI every client is run."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def tool(*names: str) -> str:
    """The path of the first command of these that is on this machine."""
    for name in names:
        if found := shutil.which(name):
            return found
    cannot(f"no {names[0]} on this machine: install it to run this client")


class BusyAtFirst:
    """Stands before the service: the first attempt of each body is told to come back in a second."""

    def __init__(self, url: str) -> None:
        self.attempts: dict[bytes, list[float]] = {}
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                times = front.attempts.setdefault(body, [])
                times.append(time.monotonic())
                if len(times) == 1:
                    self._answer(503, b"{}", {"Retry-After": str(RETRY_AFTER_S)})
                    return
                kept = {"authorization", "content-type"}
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() in kept or name.lower().startswith("ce-")
                }
                answer = httpx.post(url + self.path, content=body, headers=headers)
                self._answer(answer.status_code, answer.content, {})

            def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (fixed by http.server)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "catalog").symlink_to(CLIENTS / "catalog")
    running = Service(folder)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def front(service: Service) -> Iterator[BusyAtFirst]:
    front = BusyAtFirst(service.url)
    yield front
    front.close()


def run(command: Sequence[str | Path], folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=TOOL_TIMEOUT_S,
        check=False,
    )


def prepared(command: Sequence[str | Path], folder: Path) -> None:
    """A step that may need the network."""
    done = run(command, folder)
    if done.returncode:
        cannot(f"{command[0]} did not work here: {done.stderr[-500:]}")


def curl(_folder: Path) -> list[str | Path]:
    return [tool("sh"), CLIENTS / "curl" / "send.sh"] if tool("curl") else []


def python(_folder: Path) -> list[str | Path]:
    return [sys.executable, CLIENTS / "python" / "send.py"]


def js(folder: Path) -> list[str | Path]:
    node, npm = tool("node"), tool("npm")
    shutil.copytree(CLIENTS / "js", folder / "js", ignore=shutil.ignore_patterns("node_modules"))
    prepared([npm, "ci", "--no-audit", "--no-fund", "--prefer-offline"], folder / "js")
    return [node, folder / "js" / "send.js"]


def go(folder: Path) -> list[str | Path]:
    prepared([tool("go"), "build", "-mod=readonly", "-o", folder / "client", "."], CLIENTS / "go")
    return [folder / "client"]


@pytest.mark.parametrize("client", [curl, python, js, go], ids=lambda client: client.__name__)
def test_the_client_s_events_are_counted_once(
    service: Service, front: BusyAtFirst, tmp_path: Path, client: Any
) -> None:
    command = client(tmp_path)
    access = {"IMPACT_URL": front.url, "IMPACT_KEY": service.key()}
    for _ in range(2):  # the second run sends the same events
        done = run(command, tmp_path, **access)
        assert done.returncode == 0, (done.stdout, done.stderr)
    pauses = [times[1] - times[0] for times in front.attempts.values()]
    assert len(pauses) == 2  # one event, and a batch
    assert all(RETRY_AFTER_S <= pause < 10 for pause in pauses), pauses
    segment = json.dumps({"client": client.__name__}, separators=(",", ":"))
    query = f"SELECT value FROM rolling_metrics WHERE metric = 'visits' AND segment = '{segment}'"
    wait_until(lambda: (3,) in service.sql(query), f"the events of {client.__name__}")
    duplicates = "SELECT sum(duplicates) >= 3 FROM ledger"
    wait_until(lambda: service.sql(duplicates) == [(1,)], "the copies are told as such")
    assert (3,) in service.sql(query)


def test_a_client_that_is_refused_says_so(service: Service) -> None:
    access = {"IMPACT_URL": service.url, "IMPACT_KEY": "imp_00000000_" + "A" * 43}
    for client in (curl, python):
        assert run(client(CLIENTS), CLIENTS, **access).returncode != 0


def test_a_second_key_lives_beside_the_first_until_it_is_revoked(service: Service) -> None:
    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents-batch+json"}
        return httpx.post(f"{service.url}/v1/events", content=b"[]", headers=headers).status_code

    def made(*scopes: str) -> dict[str, str]:
        options = [option for scope in scopes for option in ("--scope", scope)]
        told = impact("keys", "create", "clinic", *options, "--data", str(service.data), "--json")
        key: dict[str, str] = json.loads(told.stdout)
        return key

    second = made("write", "import")
    assert (status(service.key()), status(second["key"])) == (202, 202)
    assert status(made("read")["key"]) == 403
    revoked = impact("keys", "revoke", second["key_id"], "--data", str(service.data))
    assert revoked.exit_code == 0
    # the running service loads its keys every REFRESH_S, and when it is shown one that it does not know
    assert REFRESH_S < 60
    assert status(f"imp_00000000_{'A' * 43}") == 401
    assert (status(second["key"]), status(service.key())) == (401, 202)
    listed = json.loads(impact("keys", "list", "clinic", "--data", str(service.data), "--json").stdout)
    assert {one["state"] for one in listed if one["key_id"] == second["key_id"]} == {"revoked"}


def test_the_outbox_forgets_an_event_only_after_its_verdict() -> None:
    spec = importlib.util.spec_from_file_location("outbox", CLIENTS / "python" / "outbox.py")
    assert spec is not None
    assert spec.loader is not None
    outbox = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(outbox)
    posted: list[list[str]] = []

    def unavailable(events: list[str]) -> None:
        posted.append(events)

    def refuses_the_second(events: list[str]) -> dict[int, str]:
        posted.append(events)
        return {1: "schema_violation"}

    with sqlite3.connect(":memory:") as database:
        database.executescript(outbox.SCHEMA)
        for number in range(3):
            outbox.put(database, f"event {number}")
        database.commit()
        assert outbox.relay(database, unavailable) == 0
        assert outbox.relay(database, refuses_the_second) == 3
        assert posted[0] == posted[1] == ["event 0", "event 1", "event 2"]
        assert outbox.relay(database, refuses_the_second) == 0
        refused = database.execute("SELECT * FROM outbox_refused").fetchall()
    database.close()
    assert refused == [("event 1", "schema_violation")]
