"""`make proof ARGS=--blind`: each guard out, and the fault that must see it. Green here would mean blind."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proof import oracle, power_cut, rounds, small_cells
from proof.blindness import program_without
from proof.faults import FAULTS
from proof.ledger import Ledger
from proof.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console

    from proof.blindness import Blind
    from proof.scene import Fault
    from proof.topologies import Servers


# what makes its own service, of the given program; small cells are no fault: publications must protect them
ALONE = {"power-cut": power_cut.run, "small-cells": small_cells.run}
BY_NAME = {fault.name: fault for fault in (*FAULTS, small_cells.CHECK)}


class Seen(NamedTuple):
    """What became of a fault without its guards: the law that was broken, after so many rounds."""

    guards: str
    fault: str
    rounds: int
    broken: str  # empty: nothing was seen


def run(
    blinds: Iterable[Blind], pace: float, console: Console, servers: Callable[[], Servers]
) -> Iterator[Seen]:
    """What became of each."""
    for blind in blinds:
        fault = BY_NAME[blind.fault]
        needed = servers() if fault.kind == "production" and fault.alone is None else None
        seen = _run_one(blind, fault, pace, needed)
        verdict = f"seen after {seen.rounds}: {seen.broken}" if seen.broken else "NOT SEEN"
        console.print(f"without {seen.guards}, {seen.fault}: {verdict}", markup=False)
        yield seen


def _run_one(blind: Blind, fault: Fault, pace: float, servers: Servers | None) -> Seen:
    """A new service for each seed, until one is red."""
    for seed in range(1, blind.most_seeds + 1):
        with tempfile.TemporaryDirectory(prefix="impact-proof-", ignore_cleanup_errors=True) as name:
            broken = blind.seen_in(_broken(blind, fault, Path(name), seed, pace, servers))
        if broken:
            return Seen(", ".join(blind.guards), fault.name, seed, broken[:200])
    return Seen(", ".join(blind.guards), fault.name, blind.most_seeds, "")


def _broken(blind: Blind, fault: Fault, folder: Path, seed: int, pace: float, servers: Servers | None) -> str:
    program = program_without(blind.guards)
    chance = random.Random(f"{fault.name}/{seed}")
    if blind.fault in ALONE:
        try:
            ALONE[blind.fault](folder, chance, pace, program)
        except oracle.Red as red:
            return str(red)
        return ""
    ledger = Ledger(folder / "ledger.db")
    try:
        with rounds.service_of(fault, folder, servers, program) as service:
            return rounds.play(fault, Scene(service, chance, pace), ledger, seed).broken
    except Exception as error:  # noqa: BLE001 - without its guards a service may not even start or end
        return f"{type(error).__name__}: {error}"
    finally:
        ledger.close()
        if servers is not None:
            servers.heal()
