"""`GET /v1/events/status`: the database first, then what this process remembers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from impact_ingest.status import AcceptedEvents
from tests.ingest.running import IDENTITIES, an_event, batch_of

if TYPE_CHECKING:
    import httpx

    from tests.ingest.running import MemoryWriter, Service

EVENT = ("/water/pump-1", "e-1")


async def ask(service: Service, source: str = EVENT[0], event_id: str = EVENT[1]) -> httpx.Response:
    return await service.client.get(
        "/v1/events/status",
        params={"source": source, "id": event_id},
        headers={"Authorization": f"Bearer {service.key}"},
    )


async def test_an_event_waits_from_its_202_until_the_database_knows_it(service: Service) -> None:
    assert (await ask(service)).json()["status"] == "unknown"
    await service.send_one()
    answer = await ask(service)
    assert answer.json() == {"source": "/water/pump-1", "id": "e-1", "status": "waiting"}
    service.known[IDENTITIES.of("water", *EVENT)] = "counted"
    assert (await ask(service)).json()["status"] == "counted"


async def test_what_was_not_accepted_does_not_wait(service: Service, writer: MemoryWriter) -> None:
    await service.send([an_event(id="good"), an_event(data={})])
    await service.send(batch_of(1), params={"dry_run": "true"})
    await service.send([an_event(id="whole"), an_event(data={})], params={"atomic": "true"})
    writer.failing.add("impact.events.v1")
    await service.send_one(id="lost")
    statuses = {name: (await ask(service, event_id=name)).json()["status"] for name in ("good", "e-1", "e-0")}
    assert statuses == {"good": "waiting", "e-1": "unknown", "e-0": "unknown"}
    assert (await ask(service, event_id="whole")).json()["status"] == "unknown"
    assert (await ask(service, event_id="lost")).json()["status"] == "unknown"


async def test_a_retraction_waits_under_its_own_name_and_its_target_does_not(service: Service) -> None:
    data = {"source": "/water/pump-1", "id": "e-1", "reason": "x"}
    await service.send([an_event(id="r-1", type="impact.retraction.v1", data=data)])
    assert (await ask(service, event_id="r-1")).json()["status"] == "waiting"
    assert (await ask(service)).json()["status"] == "unknown"


async def test_a_product_sees_its_own_events_only(service: Service) -> None:
    await service.send_one()
    service.key = service.keys.make("wallet")
    assert (await ask(service)).json()["status"] == "unknown"


async def test_it_needs_a_write_key_and_both_names(service: Service) -> None:
    missing = await service.client.get(
        "/v1/events/status", params={"id": "x"}, headers={"Authorization": f"Bearer {service.key}"}
    )
    assert (missing.status_code, missing.json()["code"]) == (400, "bad_query")
    assert "source" in missing.json()["detail"]
    service.key = service.keys.make("water", "read")
    assert (await ask(service)).status_code == 403
    service.key = "nothing"
    refused = await ask(service)
    assert refused.status_code == 401
    assert "www-authenticate" in refused.headers


async def test_a_database_that_is_down_is_503(service: Service) -> None:
    service.known.clear()
    service.known[b"down"] = "counted"
    answer = await ask(service)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def ask_many(service: Service, content: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {service.key}"}
    return await service.client.post("/v1/events/status", json=content, headers=headers)


async def test_of_many_events_it_says_the_same(service: Service) -> None:
    await service.send(batch_of(3))
    service.known[IDENTITIES.of("water", EVENT[0], "e-1")] = "counted"
    names = ["e-0", "e-1", "e-2", "never"]
    answer = await ask_many(service, {"source": EVENT[0], "ids": names})
    singly = {name: (await ask(service, event_id=name)).json()["status"] for name in names}
    assert answer.json() == {"source": EVENT[0], "statuses": singly}
    assert singly == {"e-0": "waiting", "e-1": "counted", "e-2": "waiting", "never": "unknown"}
    assert (await ask_many(service, {"source": "/", "ids": []})).json()["statuses"] == {}


async def test_a_wrong_question_about_many_is_refused(service: Service) -> None:
    wrong: list[object] = [{}, [], {"source": "", "ids": []}, {"source": "/", "ids": [1]}]
    for content in (*wrong, {"source": "/", "ids": ["x"] * 1_001}):
        assert (await ask_many(service, content)).status_code == 400, content
    big = await ask_many(service, {"source": "/", "ids": ["x" * 2**20]})
    assert (big.status_code, big.headers["content-type"]) == (413, "application/problem+json")
    service.known[b"down"] = "counted"
    assert (await ask_many(service, {"source": "/", "ids": ["x"]})).status_code == 503
    service.key = "nonsense"
    assert (await ask_many(service, {"source": "/", "ids": ["x"]})).status_code == 401


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 20))
def test_the_newest_are_remembered_within_the_capacity(sizes: list[int], capacity: int) -> None:
    accepted = AcceptedEvents(capacity)
    sent = [[os.urandom(16) for _ in range(size)] for size in sizes if size]
    for identities in sent:
        accepted.add(identities)
    assert all(identity in accepted for identity in (sent[-1] if sent else []))
    everything = frozenset(identity for identities in sent for identity in identities)
    assert accepted.among(everything) == {one for one in everything if one in accepted}
    remembered = [identity for identities in sent for identity in identities if identity in accepted]
    newest = [identity for identities in sent for identity in identities][-len(remembered) or 10**9 :]
    assert remembered == newest
    assert len(remembered) <= max(capacity, len(sent[-1]) if sent else 0)


def test_bytes_across_two_identities_are_no_identity() -> None:
    accepted = AcceptedEvents()
    accepted.add([b"0123456789abcdef", b"ABCDEFGHIJKLMNOP"])
    assert b"ABCDEFGHIJKLMNOP" in accepted
    assert b"89abcdefABCDEFGH" not in accepted
