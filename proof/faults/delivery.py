"""What is delivered more than once, in another order, to two doors, or with other content."""

from __future__ import annotations

import time

from proof.load import LoadPlan
from proof.scene import Fault, Scene


def only_load(scene: Scene) -> None:
    scene.last(10)


def for_minutes(scene: Scene) -> None:
    scene.last(120)


def members_come_and_go(scene: Scene) -> None:
    """A third aggregator joins and leaves every 2 s: the group is hardly ever at rest."""
    third = scene.production.one_more_aggregator("aggregator-3")
    ends = time.monotonic() + max(6.0, 60 * scene.pace)
    rounds = 0
    while time.monotonic() < ends:
        third.start()
        scene.moment(1.0, 2.0)
        third.stop()
        scene.moment(1.0, 2.0)
        rounds += 1
    scene.production.aggregators.remove(third)
    scene.tell(f"{rounds} times")


FAULTS = (
    Fault("copies", "15", "each request sent 1 to 5 times", only_load, load=LoadPlan(copies=5)),
    Fault(
        "copies-embedded",
        "15",
        "the same with `impact up`",
        only_load,
        kind="embedded",
        load=LoadPlan(copies=5),
    ),
    Fault(
        "reordered",
        "16",
        "requests held back and sent in any order, 1 to 3 times",
        only_load,
        load=LoadPlan(shuffled=True, copies=3),
    ),
    Fault(
        "two-doors",
        "17",
        "the same ids to two doors at once, for 2 minutes",
        for_minutes,
        load=LoadPlan(both_doors=True),
    ),
    Fault(
        "other-content",
        "18",
        "every other request has a known id with other content",
        only_load,
        load=LoadPlan(conflict_every=2, copies=2),
    ),
    Fault(
        "members-change",
        "19",
        "an aggregator joins and leaves every 2 s for a minute",
        members_come_and_go,
    ),
)
