"""Sends one event, then a batch, with the official CloudEvents SDK and httpx.

pip install "cloudevents>=2" httpx
IMPACT_URL=http://127.0.0.1:8080 IMPACT_KEY=imp_... python send.py
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime

import httpx
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

RETRIED = {408, 429, 502, 503, 504}
GIVE_UP_S = 60.0


def visit(number: int) -> CloudEvent:
    """The id must be the event's own, made once where it happens: a resend has the same."""
    attributes = {
        "id": f"python-{number}",
        "source": "/clinic/examples",
        "type": "clinic.visit.v1",
        "time": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "subject": f"person-{number}",
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes, {"minutes": 15, "client": "python"})


def batch(events: list[CloudEvent]) -> HTTPMessage:
    """A JSON array of events: batched mode."""
    body = b"[" + b",".join(JSONFormat().write(event) for event in events) + b"]"
    return HTTPMessage({"content-type": "application/cloudevents-batch+json"}, body)


def send(client: httpx.Client, message: HTTPMessage) -> httpx.Response:
    """Until the service has answered for good; sending the same events again is safe."""
    deadline, delay = time.monotonic() + GIVE_UP_S, 0.5
    while True:
        try:
            answer = client.post("/v1/events", content=message.body, headers=dict(message.headers))
            wait = float(answer.headers.get("Retry-After", delay))
            if answer.status_code not in RETRIED or time.monotonic() + wait > deadline:
                return answer
        except httpx.TransportError:
            wait = delay
            if time.monotonic() + wait > deadline:
                raise
        time.sleep(wait)
        delay = min(2 * delay, 10.0)


def main() -> int:
    """Exit code 1 unless every event was accepted."""
    headers = {"Authorization": f"Bearer {os.environ['IMPACT_KEY']}"}
    messages = [to_binary_event(visit(1)), batch([visit(2), visit(3)])]
    with httpx.Client(base_url=os.environ["IMPACT_URL"], headers=headers) as client:
        answers = [send(client, message) for message in messages]
    for answer in answers:
        sys.stdout.write(f"{answer.status_code} {answer.text}\n")
    return 0 if all(answer.status_code == 202 for answer in answers) else 1


if __name__ == "__main__":
    raise SystemExit(main())
