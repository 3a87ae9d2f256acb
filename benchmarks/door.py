"""The door's own benchmark (`benchmarks.ingest`) as rows of the table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.process import ROOT, TIMEOUT_S
from benchmarks.results import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan

SECTION = "Ingest"
NOTE = (
    "`impact ingest` with `acks=all` on real Kafka, over up to 64 connections. The others do less: the"
    " bare route reads a body and says 202, FastAPI with pydantic has no keys and makes no pseudonyms. The"
    " floor is decode, schema, pseudonym, identity, encode and Kafka batch in a loop, without HTTP and"
    " broker. Small requests come to the door without a task, a scope and messages of ASGI. Of one"
    " event a request half is the socket and the parsing of HTTP, as in the bare route; about a quarter is"
    " the append of aiokafka, which costs by the batch: 64 connections fill each of 12 batches with 5 events;"
    " the rest is the door, in some 100 calls of Python of which none is large. With 10 a request it is the"
    " floor and the same append. Fewer partitions, or more connections at once, make both cheaper."
)
_OURS, _BARE = "the service", "a bare uvicorn route"


def run(plan: Plan) -> list[Row]:
    """All rows of the section."""
    plan.tell(f"{SECTION}: all loads")
    with tempfile.TemporaryDirectory(prefix="impact-bench-") as folder:
        file = Path(folder, "ingest.json")
        command = [sys.executable, "-m", "benchmarks.ingest", "--json", str(file)]
        if plan.runs == 1:
            command.append("--quick")
        # the command is a module of ours with our own arguments
        ran = subprocess.run(  # noqa: S603
            command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        if ran.returncode != 0:
            raise RuntimeError(f"benchmarks.ingest failed:\n{ran.stderr[-3000:]}")
        found = json.loads(file.read_text())["rows"]
    return list(_rows(found))


def _rows(found: list[dict[str, Any]]) -> Iterator[Row]:
    bare = {one["size"]: one["cpu_us"] for one in found if one["name"] == _BARE}
    for one in found:
        facts = [f"{one['ratio_to_floor']:.2f} x floor"]
        if one["name"] == _OURS and one["size"] in bare:
            facts.append(f"{bare[one['size']] / one['cpu_us']:.0%} of it a bare route")
        if "events_per_s" in one:
            facts.append(f"{one['events_per_s']:,.0f} events/s, {one['rss_mib']:.0f} MiB")
        size = one["size"]
        target, met = _target(one) if one["name"] == _OURS else ("", None)
        what = f"{one['name']}, {size:,} a request"
        yield Row(SECTION, what, one["cpu_us"], "us an event", ", ".join(facts), target, met)


def _target(one: dict[str, Any]) -> tuple[str, bool | None]:
    if one["size"] == 1000:
        return "<= 2 x floor", one["ratio_to_floor"] <= 2
    limit_us = {10: 8, 1: 40}.get(one["size"])
    return ("", None) if limit_us is None else (f"<= {limit_us} us", one["cpu_us"] <= limit_us)
