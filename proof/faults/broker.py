"""The broker dies, restarts, hangs, or loses what it had."""

from __future__ import annotations

import asyncio
import signal
import time

from aiokafka.admin import AIOKafkaAdminClient

from impact_eventlog.kafka import KafkaSettings, create_topics
from proof.oracle import Red
from proof.scene import Fault, Scene
from proof.topologies import PARTITIONS
from tests.end_to_end.services import wait_until


def _down(seconds: float) -> Fault:
    def kill(scene: Scene) -> None:
        scene.moment()
        scene.servers.kafka.kill()
        scene.last(seconds)
        scene.servers.kafka.start()

    what = f"kill -9 of the broker, back after {seconds:.0f} s"
    return Fault(f"broker-down-{seconds:.0f}", "9", what, kill)


def restart(scene: Scene) -> None:
    for _ in range(2):
        scene.moment()
        scene.servers.kafka.restart()


def down_at_start(scene: Scene) -> None:
    """Every process is started while there is no broker; each is ready once there is one."""
    service = scene.production
    for process in service.aggregators:
        process.stop()
    scene.servers.kafka.kill()
    starting = [process.spawn for process in service.aggregators]
    for spawn in starting:
        spawn()
    scene.last(10)
    scene.servers.kafka.start()
    for process in service.aggregators:
        wait_until(process.is_ready, f"{process.name} is ready", 90)


def hang(scene: Scene) -> None:
    scene.moment()
    scene.servers.kafka.process.pause()
    try:
        scene.last(60)
    finally:
        scene.servers.kafka.process.resume()


def leader_unknown(scene: Scene) -> None:
    """Longer than a batch lives (10 s), twice: batches expire with sequence numbers that were never sent."""
    for _ in range(2):
        scene.moment()
        scene.servers.kafka.kill()
        time.sleep(14)
        scene.servers.kafka.start()
        scene.moment(1.0, 2.0)
    scene.tell("2 x 14 s")


def topic_made_again(scene: Scene) -> None:
    """Numbers are not mixed with those of another log: aggregators stop, say so, and leave SQL as it is."""
    service = scene.production
    scene.moment()
    before = service.rows("SELECT SUM(counted) FROM ledger")
    asyncio.run(
        _make_again(KafkaSettings(scene.servers.kafka.bootstrap, partitions=PARTITIONS), service.topic)
    )
    for process in service.aggregators:
        process.stop(signal.SIGTERM)
        process.spawn()
        code = process.wait(60)
        words = (service.folder / f"{process.name}.log").read_text()[-2000:]
        if code != 1 or "has identity" not in words:
            raise Red(f"L2 {process.name} went on with another log: exit code {code}, {words[-300:]}")
    after = service.rows("SELECT SUM(counted) FROM ledger")
    if after[0][0] < before[0][0]:
        raise Red(f"L1 the ledger went from {before} to {after}")
    scene.tell("both aggregators stopped and named the two identities")


async def _make_again(settings: KafkaSettings, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()
    deadline = time.monotonic() + 30
    while not await create_topics(settings, [topic]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the topic {topic} is not deleted")
        await asyncio.sleep(0.2)


FAULTS = (
    *(_down(seconds) for seconds in (1.0, 30.0, 120.0)),
    Fault("broker-restart", "10", "graceful restart of the broker while it is read", restart),
    Fault(
        "broker-down-at-start",
        "11",
        "aggregators started while there is no broker",
        down_at_start,
    ),
    Fault("broker-hangs", "12", "SIGSTOP of the broker for 60 s", hang),
    Fault("leader-unknown", "13", "no leader for longer than a batch lives, twice", leader_unknown),
    Fault(
        "topic-again",
        "14",
        "the topic is deleted and made again: nothing of it is mixed in",
        topic_made_again,
        settles=False,
    ),
)
