"""kill -9 at any moment: nothing that was accepted is lost, nothing is counted twice."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.end_to_end.crashing import POINTS
from tests.end_to_end.services import Embedded, Production, Service, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig.kafka import KafkaServer

CATALOG = """\
apiVersion: impact/v1
product: river
title: River
sources: ["/river"]
events:
  river.waste.v1:
    data: {type: object, required: [kg], properties: {kg: {type: integer}, site: {type: string}}}
metrics:
  collections: {title: Collections, event: river.waste.v1, aggregate: count, role: impact}
  waste:
    title: Waste
    event: river.waste.v1
    aggregate: sum
    of: data.kg
    unit: kg
    role: impact
    dimensions: {site: data.site}
  people: {title: People, event: river.waste.v1, aggregate: unique, of: subject, role: impact}
"""
KILLS = 20


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "river.yaml").write_text(CATALOG)
    return folder


class Sender(threading.Thread):
    """A product's backend: sends batches one after the other, each until it has its 202.

    An event's kg is its number, so that one lost and another doubled show in the sum.
    """

    def __init__(self, service: Service, first: int, batch: int = 50) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._next = first
        self._batch = batch
        self.accepted: list[int] = []
        self.attempts = 0
        self._ending = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._ending.is_set():
                numbers = list(range(self._next, self._next + self._batch))
                self._next += self._batch
                while not self._send(client, numbers):
                    time.sleep(0.05)
                self.accepted += numbers

    def end(self) -> None:
        """Returns when the batch in hand is accepted."""
        self._ending.set()
        self.join(60)
        assert not self.is_alive()

    def _send(self, client: httpx.Client, numbers: list[int]) -> bool:
        self.attempts += 1
        headers = {
            "Authorization": f"Bearer {self._service.key_of['river']}",
            "Content-Type": "application/cloudevents-batch+json",
        }
        try:
            answer = client.post(
                f"{self._service.door.url}/v1/events", json=[_event(n) for n in numbers], headers=headers
            )
        except httpx.HTTPError:
            return False
        assert answer.status_code in (202, 503), answer.text
        return answer.status_code == 202


def _event(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"n{number}",
        "source": "/river",
        "type": "river.waste.v1",
        "subject": f"person {number % 97}",
        "data": {"kg": number, "site": f"site {number % 5}"},
    }


def check(service: Service, accepted: list[int]) -> None:
    """Every accepted event is counted once, and nothing else is."""
    assert len(set(accepted)) == len(accepted)

    def settled() -> bool:
        return service.rows("SELECT counted, quarantined FROM ledger") == [(len(accepted), 0)]

    try:
        wait_until(settled, "all accepted events are counted", 60)
    except TimeoutError:
        pytest.fail(f"{len(accepted)} accepted, but {service.rows('SELECT * FROM ledger')}")
    service.wait_until_rolled_up()
    ((received, counted, duplicates, quarantined),) = service.rows(
        "SELECT received, counted, duplicates, quarantined FROM ledger"
    )
    assert received == counted + duplicates + quarantined
    values = {
        (metric, segment): int(value)
        for metric, segment, value in service.rows(
            "SELECT metric, segment, value FROM rolling_metrics WHERE time_window = 'all'"
        )
    }
    assert values["collections", "{}"] == len(accepted)
    assert values["waste", "{}"] == sum(accepted)
    assert values["people", "{}"] == len({number % 97 for number in accepted})
    for site in range(5):
        assert values["waste", f'{{"site":"site {site}"}}'] == sum(n for n in accepted if n % 5 == site)


def ledger_balances(service: Service) -> None:
    for received, *parts in service.rows("SELECT received, counted, duplicates, quarantined FROM ledger"):
        assert received == sum(parts)


@pytest.mark.timeout(600)
def test_the_embedded_service_killed_twenty_times_under_load(tmp_path: Path, catalog: Path) -> None:
    source = random.Random(20_26)
    with Embedded(tmp_path, catalog) as service:
        senders = [Sender(service, first * 1_000_000) for first in range(2)]
        for sender in senders:
            sender.start()
        for _ in range(KILLS):
            time.sleep(source.uniform(0.05, 1.2))
            service.door.stop(signal.SIGKILL)
            ledger_balances(service)
            service.start()
        for sender in senders:
            sender.end()
        accepted = [number for sender in senders for number in sender.accepted]
        assert len(accepted) > KILLS * 50
        check(service, accepted)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", POINTS)
def test_the_embedded_service_killed_around_its_commit(tmp_path: Path, catalog: Path, point: str) -> None:
    with Embedded(tmp_path, catalog) as service:
        sender = Sender(service, 0)
        sender.start()
        plain = service.door.program
        for nth in (1, 2, 3):
            service.door.stop()
            service.door.program = (sys.executable, "-m", "tests.end_to_end.crashing", point, str(nth))
            service.start()
            wait_until(service.door.has_died, f"killed at {point}", 60)
            service.door.program = plain
            service.start()
        sender.end()
        check(service, sender.accepted)


@pytest.mark.timeout(600)
def test_an_aggregator_on_kafka_and_postgresql_killed_around_its_commit(
    tmp_path: Path, catalog: Path, kafka_server: KafkaServer, postgresql_url: str
) -> None:
    with Production(tmp_path, kafka_server, postgresql_url, catalog) as service:
        sender = Sender(service, 0)
        sender.start()
        aggregator = service.start_aggregator("aggregator")
        plain = aggregator.program
        for nth, point in enumerate(POINTS, 1):
            aggregator.stop()
            aggregator.program = (sys.executable, "-m", "tests.end_to_end.crashing", point, str(nth))
            aggregator.start()
            wait_until(aggregator.has_died, f"killed at {point}", 60)
            ledger_balances(service)
            aggregator.program = plain
            aggregator.start()
        sender.end()
        check(service, sender.accepted)


@pytest.mark.timeout(300)
def test_one_bad_event_of_a_batch_is_quarantined_and_the_others_count(tmp_path: Path, catalog: Path) -> None:
    with Embedded(tmp_path, catalog) as service:
        events = [_event(number) for number in range(3)]
        events[1]["data"] = {"kg": "three"}
        answer = httpx.post(
            f"{service.door.url}/v1/events",
            json=events,
            headers={
                "Authorization": f"Bearer {service.key_of['river']}",
                "Content-Type": "application/cloudevents-batch+json",
            },
        )
        assert answer.status_code == 207
        assert answer.json()["accepted"] == 2
        (rejected,) = answer.json()["rejected"]
        assert (rejected["index"], rejected["code"], rejected["pointer"]) == (
            1,
            "schema_violation",
            "/data/kg",
        )
        service.wait_until_counted("river", 3)
        assert service.rows("SELECT * FROM ledger") == [("river", 3, 2, 0, 1)]
        ((code, event_id, payload),) = service.rows("SELECT code, event_id, payload FROM quarantined_events")
        assert (code, event_id) == ("schema_violation", "n1")
        assert "person" not in payload
