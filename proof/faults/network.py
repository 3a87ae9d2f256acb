"""Partitions, one way and both, and slow, cut and half-open connections, by proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from proof.proxy import NONE, Trouble, Way
from proof.scene import Fault, Scene
from proof.topologies import AGGREGATORS, DOORS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proof.proxy import Proxy

BOTH: frozenset[Way] = frozenset(get_args(Way))


def _partition(names: Sequence[str], database: bool) -> Callable[[Scene], None]:
    """Of one process: both ways, then what it sends, then what it hears."""

    def cut(scene: Scene) -> None:
        proxy = _proxy(scene, names, database)
        ways: tuple[frozenset[Way], ...] = (BOTH, frozenset({"there"}), frozenset({"back"}))
        for way in scene.random.sample(ways, len(ways)):
            scene.moment()
            proxy.make(Trouble(held=way))
            try:
                scene.last(15)
            finally:
                proxy.make(NONE)
                if scene.random.random() < 0.5:
                    proxy.reset()  # half of the time what was held back never arrives

    return cut


def _trouble(trouble: Trouble, seconds: float, *, database: bool = False) -> Callable[[Scene], None]:
    """For all processes at once."""

    def disturb(scene: Scene) -> None:
        proxies = scene.servers.to_postgres if database else scene.servers.to_kafka
        scene.moment()
        for proxy in proxies.values():
            proxy.make(trouble)
        try:
            scene.last(seconds)
        finally:
            for proxy in proxies.values():
                proxy.make(NONE)

    return disturb


def half_open(scene: Scene) -> None:
    """Nothing passes and nothing is closed, to broker and database; then every connection is gone."""
    everything = [*scene.servers.to_kafka.values(), *scene.servers.to_postgres.values()]
    scene.moment()
    for proxy in everything:
        proxy.make(Trouble(held=BOTH))
    scene.last(20)
    for proxy in everything:
        proxy.reset()
        proxy.make(NONE)


def refused(scene: Scene) -> None:
    everything = [*scene.servers.to_kafka.values(), *scene.servers.to_postgres.values()]
    for _ in range(3):
        scene.moment()
        for proxy in everything:
            proxy.make(Trouble(refuse=True))
            proxy.reset()
        scene.moment(1.0, 4.0)
        for proxy in everything:
            proxy.make(NONE)


def _proxy(scene: Scene, names: Sequence[str], database: bool) -> Proxy:
    proxies = scene.servers.to_postgres if database else scene.servers.to_kafka
    return proxies[scene.random.choice(list(names))]


FAULTS = (
    Fault(
        "partition-door-broker",
        "28",
        "a door and the broker apart: both ways, one way, the other",
        _partition(DOORS, database=False),
    ),
    Fault(
        "partition-aggregator-broker",
        "28",
        "an aggregator and the broker apart, likewise",
        _partition(AGGREGATORS, database=False),
    ),
    Fault(
        "partition-aggregator-database",
        "28",
        "an aggregator and the database apart, likewise",
        _partition(AGGREGATORS, database=True),
    ),
    Fault(
        "slow-broker",
        "29",
        "500 ms more to and from the broker",
        _trouble(Trouble(delay_s=0.25), 20),
    ),
    Fault(
        "slow-database",
        "29",
        "100 ms more to and from the database",
        _trouble(Trouble(delay_s=0.05), 20, database=True),
    ),
    Fault(
        "trickle",
        "29",
        "20 kB/s to and from the broker",
        _trouble(Trouble(bytes_per_s=20_000), 20),
    ),
    Fault(
        "reset-mid-frame",
        "29",
        "connections to the broker reset in the middle of an answer",
        _trouble(Trouble(reset_after=20_000), 15),
    ),
    Fault(
        "reset-mid-frame-database",
        "29",
        "connections to the database reset in the middle of an answer",
        _trouble(Trouble(reset_after=8_000), 15, database=True),
    ),
    Fault("refused", "29", "every connection reset and refused, three times", refused),
    Fault("half-open", "29", "connections that nothing passes and nobody closes", half_open),
)
