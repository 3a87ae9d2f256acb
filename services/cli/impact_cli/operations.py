"""What operators ask of a process without an API of its own, and who may see the numbers in /metrics."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    Check = Callable[[], Awaitable[bool]]

CHECK_DEADLINE_S = 2.0
_ELSEWHERE = "This process has GET /healthz, /readyz and /metrics."

log = structlog.get_logger(__name__)


def operations_app(
    registry: CollectorRegistry, checks: Mapping[str, Check], more_metrics: Callable[[], bytes] = bytes
) -> Starlette:
    """`/healthz`, `/readyz` and `/metrics`; ready when every check says so within 2 s.

    `more_metrics` gives lines of text that belong to `/metrics` too: gauges that are too many for objects.
    """

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"alive": True})

    async def readyz(_request: Request) -> JSONResponse:
        passed = dict(zip(checks, await asyncio.gather(*map(_passes, checks.items())), strict=True))
        ready = all(passed.values())
        return JSONResponse({"ready": ready, "checks": passed}, status_code=200 if ready else 503)

    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(_joined(encode(registry), more_metrics()), media_type=media_type)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ],
        exception_handlers={HTTPException: _refuse},
    )


async def _refuse(_request: Request, error: Exception) -> Response:
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status}
    problem |= {"code": title.lower().replace(" ", "_"), "detail": _ELSEWHERE}
    return JSONResponse(problem, status, headers, "application/problem+json")


def _joined(page: bytes, lines: bytes) -> bytes:
    end = b"# EOF\n"  # OpenMetrics has nothing after it
    return page.removesuffix(end) + lines + (end if page.endswith(end) else b"")


async def _passes(named: tuple[str, Check]) -> bool:
    name, check = named
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            return await check()
    except Exception as error:  # noqa: BLE001 (a check that fails in any way is a "no", not an outage of /readyz)
        log.warning("check_failed", check=name, error=type(error).__name__)
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ByPath:
    """ASGI: two applications on one port; `first` has these paths and what is below them."""

    def __init__(self, paths: Collection[str], first: ASGIApp, other: ASGIApp) -> None:
        self._paths = frozenset(paths)
        self._first = first
        self._other = other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The start and the end of the server are the first one's."""
        mine = scope["type"] != "http" or any(
            scope["path"] == path or scope["path"].startswith(f"{path}/") for path in self._paths
        )
        await (self._first if mine else self._other)(scope, receive, send)


class MetricsGuard:
    """ASGI: lets only the holder of the token see /metrics."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every other path passes."""
        if scope["type"] != "http" or scope["path"].rstrip("/") != "/metrics" or self._may_see(scope):
            await self._app(scope, receive, send)
            return
        detail = "The numbers need `Authorization: Bearer <token>` with the token of IMPACT_METRICS_TOKEN."
        if self._token is None:
            detail += " None is set, and the service listens on more than this machine."
        answer = JSONResponse(
            {"type": "about:blank", "title": "Unauthorized", "status": 401}
            | {"code": "unauthorized", "detail": detail},
            401,
            {"WWW-Authenticate": 'Bearer realm="impact"'},
            "application/problem+json",
        )
        await answer(scope, receive, send)

    def _may_see(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return self._token is not None and hmac.compare_digest(given, b"Bearer " + self._token.encode())
