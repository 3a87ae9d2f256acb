"""`impact up` as a whole: what is personal in events of every fate is in no file and in no answer."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.cli.service import Service, wait_until

if TYPE_CHECKING:
    from pathlib import Path

CATALOG = """\
apiVersion: impact/v1
product: clinic
title: Clinic
sources: ["/clinic/*"]
events:
  clinic.visit.v1:
    subject: required
    pseudonymous: [data.household, data.contact.phone]
    data:
      type: object
      required: [minutes]
      properties:
        minutes: {type: number, minimum: 0}
        household: {type: string}
        contact: {type: object, properties: {phone: {type: string}}}
        language: {enum: [en, sw]}
metrics:
  visits:
    title: Visits
    event: clinic.visit.v1
    aggregate: count
    role: impact
    dimensions: {language: data.language}
  households: {title: Households, event: clinic.visit.v1, aggregate: unique, of: data.household, role: impact}
  people: {title: People, event: clinic.visit.v1, aggregate: unique, of: subject, role: impact}
"""
PHONE, NAME, MAIL = "+254700123456", "Wanjiru Kanari", "wanjiru.kanari@example.org"
CANARIES = (PHONE, "254700123456", NAME, "Wanjiru", "Kanari", "kanari@example")
PERSONAL = {
    "minutes": 5,
    "language": "sw",
    "household": NAME,
    "contact": {"phone": PHONE, "name": NAME},
    "name": NAME,
    "notes": {"text": f"{NAME} called from {PHONE}", "copies": [MAIL, {NAME: PHONE}]},
}


def an_event(name: str, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": name,
        "source": "/clinic/north",
        "type": "clinic.visit.v1",
        "subject": PHONE,
        "partitionkey": PHONE,
        "data": PERSONAL,
    } | changes
    return {name: part for name, part in event.items() if part is not None}


TARGET = {"source": "/clinic/north", "id": "good", "reason": "the wrong file"}
EVENTS: dict[str, Any] = {
    "good": an_event("good"),
    "conflict": an_event("good", data=PERSONAL | {"minutes": 6}),
    "corrected": an_event("c", type="impact.correction.v1", data=TARGET | {"data": PERSONAL, "name": NAME}),
    "retracted": an_event("r", type="impact.retraction.v1", data=TARGET | {"by": NAME}),
    "violated": an_event("violated", data=PERSONAL | {"minutes": -1}),
    "violated by a name": an_event("named", data=PERSONAL | {"language": "xx", NAME: 1}),
    "text for a number": an_event("text", data={"minutes": "x", "phone": PHONE}),
    "unknown type": an_event("unknown", type="clinic.call.v1"),
    "number of an unknown type": an_event("number", type="clinic.call.v1", data={"called": 254700123456}),
    "foreign source": an_event("foreign", source="/other/north"),
    "no subject": an_event("nobody", subject=None),
    "too late": an_event("late", time="2199-01-01T00:00:00Z"),
    "no id": an_event("x", id=None),
    "subject of another kind": an_event("list", subject=[PHONE]),
    "data in base64": an_event("base64", data_base64=NAME),
    "wrapped": {"event": an_event("wrapped"), NAME: PHONE},
    "a list": [an_event("listed"), NAME],
    "text": NAME,
    "too large": an_event("large", data=PERSONAL | {"filler": NAME * 10_000}),
}
UNREADABLE = [
    json.dumps(an_event("cut"))[:-1],
    json.dumps(an_event("nul")).replace("called", "\\u0000"),
    json.dumps(an_event("twice"))[:-1] + f', "subject": "{NAME}"}}',
]


@pytest.mark.timeout(120)
def test_what_is_personal_is_nowhere(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "clinic.yaml").write_text(CATALOG)
    service = Service(tmp_path)
    service.start()
    answers = [service.post(list(EVENTS.values()))]
    answers += [service.post([event]) for event in EVENTS.values()]
    answers += [raw(service, body.encode()) for body in UNREADABLE]
    answers.append(raw(service, gzip.compress(json.dumps(an_event("zip")).encode())[:-9], "gzip"))
    assert {answer.status_code for answer in answers} <= {202, 207, 422, 403, 413, 400, 200}
    wait_until(lambda: counted(service) > 0, "events are counted")
    wait_until(lambda: received(service) >= 2 * (len(EVENTS) - 4), "events are in quarantine")
    answers.append(httpx.get(f"{service.url}/metrics"))
    answers += [status(service, name) for name in ("good", "violated", "unknown", "nobody")]
    exits = {"answers": b"\n".join(answer.content for answer in answers)}
    assert [answer.json()["status"] for answer in answers[-4:]] == ["retracted", *["quarantined"] * 3]
    assert service.stop() == 0
    exits |= {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    del exits["clinic.yaml"]
    assert {"events.db", "metrics.db", "up.log"} <= exits.keys()
    found = [(name, one) for name, content in exits.items() for one in CANARIES if one.encode() in content]
    assert found == []


def raw(service: Service, body: bytes, encoding: str = "identity") -> httpx.Response:
    headers = {
        "Authorization": f"Bearer {service.key()}",
        "Content-Type": "application/cloudevents+json",
        "Content-Encoding": encoding,
    }
    return httpx.post(f"{service.url}/v1/events", content=body, headers=headers)


def status(service: Service, event_id: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {service.key()}"}
    params = {"source": "/clinic/north", "id": event_id}
    return httpx.get(f"{service.url}/v1/events/status", params=params, headers=headers)


def counted(service: Service) -> int:
    rows = service.sql("SELECT counted FROM ledger")
    return int(rows[0][0]) if rows else 0


def received(service: Service) -> int:
    rows = service.sql("SELECT received FROM ledger")
    return int(rows[0][0]) if rows else 0
