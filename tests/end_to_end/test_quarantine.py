"""Quarantine on Kafka and PostgreSQL: from the refusal at the door, under a mended catalog, to the number."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from tests.end_to_end.services import Production, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig.kafka import KafkaServer

CATALOG = """\
apiVersion: impact/v1
product: river
title: A river
sources: ["/river/*"]
events:
  river.cleaned.v1:
    subject: required
    data: {type: object, required: [kg], properties: {kg: {type: number, minimum: LEAST}}}
metrics:
  kg: {title: Waste, event: river.cleaned.v1, aggregate: sum, of: data.kg, role: impact}
  people: {title: People, event: river.cleaned.v1, aggregate: unique, of: subject, role: impact}
"""
KG = "SELECT value FROM rolling_metrics WHERE metric = 'kg' AND time_window = 'all' AND segment = '{}'"
PEOPLE = (
    "SELECT value FROM rolling_metrics WHERE metric = 'people' AND time_window = 'all' AND segment = '{}'"
)


def cleaned(number: int, kg: float) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"n{number}",
        "source": "/river/boat-1",
        "type": "river.cleaned.v1",
        "subject": "the same person",
        "data": {"kg": kg},
    }


def send(service: Production, events: list[dict[str, Any]], **query: str) -> httpx.Response:
    headers = {
        "Authorization": f"Bearer {service.key_of['river']}",
        "Content-Type": "application/cloudevents-batch+json",
    }
    return httpx.post(
        f"{service.door.url}/v1/events", json=events, params=query, headers=headers, verify=False
    )


def status_of(service: Production, event_id: str) -> str:
    answer = httpx.get(
        f"{service.door.url}/v1/events/status",
        params={"source": "/river/boat-1", "id": event_id},
        headers={"Authorization": f"Bearer {service.key_of['river']}"},
        verify=False,
    )
    status: str = answer.json()["status"]
    return status


def test_a_refused_event_is_replayed_into_kafka_and_counted_once_with_its_identity_and_receipt(
    tmp_path: Path, kafka_server: KafkaServer, postgresql_url: str
) -> None:
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "river.yaml").write_text(CATALOG.replace("LEAST", "5"))
    with Production(tmp_path, kafka_server, postgresql_url, catalog, partitions=3) as service:
        service.start_aggregator("aggregator")
        assert send(service, [cleaned(1, kg=10), cleaned(2, kg=2.5)]).status_code == 207
        service.wait_until_counted("river", 2)
        assert (status_of(service, "n1"), status_of(service, "n2")) == ("counted", "quarantined")
        received = service.rows("SELECT received_at FROM quarantined_events")

        (catalog / "river.yaml").write_text(CATALOG.replace("LEAST", "0"))
        probe = [cleaned(3, kg=1)]
        wait_until(
            lambda: send(service, probe, dry_run="true").json()["accepted"] == 1,
            "the door has the new catalog",
        )
        for outcomes in ({"replayed": 1}, {}):  # the second time nothing is left
            told = json.loads(service.run("quarantine", "replay", "--product", "river", "--json"))
            assert told["outcomes"] == outcomes
        wait_until(lambda: status_of(service, "n2") == "counted", "the replayed event is counted")
        service.wait_until_rolled_up()
        assert send(service, [cleaned(2, kg=2.5)]).status_code == 202  # its name is known by now
        wait_until(
            lambda: service.rows("SELECT duplicates FROM ledger") == [(1,)], "the resent copy is a duplicate"
        )
        assert service.rows(KG) == [(12.5,)]
        assert service.rows(PEOPLE) == [(1,)]  # its pseudonym is the same
        ((received_again, replayed_at),) = service.rows(
            "SELECT received_at, replayed_at FROM quarantined_events"
        )
        assert [(received_again,)] == received
        assert replayed_at is not None
