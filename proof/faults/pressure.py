"""More load than the service can take, connections that do nothing, and limits of the operating system."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from proof.oracle import Red
from proof.scene import Fault, Scene
from proof.topologies import peak_memory_mib

if TYPE_CHECKING:
    from collections.abc import Awaitable

_SLOW_HEADS = 500
_SLOW_BODIES = 100
_IDLE = 10_000
_OWN_DESCRIPTORS = 500  # of the process itself, beside the connections


def flood(scene: Scene) -> None:
    """Another product's batches, as fast as the door reads them: what is too much is 429 or 503."""
    answers = asyncio.run(_flood(scene, seconds=max(5.0, 120 * scene.pace), connections=128))
    scene.tell(", ".join(f"{count} x {status}" for status, count in sorted(answers.items())))
    scene.tell(f"{scene.service.doors[0].name} took {peak_memory_mib(scene.service.doors[0]):.0f} MiB")
    if answers.keys() - {202, 429, 503, 0}:
        raise Red(f"L7 a flooded door answered {answers}")


def flooded_neighbour(scene: Scene) -> None:
    """While one product floods, requests of the other are answered as if nothing was."""
    asyncio.run(_flood(scene, seconds=max(5.0, 60 * scene.pace), connections=32))


async def _flood(scene: Scene, seconds: float, connections: int) -> dict[int, int]:
    """Answers by status; 0: none."""
    bodies = [_bodies(number) for number in range(8)]
    headers = {
        "Authorization": f"Bearer {scene.service.key_of['flood']}",
        "Content-Type": "application/cloudevents-batch+json",
    }
    url = f"{scene.service.doors[0].url}/v1/events"
    answers: dict[int, int] = {}
    ends = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=connections)

    async def send(client: httpx.AsyncClient, place: int) -> None:
        while time.monotonic() < ends:
            status = 0
            try:
                status = (await client.post(url, content=bodies[place % 8], headers=headers)).status_code
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
            answers[status] = answers.get(status, 0) + 1

    async with httpx.AsyncClient(timeout=30, limits=limits, verify=False) as client:
        await asyncio.gather(*(send(client, place) for place in range(connections)))
    return answers


def _bodies(number: int) -> bytes:
    # two of eight are near the largest that a door takes, 8 MiB
    filler = random.Random(number).randbytes(400 if number % 4 else 1_900).hex()
    return json.dumps(
        [
            {
                "specversion": "1.0",
                "id": f"f{number}-{index}",
                "source": "/flood",
                "type": "flood.drop.v1",
                "data": {"filler": filler},
            }
            for index in range(2_000)
        ]
    ).encode()


def idle_connections(scene: Scene) -> None:
    """Connections that say nothing, heads that never end, bodies that drip: others are served meanwhile."""
    door = scene.service.doors[0]
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    psutil.Process(door.pid).rlimit(psutil.RLIMIT_NOFILE, (hard, hard))
    idle = min(_IDLE, hard - _OWN_DESCRIPTORS - _SLOW_HEADS)
    held = asyncio.run(_hold_connections(scene, idle, max(5.0, 30 * scene.pace)))
    scene.tell(f"{held} idle connections, {_SLOW_HEADS} slow heads, {_SLOW_BODIES} slow bodies")


async def _hold_connections(scene: Scene, idle: int, seconds: float) -> int:
    port = int(scene.service.doors[0].url.rsplit(":", 1)[1])
    tasks: list[asyncio.Task[None]] = []
    for begin in range(0, idle, 200):
        many = [asyncio.open_connection("127.0.0.1", port) for _ in range(min(200, idle - begin))]
        await _kept(tasks, many)
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\n"
    body = head + b"Authorization: Bearer " + scene.service.key.encode() + b"\r\nContent-Length: 9999\r\n\r\n"
    starts = [head] * _SLOW_HEADS + [body] * _SLOW_BODIES
    tasks.extend(asyncio.create_task(_drip(port, start, seconds)) for start in starts)
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return idle


async def _kept(
    tasks: list[asyncio.Task[None]],
    many: list[Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] | list[Any],
) -> None:
    async def keep(opening: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        _reader, writer = await opening
        try:
            await asyncio.sleep(3600)
        finally:
            writer.close()

    tasks.extend(asyncio.create_task(keep(one)) for one in many)
    await asyncio.sleep(0.05)


async def _drip(port: int, start: bytes, seconds: float) -> None:
    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(start)
        for _ in range(int(seconds * 2)):
            writer.write(b"X")
            await asyncio.sleep(0.5)
    except OSError:
        return  # the door has had enough, as it should
    finally:
        writer.close()


def few_descriptors(scene: Scene) -> None:
    """A door may open no file or connection more; then it may again."""
    process = psutil.Process(scene.door().pid)
    old = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 2, old[1]))
    scene.last(10)
    process.rlimit(psutil.RLIMIT_NOFILE, old)


def little_memory(scene: Scene) -> None:
    """An aggregator gets no more memory: if it dies of that, the next one goes on where it was."""
    aggregator = scene.aggregator()
    process = psutil.Process(aggregator.pid)
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + 2**20, -1))
    scene.last(10)
    alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    scene.tell("it lived" if alive else "it ended")
    aggregator.stop()
    aggregator.start()


FAULTS = (
    Fault("overload", "34", "a flood of batches for 2 minutes", flood, drain_s=300),
    Fault("overload-embedded", "34", "the same, `impact up`", flood, kind="embedded", drain_s=300),
    Fault(
        "idle-connections", "35", "10,000 idle connections, 500 slow heads, 100 slow bodies", idle_connections
    ),
    Fault(
        "neighbour",
        "36",
        "one product floods for a minute: the other is answered all the while",
        flooded_neighbour,
        drain_s=300,
    ),
    Fault("few-descriptors", "40", "a door may open no more files", few_descriptors),
    Fault("little-memory", "40", "an aggregator gets no more memory", little_memory),
)
