"""The service is changed while it runs: rebuilt, given a newer catalog, or its clock is moved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import httpx

from proof.oracle import Red
from proof.scene import Fault, Scene
from proof.topologies import EmbeddedTopology
from tests.end_to_end.services import wait_until
from tests.rig.servers import REPOSITORY

_NEW_TYPE = "  flood.puddle.v1: {data: {type: object}}\n"
_NEW_METRIC = (
    "  puddles: {title: Puddles, event: flood.puddle.v1, aggregate: count, role: impact, windows: [all]}\n"
)


def rebuild(scene: Scene) -> None:
    """Killed right before its swap, killed right after it, then left alone; live counting goes on."""
    for point in ("before_swap", "after_swap"):
        killed = _rebuild(scene, "proof.dying", point, "1")
        if killed.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the rebuild was not killed {point}: {killed.stderr[-500:]}")
        scene.moment()
    started = time.monotonic()
    done = _rebuild(scene, "impact_cli")
    if done.returncode != 0:
        raise Red(f"L7 the rebuild ended with {done.returncode}: {done.stderr[-500:]}")
    versions = scene.service.rows("SELECT MAX(version) FROM metrics WHERE product = 'proof'")
    scene.tell(f"version {versions[0][0]} in {time.monotonic() - started:.0f} s")


def _rebuild(scene: Scene, *module: str) -> subprocess.CompletedProcess[str]:
    """`impact rebuild`, run by this module and its arguments."""
    service = scene.service
    where: list[str] = []
    settings = {}
    if isinstance(service, EmbeddedTopology):
        where = ["--data", str(service.data), "--catalog", str(service.catalog)]
    else:
        settings = service.direct_settings()
    return subprocess.run(
        [sys.executable, "-m", *module, "rebuild", *where],
        cwd=service.folder,
        env={**os.environ, **settings, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def newer_events(scene: Scene) -> None:
    """The doors take a type that aggregators do not know yet: it waits for their catalogs."""
    service = scene.production
    for process in service.doors:
        _renew(scene, process.name)
    for door in service.doors:
        wait_until(partial(_takes_puddles, scene, door.url), "the door knows the type", 60)
    sent = 1
    for number in range(20):
        sent += _send_puddle(scene, scene.door().url, f"p{number}") == 202
    for process in service.aggregators:
        _renew(scene, process.name)
    sql = "SELECT value FROM rolling_metrics WHERE metric = 'puddles' AND time_window = 'all'"
    try:
        wait_until(lambda: [int(row[0] or 0) for row in service.rows(sql)] == [sent], "puddles count", 60)
    except TimeoutError:
        raise Red(f"L1 {sent} events of the new type were accepted, but {service.rows(sql)}") from None


def _renew(scene: Scene, name: str) -> None:
    file = scene.production.catalog_of(name) / "flood.yaml"
    text = file.read_text()
    if _NEW_TYPE not in text:
        file.write_text(text.replace("metrics:\n", _NEW_TYPE + "metrics:\n") + _NEW_METRIC)


def _takes_puddles(scene: Scene, url: str) -> bool:
    return _send_puddle(scene, url, "probe") == 202


def _send_puddle(scene: Scene, url: str, name: str) -> int:
    event = {"specversion": "1.0", "id": name, "source": "/flood", "type": "flood.puddle.v1", "data": {}}
    headers = {
        "Authorization": f"Bearer {scene.service.key_of['flood']}",
        "Content-Type": "application/cloudevents+json",
    }
    return httpx.post(f"{url}/v1/events", json=event, headers=headers, timeout=10, verify=False).status_code


def jumping_clocks(scene: Scene) -> None:
    """One process after the other finds itself an hour back, an hour or a day ahead."""
    names = [one.name for one in {*scene.service.doors, *scene.service.aggregators}]
    jumps = [(name, seconds) for name in sorted(names) for seconds in (3600, -3600, 86_400)]
    scene.random.shuffle(jumps)
    for name, seconds in jumps:
        clock = scene.clock_of(name)
        clock.write_text(str(seconds))
        time.sleep(max(0.5, 4 * scene.pace))
        clock.unlink()
        scene.moment(0.1, 0.5)
    scene.tell(f"{len(jumps)} jumps")


FAULTS = (
    Fault("rebuild", "37", "a rebuild under load, killed before and after its swap", rebuild, drain_s=180),
    Fault("rebuild-embedded", "37", "the same, `impact up`", rebuild, kind="embedded", drain_s=180),
    Fault("newer-events", "38", "doors take events that aggregators do not know yet", newer_events),
    Fault("clock", "39", "clocks jump by an hour and a day, there and back", jumping_clocks, layered=True),
    Fault("clock-embedded", "39", "the same, `impact up`", jumping_clocks, kind="embedded", layered=True),
)
