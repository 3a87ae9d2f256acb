"""Five faults of the proof under load, on real servers; `make proof` runs all of them, and longer."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from proof import power_cut, rounds, shim
from proof.faults import FAULTS
from proof.ledger import Ledger
from proof.load import LoadPlan
from proof.scene import Scene
from tests.conftest import missing
from tests.rig.servers import ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from proof.scene import Fault
    from proof.topologies import Servers

BY_NAME = {fault.name: fault for fault in FAULTS}
PACE = 0.1
LIGHT = LoadPlan(workers=2, batch=10, pause_s=0.1)  # two cores, and other tests after this one


@pytest.fixture
def servers() -> Iterator[Servers]:
    try:
        with rounds.servers_when_needed() as started:
            yield started()
    except ServerMissingError as error:
        missing(error)


def play_in_turn(faults: list[Fault], folder: Path, servers: Servers | None) -> None:
    """On one service: the last check is over all that was ever sent."""
    ledger = Ledger(folder / "ledger.db")
    with rounds.service_of(faults[0], folder, servers) as service:
        first = 0
        for heavy in faults:
            fault = replace(heavy, load=LIGHT)
            scene = Scene(service, random.Random(fault.name), PACE)
            result = rounds.play(fault, scene, ledger, seed=1, first=first)
            assert result.green, f"{fault.name}: {result.broken}"
            first += fault.load.workers
    assert ledger.count("accepted") > 50 * len(faults)
    ledger.close()


@pytest.mark.timeout(600)
def test_on_kafka_and_postgresql_every_law_holds_under_three_faults(tmp_path: Path, servers: Servers) -> None:
    names = ("kill-after-ack", "lost-commit", "broker-down-1")
    play_in_turn([BY_NAME[name] for name in names], tmp_path, servers)


@pytest.mark.timeout(300)
def test_the_embedded_service_keeps_every_law_under_kill_9(tmp_path: Path) -> None:
    play_in_turn([BY_NAME["kill-embedded"]], tmp_path, None)


@pytest.mark.timeout(300)
def test_a_power_cut_takes_nothing_that_was_answered(tmp_path: Path) -> None:
    try:
        power_cut.run(tmp_path, random.Random(1), PACE, starts=1)
    except shim.CompilerMissingError as error:
        missing(ServerMissingError(str(error)))
