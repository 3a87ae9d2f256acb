"""Who sees what where the service is not on this machine alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from impact_database.keys import create_key, revoke_key
from impact_reports.sign_in import COOKIE, SESSION_S
from tests.reports.conftest import OTHER_SITE, Clinic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

PAGES = ("/", "/products/clinic", "/products/clinic/metrics/visits", "/products/nobody")
API = "/v1/products/clinic/metrics/visits"


@pytest.fixture
async def client(small_clinic: Clinic) -> AsyncIterator[httpx.AsyncClient]:
    async with small_clinic.client(open_to_all=False) as one:
        yield one


async def key_of(clinic: Clinic, product: str = "clinic", scope: str = "read") -> str:
    text, _ = await create_key(clinic.engine, product, [scope])
    return text


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_leads_to_the_form_and_a_program_gets_401(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=")
    refused = await client.get(API)
    assert refused.status_code == 401
    assert refused.json()["code"] == "unauthorized"
    assert refused.headers["www-authenticate"].startswith("Bearer")


async def test_a_key_opens_its_product_and_no_other(small_clinic: Clinic, client: httpx.AsyncClient) -> None:
    own, other = await key_of(small_clinic), await key_of(small_clinic, "bakery")
    assert (await client.get(API, headers=bearer(own))).status_code == 200
    assert (await client.get("/products/clinic", headers=bearer(own))).status_code == 200
    for path in (API, "/products/clinic", "/products/clinic/metrics/visits", "/v1/products/clinic/metrics"):
        assert (await client.get(path, headers=bearer(other))).status_code == 403, path
    assert (await client.get("/v1/products", headers=bearer(other))).json() == {"products": []}
    assert "clinic" not in (await client.get("/", headers=bearer(other))).text


async def test_a_key_without_the_scope_read_opens_nothing(
    small_clinic: Clinic, client: httpx.AsyncClient
) -> None:
    writer = await key_of(small_clinic, scope="write")
    assert (await client.get(API, headers=bearer(writer))).status_code == 403
    assert (await client.post("/sign-in", data={"key": writer})).status_code == 403


async def test_a_wrong_key_is_refused_even_where_none_is_needed(small_clinic: Clinic) -> None:
    async with small_clinic.client(open_to_all=True) as client:
        assert (await client.get(API)).status_code == 200
        assert (await client.get(API, headers={"Authorization": "Bearer nonsense"})).status_code == 401


async def test_people_sign_in_look_and_sign_out(small_clinic: Clinic, client: httpx.AsyncClient) -> None:
    key = await key_of(small_clinic)
    wrong = await client.post("/sign-in", data={"key": "imp_00000000_" + "a" * 43})
    assert wrong.status_code == 401
    assert "unknown, expired or revoked" in wrong.text
    answer = await client.post("/sign-in", data={"key": key, "next": "/products/clinic"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/products/clinic"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert key not in cookie
    assert "Sign out" in (await client.get("/products/clinic")).text
    await client.post("/sign-out")
    assert (await client.get("/products/clinic")).status_code == 303


async def test_behind_tls_the_cookie_stays_on_tls(small_clinic: Clinic, client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/sign-in", data={"key": await key_of(small_clinic)}, headers={"X-Forwarded-Proto": "https"}
    )
    assert "; secure" in answer.headers["set-cookie"].lower()


async def test_a_session_ends_with_its_time_and_with_its_key(
    small_clinic: Clinic, client: httpx.AsyncClient
) -> None:
    key = await key_of(small_clinic)
    await client.post("/sign-in", data={"key": key})
    small_clinic.pipeline.clock.now += SESSION_S * 1_000_000
    assert (await client.get("/")).status_code == 303
    await client.post("/sign-in", data={"key": key})
    assert (await client.get("/")).status_code == 200
    await revoke_key(small_clinic.engine, key.split("_")[1])
    await small_clinic.keys._load()
    assert (await client.get("/")).status_code == 303


async def test_a_session_cannot_be_made_or_prolonged(small_clinic: Clinic, client: httpx.AsyncClient) -> None:
    key = await key_of(small_clinic)
    await client.post("/sign-in", data={"key": key})
    key_id, expires, mac = client.cookies[COOKIE].split(".")
    forged = [
        f"{key_id}.{int(expires) + 1}.{mac}",
        f"{key_id}.{expires}.{'0' * 64}",
        f"{key_id}.{expires}",
        "x",
        ".",
    ]
    client.cookies.clear()
    for cookie in forged:
        answer = await client.get("/", headers={"Cookie": f"{COOKIE}={cookie}"})
        assert answer.status_code == 303, cookie


@pytest.mark.parametrize(
    "target", [OTHER_SITE, "//elsewhere.example", "/\\elsewhere.example", "javascript:1", ""]
)
async def test_signing_in_leads_to_no_other_site(
    small_clinic: Clinic, client: httpx.AsyncClient, target: str
) -> None:
    answer = await client.post("/sign-in", data={"key": await key_of(small_clinic), "next": target})
    assert answer.headers["location"] == "/"


async def test_a_form_of_another_site_is_refused(small_clinic: Clinic, client: httpx.AsyncClient) -> None:
    key = await key_of(small_clinic)
    for path in ("/sign-in", "/sign-out"):
        answer = await client.post(path, data={"key": key}, headers={"Origin": OTHER_SITE})
        assert answer.status_code == 403, path


@pytest.mark.parametrize(
    "headers",
    [{"Host": "elsewhere.example"}, {"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}],
)
async def test_open_is_only_what_is_asked_for_on_this_machine(
    small_clinic: Clinic, headers: dict[str, str]
) -> None:
    async with small_clinic.client(open_to_all=True) as client:
        for host in ("localhost:8080", "127.0.0.1", "[::1]:8080"):
            assert (await client.get("/", headers={"Host": host})).status_code == 200, host
        assert (await client.get("/", headers=headers)).status_code == 303
        assert (await client.get(API, headers=headers)).status_code == 401
