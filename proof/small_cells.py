"""Small groups in a protected metric of `impact up`: what is published must give no hidden cell away.

No fault: what the runs without guards are compared with. The attack is `impact privacy audit`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import httpx

from proof import oracle
from proof.scene import Fault
from proof.topologies import EmbeddedTopology
from tests.end_to_end.services import IMPACT, wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

_WEEK_S = 7 * 86_400
_CATALOG = """
apiVersion: impact/v1
product: groups
title: Small groups
sources: ["/groups"]
events:
  groups.visit.v1: {subject: required, data: {type: object, properties: {language: {type: string}}}}
metrics:
  visits:
    title: Visits
    event: groups.visit.v1
    aggregate: count
    role: impact
    windows: [28d, all]
    dimensions: {language: data.language}
    privacy: {min_cell: 3, block: week}
"""


def run(folder: Path, source: random.Random, pace: float, program: Sequence[str] = IMPACT) -> list[str]:  # noqa: ARG001 - as every fault
    """Counts some weeks, then attacks what is published. Raises Red."""
    service = EmbeddedTopology(folder)
    service.door.program = program
    (service.catalog / "groups.yaml").write_text(_CATALOG)
    with service:
        _send(service, source)
        decided = "SELECT COUNT(*) FROM block_cell"
        wait_until(lambda: service.rows(decided) != [(0,)], "closed weeks are decided", 60)
    done = subprocess.run(
        [*IMPACT, "privacy", "audit", "--json"],
        cwd=folder,
        env={**os.environ, "IMPACT_DATABASE_URL": service.database_url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the audit ended with {done.returncode}: {done.stderr[-500:]}")
    found = json.loads(done.stdout)
    if found["exposures"]:
        worst = found["exposures"][0]
        raise oracle.Red(
            f"privacy {len(found['exposures'])} hidden cells can be worked out, such as {worst['segment']}"
            f" of {worst['metric']}: at least {worst['low']}"
        )
    return [f"{found['hidden']} hidden cells, none can be worked out"]


def _send(service: EmbeddedTopology, source: random.Random) -> None:
    """Four weeks: many people in one language, enough in another, and one or two in a third."""
    key = json.loads((service.data / "keys.json").read_text())["groups"]
    people = [("en", number) for number in range(12)] + [("fr", number) for number in range(6)]
    events = []
    for week in range(3, 7):
        few = [("es", number) for number in range(source.randint(1, 2))]
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - week * _WEEK_S))
        events += [
            {
                "specversion": "1.0",
                "id": f"{week}-{language}-{number}",
                "source": "/groups",
                "type": "groups.visit.v1",
                "subject": f"{language}-{number}",
                "time": at,
                "data": {"language": language},
            }
            for language, number in (*people, *few)
        ]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents-batch+json"}
    answer = httpx.post(
        f"{service.door.url}/v1/events", json=events, headers=headers, timeout=30, verify=False
    )
    answer.raise_for_status()


CHECK = Fault("small-cells", "", "small groups in a protected metric", kind="embedded", alone=run)
