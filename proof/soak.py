"""Soak: mixed load with restarts for as long as is asked for; memory, descriptors and disk must stay flat.

    python -m proof.soak [--minutes 60]

One door and one aggregator run through; the others are killed or stopped in turn. The log and the identities
grow with the events: their disk is flat if an event takes no more of it at the end than in the middle. At the
end every law of the oracle must hold.
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
from itertools import pairwise
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
_BYTES = 1.5  # times as many an event in the last third as in the second


class Sample(NamedTuple):
    """One look at a process that runs through."""

    name: str
    mib: float
    descriptors: int


class Disk(NamedTuple):
    """One look at what log and database hold."""

    events: int
    log_bytes: int
    database_bytes: int


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
            samples, disks, restarts = _soak(service, ledger, minutes * 60, chance)
            load.end()
            verdict = oracle.check(service, ledger, 180)
            ledger.close()
    growth, bytes_per_event = _growth(samples), _bytes_per_event(disks)
    report = {
        "minutes": minutes,
        "restarts": restarts,
        "growth": growth,
        "bytes_per_event": bytes_per_event,
        "verdict": asdict(verdict),
    }
    console.print_json(json.dumps(report))
    if faults := [f"L8 {line}" for line in (*_too_much(growth), *_too_many_bytes(bytes_per_event))]:
        raise oracle.Red("\n".join(faults))
    return report


def _soak(
    service: ProductionTopology, ledger: Ledger, seconds: float, chance: random.Random
) -> tuple[list[Sample], list[Disk], int]:
    steady, others = (service.doors[0], service.aggregators[0]), (service.doors[1], service.aggregators[1])
    samples: list[Sample] = []
    disks: list[Disk] = []
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
            samples.append(Sample(one.name, seen.memory_info().rss / 2**20, seen.num_fds()))
        disks.append(_disk(service, ledger))
        time.sleep(_SAMPLE_S)
    return samples, disks, restarts


def _disk(service: ProductionTopology, ledger: Ledger) -> Disk:
    log = sum(
        file.stat().st_size for file in service.servers.kafka.data_folder.glob(f"{service.topic}*/*.log")
    )
    ((database,),) = service.rows("SELECT pg_database_size(current_database())")
    return Disk(ledger.count("accepted"), log, int(database))


def _bytes_per_event(disks: list[Disk]) -> dict[str, list[float]]:
    """Of log and database: in each third of the time, so many bytes an event."""
    marks = [disks[len(disks) * part // 3] for part in range(3)] + [disks[-1]]
    return {
        name: [
            round((getattr(after, name) - getattr(before, name)) / max(1, after.events - before.events), 1)
            for before, after in pairwise(marks)
        ]
        for name in ("log_bytes", "database_bytes")
    }


def _too_many_bytes(bytes_per_event: dict[str, list[float]]) -> list[str]:
    return [
        f"an event takes {last} {name}, before it was {second}"
        for name, (_, second, last) in bytes_per_event.items()
        if last > second * _BYTES
    ]


def _growth(samples: list[Sample]) -> dict[str, dict[str, float]]:
    """Of each process: the median of its last third less that of its second; the first is for warming up."""
    growth = {}
    for name in sorted({sample.name for sample in samples}):
        mine = [sample for sample in samples if sample.name == name]
        second, last = mine[len(mine) // 3 : 2 * len(mine) // 3], mine[2 * len(mine) // 3 :]
        growth[name] = {
            "mib": round(_median(last, "mib") - _median(second, "mib"), 1),
            "descriptors": _median(last, "descriptors") - _median(second, "descriptors"),
            "peak_mib": round(max(sample.mib for sample in mine), 1),
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
