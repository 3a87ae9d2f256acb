"""Who may see /metrics, and what /readyz says of a check that fails."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge
from pydantic import SecretStr

from impact_cli.assemble import guard_metrics
from impact_cli.operations import is_loopback, operations_app
from impact_cli.settings import Settings


async def passes() -> bool:
    return True


async def breaks() -> bool:
    raise ConnectionError("the database is down")


def client(host: str, token: str | None) -> httpx.AsyncClient:
    registry = CollectorRegistry()
    Gauge("impact_visits", "Visits.", registry=registry).set(3)
    app = operations_app(registry, {"database": passes})
    guard_metrics(app, Settings(host=host, metrics_token=SecretStr(token) if token else None))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


@pytest.mark.parametrize(
    ("host", "token", "given", "status"),
    [
        ("127.0.0.1", None, None, 200),
        ("0.0.0.0", None, None, 401),
        ("0.0.0.0", None, "", 401),
        ("0.0.0.0", "secret", None, 401),
        ("0.0.0.0", "secret", "wrong", 401),
        ("0.0.0.0", "secret", "secret", 200),
        ("127.0.0.1", "secret", None, 401),
    ],
)
async def test_numbers_leave_the_machine_only_for_the_token(
    host: str, token: str | None, given: str | None, status: int
) -> None:
    headers = {} if given is None else {"Authorization": f"Bearer {given}"}
    async with client(host, token) as http:
        for path in ("/metrics", "/metrics/"):
            answer = await http.get(path, headers=headers, follow_redirects=True)
            assert answer.status_code == status
            assert ("impact_visits 3.0" in answer.text) == (status == 200)
        assert (await http.get("/readyz")).status_code == 200


async def test_a_check_that_breaks_makes_the_process_not_ready_but_alive() -> None:
    app = operations_app(CollectorRegistry(), {"database": breaks, "log": passes})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        ready = await http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"ready": False, "checks": {"database": False, "log": True}}
        assert (await http.get("/healthz")).status_code == 200


async def test_what_is_not_there_is_a_problem() -> None:
    async with client("127.0.0.1", None) as http:
        for method, path, status, code in (
            ("GET", "/nowhere", 404, "not_found"),
            ("POST", "/metrics", 405, "method_not_allowed"),
        ):
            answer = await http.request(method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_loopback_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
