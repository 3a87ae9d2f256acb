"""Load: product backends that send batches, each until it has its answer, and write both down."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from proof.ledger import Ledger, Sent, collected, conflicting, retracting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proof.topologies import Topology

_PER_WORKER = 1_000_000  # numbers


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What the backends do."""

    workers: int = 4
    batch: int = 25
    pause_s: float = 0.05  # between two batches of a worker
    copies: int = 1  # each batch is sent between once and so many times, whatever the answer
    both_doors: bool = False  # each batch to two doors at the same moment
    shuffled: bool = False  # batches wait in a pool and leave it in any order
    impatient: int = 1  # so many of the workers never send again what has no answer
    timeout_s: float = 8.0
    invalid_every: int = 7  # every so many batches hold an event of which the schema is violated
    conflict_every: int = 9
    retract_every: int = 23


class Load:
    """Runs the plan's workers against the doors of `service` until `end`."""

    def __init__(self, service: Topology, ledger: Ledger, plan: LoadPlan, seed: int, first: int = 0) -> None:
        self._workers = [
            _Worker(service, ledger, plan, random.Random(f"{seed}/{place}"), first + place)
            for place in range(plan.workers)
        ]

    def start(self) -> None:
        """Begins to send."""
        for worker in self._workers:
            worker.start()

    def end(self, timeout_s: float = 120.0) -> None:
        """Returns when every patient worker has the answer to its last batch."""
        for worker in self._workers:
            worker.ending.set()
        deadline = time.monotonic() + timeout_s
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        if any(worker.is_alive() for worker in self._workers):
            raise TimeoutError(f"the doors do not accept what they are sent within {timeout_s:.0f} s")
        for worker in self._workers:
            if worker.failure is not None:
                raise worker.failure


class _Worker(threading.Thread):
    def __init__(
        self,
        service: Topology,
        ledger: Ledger,
        plan: LoadPlan,
        source: random.Random,
        place: int,
    ) -> None:
        super().__init__(daemon=True)
        self._service, self._ledger, self._plan, self._random = service, ledger, plan, source
        self._next = (place + 1) * _PER_WORKER
        self._patient = place % plan.workers >= plan.impatient
        self._door = place
        self._batches = 0
        self._accepted: list[int] = []
        self._held: list[list[Sent]] = []
        self.ending = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with httpx.Client(timeout=self._plan.timeout_s, verify=False) as client:
                while not self.ending.is_set():
                    self._turn(client)
                    self.ending.wait(self._plan.pause_s)
                while self._held:
                    self._deliver(client, self._held.pop())
        except BaseException as error:  # noqa: BLE001 - it is raised where the load is ended
            self.failure = error

    def _turn(self, client: httpx.Client) -> None:
        batch = self._new_batch()
        if self._plan.shuffled:
            self._held.append(batch)
            if len(self._held) < 20:
                return
            batch = self._held.pop(self._random.randrange(len(self._held)))
        self._deliver(client, batch)

    def _deliver(self, client: httpx.Client, batch: list[Sent]) -> None:
        for _ in range(self._random.randint(1, self._plan.copies)):
            if self._plan.both_doors:
                beside = threading.Thread(target=self._alone, args=(batch, self._door + 1))
                beside.start()
                self._until_answered(client, batch, self._door)
                beside.join()
            else:
                self._until_answered(client, batch, self._door)

    def _alone(self, batch: Sequence[Sent], door: int) -> None:
        with httpx.Client(timeout=self._plan.timeout_s, verify=False) as client:
            self._until_answered(client, batch, door)

    def _until_answered(self, client: httpx.Client, batch: Sequence[Sent], door: int) -> bool:
        while not self._send(client, batch, door):
            time.sleep(0.1)
            if not self._patient:
                return self.ending.wait(0.4)  # or it would make up events as fast as they are refused
            door += 1  # another one may work
        return True

    def _send(self, client: httpx.Client, batch: Sequence[Sent], door: int) -> bool:
        self._ledger.sending(batch)
        started = time.monotonic()
        try:
            answer = client.post(
                f"{self._service.doors[door % len(self._service.doors)].url}/v1/events",
                content=json.dumps([event.body() for event in batch]),
                headers={
                    "Authorization": f"Bearer {self._service.key}",
                    "Content-Type": "application/cloudevents-batch+json",
                },
            )
        except (httpx.HTTPError, OSError):
            self._ledger.answered(started, time.monotonic() - started, None, len(batch))
            return False
        self._ledger.answered(started, time.monotonic() - started, answer.status_code, len(batch))
        if answer.status_code in (429, 503):
            return False
        if answer.status_code not in (202, 207, 422):
            raise AssertionError(f"the door answered {answer.status_code}: {answer.text[:500]}")
        self._decide(batch, {entry["index"] for entry in answer.json()["rejected"]})
        return True

    def _decide(self, batch: Sequence[Sent], rejected: set[int]) -> None:
        accepted = [event.number for index, event in enumerate(batch) if index not in rejected]
        self._ledger.decided(accepted, "accepted")
        self._ledger.decided([batch[index].number for index in rejected], "rejected")
        self._accepted = [event.number for event in batch if event.kind == "collected"] or self._accepted

    def _new_batch(self) -> list[Sent]:
        plan = self._plan
        batch = [self._make(collected) for _ in range(plan.batch)]
        self._batches += 1
        if plan.invalid_every and self._batches % plan.invalid_every == 0:
            one = batch[0]
            batch[0] = one._replace(kind="invalid", id=f"i{one.number}")
        if self._accepted and plan.conflict_every and self._batches % plan.conflict_every == 0:
            target = self._random.choice(self._accepted)
            batch.append(self._make(lambda number, begin: conflicting(number, target, begin)))
        # who does not wait for answers could not say whether it took something back
        if (
            self._patient
            and self._accepted
            and plan.retract_every
            and self._batches % plan.retract_every == 0
        ):
            target = self._accepted.pop(self._random.randrange(len(self._accepted)))
            batch.append(self._make(lambda number, begin: retracting(number, target, begin)))
        return batch

    def _make(self, make: Callable[[int, int], Sent]) -> Sent:
        self._next += 1
        return make(self._next, self._ledger.begin_ms)
