"""`impact report` and `impact reports`, as they are called."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from impact_database.engine import connect
from impact_database.keys import create_key
from tests.cli.in_process import impact
from tests.cli.service import IMPACT, WAIT_S, environment, wait_until
from tests.rig.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.reports.conftest import Counted

DECEMBER = ("--product", "clinic", "--period", "2025-12")


@pytest.fixture
def data(counted: Counted, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(counted.file, folder / "metrics.db")
    return folder


def report(data: Path, *arguments: str) -> tuple[int, str]:
    done = impact("report", *arguments, "--data", str(data), "--out", str(data / "editions"))
    return done.exit_code, done.output


def test_an_edition_is_written_and_verified(data: Path) -> None:
    code, told = report(data, *DECEMBER, "--json")
    [made] = json.loads(told)
    assert (code, made["new"]) == (0, True)
    assert report(data, *DECEMBER)[1].endswith("(was there already)\n")
    assert impact("report", "verify", made["folder"]).exit_code == 0
    values = Path(made["folder"]) / "values.csv"
    values.write_bytes(values.read_bytes() + b" ")
    refused = impact("report", "verify", made["folder"])
    assert refused.exit_code == 1
    assert "values.csv is not as it was written" in refused.output


def test_what_is_due_is_written(data: Path) -> None:
    code, told = report(data, "--due", "--json")
    assert code == 0
    assert sorted(one["folder"].split("/")[-3] for one in json.loads(told)) == ["everyone", "funder"]
    assert report(data, "--due") == (0, "no edition is due\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "give --product and --period"),
        (("--product", "clinic"), 2, "give --product and --period"),
        (("--due", "--period", "2026"), 2, "--due alone"),
        (("--product", "clinic", "--period", "spring"), 2, "write a month 2026-07"),
        (("--product", "nobody", "--period", "2026"), 1, "impact status"),
        ((*DECEMBER, "--stakeholder", "nobody"), 1, "there are everyone, funder"),
    ],
)
def test_what_cannot_be_is_said(data: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    found, told = report(data, *arguments)
    assert found == code
    assert words in told


@pytest.fixture
def elsewhere(data: Path) -> Iterator[str]:
    """`impact reports` on an address that other machines reach."""
    port = free_port()
    settings = environment(
        IMPACT_DATABASE_URL=f"sqlite:///{data / 'metrics.db'}", IMPACT_HOST="0.0.0.0", IMPACT_PORT=str(port)
    )
    process = subprocess.Popen([*IMPACT, "reports"], env=settings, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(ready, "impact reports is ready", 60)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0


def test_where_others_reach_it_numbers_need_a_key(elsewhere: str, data: Path) -> None:
    async def make_key() -> str:
        engine = connect(f"sqlite:///{data / 'metrics.db'}")
        text, _ = await create_key(engine, "clinic", ["read"])
        await engine.dispose()
        return text

    with httpx.Client(base_url=elsewhere) as client:
        assert client.get("/").status_code == 303
        assert client.get("/v1/products").status_code == 401
        assert client.get("/public/clinic").status_code == 200
        assert client.get("/healthz").json() == {"alive": True}
        found = client.get("/v1/products", headers={"Authorization": f"Bearer {asyncio.run(make_key())}"})
        assert [row["product"] for row in found.json()["products"]] == ["clinic"]
