"""What operators and their tools ask of a process: is it alive, can it work now, what does it measure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import choose_encoder

from impact_ingest.problems import PROBLEM_JSON, Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from prometheus_client import CollectorRegistry

    Check = Callable[[], Awaitable[bool]]

CHECK_DEADLINE_S = 2.0

log = structlog.get_logger()
_ALIVE = {
    "description": "The process is alive.",
    "content": {"application/json": {"example": {"alive": True}}},
}
_READY = {
    "description": "It can do its work now.",
    "content": {"application/json": {"example": {"ready": True, "checks": {"event log": True}}}},
}
_NOT_READY = {
    "description": "It cannot; `checks` says what is missing.",
    "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_METRICS = {"description": "Prometheus text or OpenMetrics.", "content": {"text/plain": {}}}


def operations(
    registry: CollectorRegistry, checks: Mapping[str, Check], more_metrics: Callable[[], bytes] = bytes
) -> APIRouter:
    """`/healthz`, `/readyz` and `/metrics`; a process is ready when every check says so within 2 s.

    `more_metrics` gives lines of text that belong to `/metrics` too: gauges that are too many for objects.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Is the process alive?", responses={200: _ALIVE})
    async def healthz() -> JSONResponse:
        return JSONResponse({"alive": True})

    @router.get("/readyz", summary="Can it work now?", responses={200: _READY, 503: _NOT_READY})
    async def readyz() -> JSONResponse:
        names = list(checks)
        passed = dict(zip(names, await asyncio.gather(*map(_passes, checks.items())), strict=True))
        if all(passed.values()):
            return JSONResponse({"ready": True, "checks": passed})
        missing = ", ".join(name for name in names if not passed[name])
        raise Problem(
            503, "not_ready", f"Not ready: {missing}.", headers={"Retry-After": "1"}, extra={"checks": passed}
        )

    @router.get("/metrics", summary="Prometheus metrics", responses={200: _METRICS})
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(_joined(encode(registry), more_metrics()), media_type=content_type)

    return router


def _joined(page: bytes, lines: bytes) -> bytes:
    end = b"# EOF\n"  # OpenMetrics has nothing after it
    return page.removesuffix(end) + lines + (end if page.endswith(end) else b"")


async def _passes(named: tuple[str, Check]) -> bool:
    name, check = named
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            return await check()
    except Exception as error:  # noqa: BLE001 (a check that fails in any way is a "no", not an outage of /readyz)
        log.warning("check_failed", check=name, error=f"{type(error).__name__}: {error}")
        return False
