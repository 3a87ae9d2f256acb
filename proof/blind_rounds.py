"""`make proof ARGS=--blind`: each guard out, and the fault that must see it. Green here would mean blind."""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proof import oracle, power_cut, rounds
from proof.blindness import BLIND, program_without
from proof.faults import FAULTS
from proof.ledger import Ledger
from proof.scene import Scene
from proof.topologies import Servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from proof.blindness import Blind
    from proof.scene import Fault


class Seen(NamedTuple):
    """What became of a fault without its guards: the law that was broken, after so many rounds."""

    guards: str
    fault: str
    rounds: int
    broken: str  # empty: nothing was seen


def run(pace: float, console: Console) -> Iterator[Seen]:
    """Each of BLIND."""
    by_name = {fault.name: fault for fault in FAULTS}
    with ExitStack() as stack:
        servers: Servers | None = None
        for blind in BLIND:
            fault = by_name[blind.fault]
            if fault.kind == "production" and servers is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="impact-proof-")))
                folder.chmod(0o755)  # PostgreSQL runs as another user
                servers = stack.enter_context(Servers.running(folder))
            seen = _run_one(blind, fault, pace, servers)
            verdict = f"seen after {seen.rounds}: {seen.broken}" if seen.broken else "NOT SEEN"
            console.print(f"without {seen.guards}, {seen.fault}: {verdict}", markup=False)
            yield seen


def _run_one(blind: Blind, fault: Fault, pace: float, servers: Servers | None) -> Seen:
    """A new service for each seed, until one is red."""
    for seed in range(1, blind.most_seeds + 1):
        with tempfile.TemporaryDirectory(prefix="impact-proof-", ignore_cleanup_errors=True) as name:
            broken = _broken(blind, fault, Path(name), seed, pace, servers)
        if broken:
            return Seen(", ".join(blind.guards), fault.name, seed, broken.splitlines()[0][:200])
    return Seen(", ".join(blind.guards), fault.name, blind.most_seeds, "")


def _broken(blind: Blind, fault: Fault, folder: Path, seed: int, pace: float, servers: Servers | None) -> str:
    program = program_without(blind.guards)
    chance = random.Random(f"{fault.name}/{seed}")
    if fault.alone is not None:
        try:
            power_cut.run(folder, chance, pace, program)
        except oracle.Red as red:
            return str(red)
        return ""
    ledger = Ledger(folder / "ledger.db")
    try:
        with rounds.service_of(fault, folder, servers, program) as service:
            return rounds.play(fault, Scene(service, chance, pace), ledger, seed).broken
    finally:
        ledger.close()
