"""`impact up` as a user starts it: a process of its own, on a free port, with a small catalog."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx

from tests.rig.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

IMPACT = [sys.executable, "-m", "impact_cli"]
START_S = 60.0  # a machine that is busy with other tests
WAIT_S = 30.0

CATALOG = """\
apiVersion: impact/v1
product: {product}
title: A {product}
sources: ["/{product}/*"]
events:
  {product}.visit.v1:
    data: {{type: object, required: [minutes], properties: {{minutes: {{type: number, minimum: 0}}}}}}
metrics:
  visits: {{title: Visits, event: {product}.visit.v1, aggregate: count, role: impact}}
  minutes:
    {{title: Minutes, event: {product}.visit.v1, aggregate: sum, of: data.minutes,
     unit: min, role: guardrail}}
  people: {{title: People, event: {product}.visit.v1, aggregate: unique, of: subject, role: impact}}
"""


def write_catalog(folder: Path, product: str = "clinic") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{product}.yaml").write_text(CATALOG.format(product=product))


def visit(number: int, minutes: float = 10, product: str = "clinic") -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"visit-{number}",
        "source": f"/{product}/north",
        "type": f"{product}.visit.v1",
        "subject": f"person-{number % 3}",
        "data": {"minutes": minutes},
    }


def environment(**settings: str) -> dict[str, str]:
    """This process's without the settings that a developer has, and with `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMPACT_")}
    return {**kept, "COLUMNS": "200", **settings}


def impact(*arguments: str, cwd: Path, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [*IMPACT, *arguments],
        cwd=cwd,
        input=stdin,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def wait_until(look: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Returns when `look` finds something true."""
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.05)


class Service:
    """`impact up --data <folder>/data --catalog <folder>/catalog`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def arguments(self) -> list[str]:
        return ["up", "--catalog", "catalog", "--data", "data", "--port", str(self.port)]

    def start(self) -> None:
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*IMPACT, *self.arguments], cwd=self.folder, env=environment(), stdout=log, stderr=log
            )
        wait_until(self._ready, "impact up is ready", START_S)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "up.log").read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self.process = None
        return code

    def key(self, product: str = "clinic") -> str:
        keys: dict[str, str] = json.loads((self.data / "keys.json").read_text())
        return keys[product]

    def post(self, events: Sequence[dict[str, Any]], product: str = "clinic") -> httpx.Response:
        return httpx.post(
            f"{self.url}/v1/events",
            json=events,
            headers={
                "Authorization": f"Bearer {self.key(product)}",
                "Content-Type": "application/cloudevents-batch+json",
            },
        )

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """As an analyst reads the file while the service runs."""
        with sqlite3.connect(f"file:{self.data / 'metrics.db'}?mode=ro", uri=True) as database:
            rows = database.execute(query).fetchall()
        database.close()
        return rows

    def value(self, metric: str, product: str = "clinic") -> float | None:
        rows = self.sql(
            "SELECT value FROM rolling_metrics WHERE segment = '{}' AND time_window = 'all' "
            f"AND metric = '{metric}' AND product = '{product}'"
        )
        return rows[0][0] if rows else None
