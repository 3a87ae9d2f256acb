"""Who may come in: keys are checked before the body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from impact_ingest.limits import Limits
from impact_schemas.keys import hash_secret, make_key, split_key
from tests.ingest.running import NOW, an_event, running

if TYPE_CHECKING:
    from tests.ingest.running import MemoryWriter, Service


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer nonsense", "Basic dTpw", f"Bearer imp_ffffffff_{'A' * 43}", "Bearer é"],
)
async def test_without_a_valid_key_nothing_passes(
    service: Service, writer: MemoryWriter, header: str
) -> None:
    answer = await service.send([an_event()], headers={"Authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert not writer.records


async def test_a_known_id_with_another_secret_is_refused(service: Service) -> None:
    service.key = service.key[:-1] + ("A" if service.key[-1] != "A" else "B")
    assert (await service.send([an_event()])).status_code == 401


async def test_the_scheme_takes_any_case(service: Service) -> None:
    answer = await service.send([an_event()], headers={"Authorization": f"bEARER {service.key}"})
    assert answer.status_code == 202


async def test_expired_and_revoked_keys_are_refused(service: Service) -> None:
    make = service.keys.make
    keys = {
        make("water", expires_at=NOW): 401,
        make("water", expires_at=NOW + 1): 202,
        make("water", revoked_at=NOW - 1): 401,
    }
    for service.key, status in keys.items():
        assert (await service.send([an_event()])).status_code == status


async def test_a_key_without_the_scope_write_may_not_write(service: Service) -> None:
    service.key = service.keys.make("water", scopes="read import")
    answer = await service.send([an_event()])
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


async def test_a_key_for_imports_may_ask_for_verdicts_and_no_more(
    service: Service, writer: MemoryWriter
) -> None:
    service.key = service.keys.make("water", scopes="import")
    asked = await service.send([an_event()], params={"dry_run": "true"})
    assert (asked.status_code, asked.json()["accepted"]) == (200, 1)
    assert (await service.send([an_event()])).status_code == 403
    service.key = service.keys.make("water", scopes="read")
    assert (await service.send([an_event()], params={"dry_run": "true"})).status_code == 403
    assert not writer.records


async def test_the_scope_admin_may_write(service: Service) -> None:
    service.key = service.keys.make("water", scopes="admin")
    assert (await service.send([an_event()])).status_code == 202


async def test_two_keys_of_a_product_live_side_by_side(service: Service) -> None:
    for key in (service.key, service.keys.make("water")):
        service.key = key
        assert (await service.send([an_event()])).status_code == 202


async def test_an_early_refusal_closes_and_is_seen_while_the_client_still_sends(service: Service) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
    answer = await service.raw(head, *[b"x" * 90_000] * 10, pause_s=0.01)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


async def test_a_client_that_expects_100_continue_is_refused_before_it_sends(writer: MemoryWriter) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    async with running(writer, limits=Limits(drain_s=0.05)) as service:
        assert (await service.raw(head)).startswith(b"HTTP/1.1 401 ")


async def test_a_refusal_without_a_body_keeps_the_connection(service: Service) -> None:
    answer = await service.client.post("/v1/events")
    assert answer.status_code == 401
    assert "connection" not in answer.headers


def test_a_key_shows_its_id_and_hides_its_secret() -> None:
    text, key_id, secret_hash = make_key(bytes(range(36)))
    assert text == "imp_00010203_BAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiM"
    split = split_key(text)
    assert split is not None
    assert (split[0], hash_secret(split[1])) == (key_id, secret_hash)


def test_a_key_is_made_of_enough_randomness() -> None:
    with pytest.raises(ValueError, match="36 random bytes"):
        make_key(b"short")


@pytest.mark.parametrize("text", ["", "imp_", "imp_0001020_" + "A" * 43, "imp_00010203_" + "A" * 42 + "\n"])
def test_what_is_no_key_is_not_split(text: str) -> None:
    assert split_key(text) is None
