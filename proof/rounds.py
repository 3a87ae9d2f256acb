"""Runs faults: a new service for each, one round of load, fault, healing and checks for each seed."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from proof import oracle, shim
from proof.ledger import Ledger
from proof.load import Load
from proof.scene import Fault, Scene
from proof.topologies import EmbeddedTopology, Servers, production
from tests.end_to_end.services import IMPACT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console

    from proof.topologies import ProductionTopology


@dataclass(frozen=True, slots=True)
class Result:
    """One fault with one seed."""

    fault: str
    seed: int
    green: bool
    took_s: float
    told: list[str]
    verdict: oracle.Verdict | None
    broken: str = ""


@contextmanager
def servers_when_needed() -> Iterator[Callable[[], Servers]]:
    """Kafka and PostgreSQL, started when they are first asked for; gone at the end."""
    with ExitStack() as stack:

        @cache
        def running() -> Servers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="impact-proof-")))
            folder.chmod(0o755)  # PostgreSQL runs as another user
            return stack.enter_context(Servers.running(folder))

        yield running


def run(
    pieces: Iterable[tuple[Fault, Sequence[int]]],
    pace: float,
    console: Console,
    servers: Callable[[], Servers],
) -> Iterator[Result]:
    """Of each fault its seeds, on one service while they are green; results as they come."""
    for fault, seeds in pieces:
        needed = servers() if fault.kind == "production" and fault.alone is None else None
        for result in _run_fault(fault, seeds, pace, needed):
            _print(console, result)
            yield result


def _print(console: Console, result: Result) -> None:
    mark = "[green]green[/green]" if result.green else "[red]RED[/red]"
    console.print(
        f"{result.fault} seed {result.seed}: {mark} in {result.took_s:.0f} s {'; '.join(result.told)}"
    )
    if not result.green:
        console.print(result.broken, style="red", markup=False)


def _run_fault(fault: Fault, seeds: Sequence[int], pace: float, servers: Servers | None) -> Iterator[Result]:
    """A red round ends the service: the next seed gets a new one."""
    left = list(seeds)
    while left:
        with tempfile.TemporaryDirectory(prefix="impact-proof-", ignore_cleanup_errors=True) as name:
            if fault.alone is not None:
                yield _alone(fault, Path(name), left.pop(0), pace)
                continue
            for result in _on_one_service(fault, Path(name), list(left), pace, servers):
                yield result
                left = [seed for seed in left if seed != result.seed]
                if not result.green:
                    _keep(Path(name), fault, result.seed)
                    break
            else:
                continue
            if servers is not None:
                servers.heal()


def _on_one_service(
    fault: Fault, folder: Path, seeds: Sequence[int], pace: float, servers: Servers | None
) -> Iterator[Result]:
    ledger = Ledger(folder / "ledger.db")
    seed = seeds[0]
    try:
        with service_of(fault, folder, servers) as service:
            for place, seed in enumerate(seeds):
                scene = Scene(service, random.Random(f"{fault.name}/{seed}"), pace)
                yield play(fault, scene, ledger, seed, first=place * fault.load.workers)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the round is not green
        yield Result(fault.name, seed, False, 0.0, [], None, f"the service did not start or end: {error}")
    finally:
        ledger.close()


@contextmanager
def service_of(
    fault: Fault, folder: Path, servers: Servers | None, program: Sequence[str] = IMPACT
) -> Iterator[EmbeddedTopology | ProductionTopology]:
    """The fault's service, started. `program`: the command `impact`, or one without some guard."""
    if fault.kind == "embedded":
        data = folder / "data"
        layer = (
            shim.environment(data, full=folder / "full", clock=folder / "up.clock") if fault.layered else {}
        )
        embedded = EmbeddedTopology(folder, **layer)
        embedded.door.program = program
        with embedded:
            yield embedded
        return
    if servers is None:
        raise RuntimeError(f"{fault.name} needs Kafka and PostgreSQL")

    def layer_of(name: str) -> dict[str, str]:
        nowhere = folder / "nowhere"
        return shim.environment(nowhere, clock=folder / f"{name}.clock") if fault.layered else {}

    with production(folder, servers, layer_of) as made:
        for process in (*made.doors, *made.aggregators):
            process.program = program
        with made:
            yield made


def play(fault: Fault, scene: Scene, ledger: Ledger, seed: int, first: int = 0) -> Result:
    """One round: load, fault, healing, the end of the load, drain, checks."""
    started = time.monotonic()
    load = Load(scene.service, ledger, fault.load, seed, first)
    load.start()
    verdict, broken = None, ""
    try:
        try:
            scene.moment(0.5, 1.5)
            if fault.inject is not None:
                fault.inject(scene)
            scene.moment(0.5, 1.0)
        finally:
            load.end()
        if fault.settles:
            verdict = oracle.check(scene.service, ledger, fault.drain_s)
    except oracle.Red as red:
        broken = str(red)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the round is not green
        broken = f"{type(error).__name__}: {error}"
    return Result(
        fault.name, seed, not broken, round(time.monotonic() - started, 1), scene.told, verdict, broken
    )


def _alone(fault: Fault, folder: Path, seed: int, pace: float) -> Result:
    assert fault.alone is not None
    started = time.monotonic()
    told, broken = [], ""
    try:
        told = fault.alone(folder, random.Random(f"{fault.name}/{seed}"), pace)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the round is not green
        broken = str(error) if isinstance(error, oracle.Red) else f"{type(error).__name__}: {error}"
        _keep(folder, fault, seed)
    return Result(fault.name, seed, not broken, round(time.monotonic() - started, 1), told, None, broken)


def _keep(folder: Path, fault: Fault, seed: int) -> None:
    """Logs, ledger and data of a red round, for a look at them."""
    kept = Path(tempfile.gettempdir()) / "impact-proof-red" / f"{fault.name}-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept, ignore_dangling_symlinks=True)
