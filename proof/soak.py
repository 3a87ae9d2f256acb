"""Soak: mixed load with restarts for as long as is asked for; memory and descriptors must stay flat.

    python -m proof.soak --minutes 60

One door and one aggregator run through; the others are killed or stopped in turn. At the end every law of the
oracle must hold.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
from rich.console import Console

from proof import oracle
from proof.ledger import Ledger
from proof.load import Load, LoadPlan
from proof.topologies import Servers, production

if TYPE_CHECKING:
    from proof.topologies import ProductionTopology

_JSON = Path(__file__).resolve().parent.parent / ".cache" / "soak.json"
_SAMPLE_S = 5.0
_RESTART_EVERY_S = 45.0
_MEMORY_MIB = 32.0  # by how much the last third may lie above the second
_DESCRIPTORS = 5.0


class Sample(NamedTuple):
    """One look at a process that runs through."""

    name: str
    at_s: float
    mib: float
    descriptors: int


def run(minutes: float, seed: int, console: Console) -> dict[str, object]:
    """What was measured. Raises Red."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="impact-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        with (
            Servers.running(folder / "servers") as servers,
            production(folder, servers) as made,
            made as service,
        ):
            ledger = Ledger(folder / "ledger.db")
            load = Load(service, ledger, LoadPlan(pause_s=0.1), seed)
            load.start()
            samples, restarts = _soak(service, minutes * 60, chance, console)
            load.end()
            verdict = oracle.check(service, ledger, 180)
            ledger.close()
    growth = _growth(samples)
    if faults := [f"L8 {line}" for line in _too_much(growth)]:
        raise oracle.Red("\n".join(faults))
    return {"minutes": minutes, "restarts": restarts, "growth": growth, "verdict": asdict(verdict)}


def _soak(
    service: ProductionTopology, seconds: float, chance: random.Random, console: Console
) -> tuple[list[Sample], int]:
    steady, others = (service.doors[0], service.aggregators[0]), (service.doors[1], service.aggregators[1])
    samples: list[Sample] = []
    restarts = 0
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        if now > (restarts + 1) * _RESTART_EVERY_S:
            process = others[restarts % 2]
            process.stop(chance.choice((signal.SIGTERM, signal.SIGKILL)))
            process.start()
            restarts += 1
        for one in steady:
            seen = psutil.Process(one.pid)
            samples.append(Sample(one.name, now, seen.memory_info().rss / 2**20, seen.num_fds()))
        time.sleep(_SAMPLE_S)
    console.print(f"{restarts} restarts in {seconds / 60:.0f} minutes")
    return samples, restarts


def _growth(samples: list[Sample]) -> dict[str, dict[str, float]]:
    """Of each process: the median of its last third less that of its second; the first is for warming up."""
    growth = {}
    for name in sorted({sample.name for sample in samples}):
        mine = [sample for sample in samples if sample.name == name]
        second, last = mine[len(mine) // 3 : 2 * len(mine) // 3], mine[2 * len(mine) // 3 :]
        growth[name] = {
            "mib": _median(last, "mib") - _median(second, "mib"),
            "descriptors": _median(last, "descriptors") - _median(second, "descriptors"),
            "peak_mib": max(sample.mib for sample in mine),
        }
    return growth


def _median(samples: list[Sample], field: str) -> float:
    return round(float(statistics.median(getattr(sample, field) for sample in samples)), 1)


def _too_much(growth: dict[str, dict[str, float]]) -> list[str]:
    return [
        f"{name} grew by {one['mib']} MiB and {one['descriptors']} descriptors"
        for name, one in growth.items()
        if one["mib"] > _MEMORY_MIB or one["descriptors"] > _DESCRIPTORS
    ]


def main() -> int:
    """1 if a law was broken or something grew."""
    parser = argparse.ArgumentParser(prog="python -m proof.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        measured = run(arguments.minutes, arguments.seed, console)
    except oracle.Red as red:
        console.print(str(red), style="red", markup=False)
        return 1
    _JSON.parent.mkdir(exist_ok=True)
    _JSON.write_text(json.dumps(measured, indent=1) + "\n")
    console.print_json(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
