"""Processes that are killed, stopped in order, or put to sleep."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from proof.load import LoadPlan
from proof.oracle import Red
from proof.proxy import NONE, Trouble
from proof.scene import Fault, Scene
from proof.topologies import start_all
from tests.end_to_end.crashing import POINTS
from tests.end_to_end.services import wait_until

if TYPE_CHECKING:
    from tests.end_to_end.services import Process

SESSION_S = 6.0  # after which the broker gives the partitions of a silent aggregator to another


def kill_door(scene: Scene) -> None:
    for _ in range(3):
        scene.moment()
        door = scene.door()
        door.stop(signal.SIGKILL)
        scene.moment(0.0, 0.5)
        door.start()


def kill_door_between_ack_and_answer(scene: Scene) -> None:
    """The log has the events, the client gets no answer: killed from within, right after an append."""
    door = scene.door()
    door.stop()
    plain, door.program = (
        door.program,
        (sys.executable, "-m", "proof.dying", "after_append", str(_nth(scene, 9))),
    )
    door.start()
    wait_until(door.has_died, "killed after the log's ack", 60)
    door.program = plain
    door.start()


def terminate_door(scene: Scene) -> None:
    scene.moment()
    door = scene.door()
    started = time.monotonic()
    code = door.stop(signal.SIGTERM)
    if code != 0:
        raise Red(f"L7 SIGTERM ended the door with {code}")
    scene.tell(f"ended in {time.monotonic() - started:.1f} s")
    door.start()


def terminate_door_without_broker(scene: Scene) -> None:
    door = scene.door()
    scene.servers.kafka.kill()
    scene.moment()
    started = time.monotonic()
    door.stop(signal.SIGTERM)
    scene.tell(f"ended in {time.monotonic() - started:.1f} s")
    scene.servers.kafka.start()
    door.start()


def kill_aggregator_at_its_commit(scene: Scene) -> None:
    """At each point around the transaction: before BEGIN, after the upserts, before and after COMMIT."""
    for point in scene.random.sample(POINTS, len(POINTS)):
        aggregator = scene.aggregator()
        aggregator.stop()
        plain = aggregator.program
        aggregator.program = (sys.executable, "-m", "tests.end_to_end.crashing", point, str(_nth(scene, 4)))
        aggregator.start()
        wait_until(aggregator.has_died, f"killed at {point}", 60)
        aggregator.program = plain
        aggregator.start()


def lose_the_answer_of_commit(scene: Scene) -> None:
    """The database commits, and the connection ends before its answer arrives."""
    proxies = scene.servers.to_postgres
    names = [one.name for one in scene.production.aggregators if one.name in proxies]
    before = sum(proxies[name].lost for name in names)
    for _ in range(4):
        for name in names:
            proxies[name].make(Trouble(lose_answer=b"COMMIT\0"))
        scene.moment(0.5, 1.5)
        for name in names:
            proxies[name].make(NONE)
        scene.moment(1.0, 2.0)
    lost = sum(proxies[name].lost for name in names) - before
    if lost == 0:
        raise RuntimeError("no answer of COMMIT was lost: the fault did not happen")
    scene.tell(f"{lost} answers lost")


def kill_everything(scene: Scene) -> None:
    scene.moment()
    service = scene.production
    processes = [*service.doors, *service.aggregators]
    scene.servers.kafka.kill()
    scene.servers.postgres.kill()
    for process in processes:
        process.stop(signal.SIGKILL)
    scene.servers.kafka.start()
    scene.servers.postgres.start()
    start_all(processes)


def kill_the_embedded_service(scene: Scene) -> None:
    for _ in range(5):
        scene.moment(0.1, 1.2)
        scene.embedded.door.stop(signal.SIGKILL)
        scene.embedded.door.start()


def zombie(scene: Scene) -> None:
    """An aggregator sleeps until its partitions are given away, then wakes with a batch in hand."""
    scene.moment()
    sleeper = scene.aggregator()
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        time.sleep(SESSION_S + 2)
        _takes_over(scene, sleeper)
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    scene.moment(1.0, 3.0)


def _takes_over(scene: Scene, sleeper: Process) -> None:
    """Until another aggregator has claimed what the sleeper had: the zombie must find it so.

    Asleep within a transaction it holds its rows until PostgreSQL ends that after 60 s.
    """
    others = [one for one in scene.service.aggregators if one is not sleeper]
    before = sum(_counted(one) for one in others)
    wait_until(lambda: sum(_counted(one) for one in others) > before, "another aggregator counts", 90)


def _counted(aggregator: Process) -> float:
    lines = aggregator.metrics().splitlines()
    name = 'impact_aggregator_events_total{outcome="counted"} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def _nth(scene: Scene, most: int) -> int:
    return scene.random.randint(1, most)


FAULTS = (
    Fault("kill-door", "1", "kill -9 of a door under load, three times", kill_door, seeds=20),
    Fault(
        "kill-after-ack",
        "2",
        "a door killed between the log's ack and its answer",
        kill_door_between_ack_and_answer,
        seeds=20,
    ),
    Fault("term-door", "3", "SIGTERM of a door with keep-alive clients", terminate_door),
    Fault(
        "term-door-no-broker",
        "4",
        "SIGTERM of a door while the broker is down",
        terminate_door_without_broker,
    ),
    Fault(
        "kill-aggregator",
        "5",
        "an aggregator killed before BEGIN, after the upserts, before COMMIT and after it",
        kill_aggregator_at_its_commit,
        seeds=20,
    ),
    Fault(
        "kill-embedded-at-commit",
        "5",
        "`impact up` killed at the same four points",
        kill_aggregator_at_its_commit,
        kind="embedded",
        seeds=20,
    ),
    Fault(
        "lost-commit",
        "6",
        "the answer of COMMIT is lost: the connection is cut before it arrives",
        lose_the_answer_of_commit,
        load=LoadPlan(batch=10),
        seeds=20,
    ),
    Fault(
        "kill-all",
        "7",
        "kill -9 of all processes, broker and database at once",
        kill_everything,
    ),
    Fault(
        "kill-embedded",
        "7",
        "kill -9 of `impact up`, five times",
        kill_the_embedded_service,
        kind="embedded",
        seeds=20,
    ),
    Fault(
        "zombie",
        "8",
        "an aggregator stopped beyond its session, taken over, woken again",
        zombie,
        seeds=20,
    ),
)
