"""What a fault is, and what it works with: a running service, its load, seeded chance."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from proof.load import LoadPlan
from proof.topologies import EmbeddedTopology, ProductionTopology, Servers

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.end_to_end.services import Process

PLAIN = LoadPlan()
Kind = Literal["embedded", "production"]


@dataclass(slots=True)
class Scene:
    """One round of one fault: the service under load."""

    service: EmbeddedTopology | ProductionTopology
    random: random.Random
    pace: float  # 1: faults last as long as their description says; less: that part of it
    told: list[str] = field(default_factory=list)  # what was measured on the way

    @property
    def production(self) -> ProductionTopology:
        """The service on Kafka and PostgreSQL."""
        assert isinstance(self.service, ProductionTopology)
        return self.service

    @property
    def embedded(self) -> EmbeddedTopology:
        """The service in one process."""
        assert isinstance(self.service, EmbeddedTopology)
        return self.service

    @property
    def servers(self) -> Servers:
        """Kafka, PostgreSQL and the proxies before them."""
        return self.production.servers

    def moment(self, least_s: float = 0.2, most_s: float = 1.5) -> None:
        """Waits for a random time."""
        time.sleep(self.random.uniform(least_s, most_s))

    def last(self, seconds: float) -> None:
        """Waits for as long as the fault lasts, at this run's pace; says how long it was."""
        seconds = max(1.0, seconds * self.pace)
        self.told.append(f"{seconds:.0f} s")
        time.sleep(seconds)

    def clock_of(self, name: str) -> Path:
        """Of a process of a layered fault: the file of seconds that its clock is ahead."""
        return self.service.folder / f"{name}.clock"

    @property
    def full(self) -> Path:
        """While it exists, a layered embedded service finds its disk full."""
        return self.service.folder / "full"

    def door(self) -> Process:
        """Any door."""
        return self.random.choice(self.service.doors)

    def aggregator(self) -> Process:
        """Any aggregator."""
        return self.random.choice(self.service.aggregators)

    def tell(self, what: str) -> None:
        """For the table of results."""
        self.told.append(what)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault under load: `inject` causes and heals it, then every law of the oracle must hold.

    One with `alone` makes its own service in the folder that it gets, raises Red, and tells what it saw.
    """

    name: str
    number: str  # in the list of faults
    what: str
    inject: Callable[[Scene], None] | None = None
    kind: Kind = "production"
    alone: Callable[[Path, random.Random, float], list[str]] | None = None
    load: LoadPlan = PLAIN
    layered: bool = False  # its processes run over the layer that makes disks full and moves clocks
    settles: bool = True  # False: the service has to stop; `inject` itself checks what it shows then
    drain_s: float = 90.0
    seeds: int = 3
