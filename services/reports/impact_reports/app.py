"""The reports service: pages, query API and partners' files over one database, as one application."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from impact_reports import api, pages, partner_routes
from impact_reports.partner_files import PartnerFiles
from impact_reports.partner_store import PartnerStore
from impact_reports.problems import PROBLEM_JSON, Problem
from impact_reports.sign_in import Access
from impact_schemas.identity import derive_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncEngine
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from impact_reports.partner_door import Door
    from impact_schemas.keys import KeyStore

log = structlog.get_logger()

# Nothing from elsewhere, nothing inline, and nobody frames it.
_POLICY = (
    *("default-src 'none'", "style-src 'self'", "script-src 'self'", "connect-src 'self'", "img-src data:"),
    *("form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
)
_HEADERS = (
    (b"content-security-policy", "; ".join(_POLICY).encode()),
    (b"referrer-policy", b"same-origin"),  # with no-referrer browsers send forms with the origin null
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
API_PATHS = ("/v1/", "/api/")


def micros_now() -> int:
    """The system's clock in microseconds since 1970."""
    return time.time_ns() // 1000


def create_app(
    engine: AsyncEngine,
    keys: KeyStore,
    *,
    session_key: bytes,
    open_to_all: bool,
    clock: Callable[[], int] = micros_now,
    door: Door | None = None,
) -> FastAPI:
    """The service. It starts and stops nothing: engine, keys and door are the caller's.

    `open_to_all`: everybody may read everything, as on one's own machine; otherwise only `/public/` is open.
    `door`: where partners' rows go that somebody approves; without it uploads are off.
    """
    access = Access(keys, session_key, clock, open_to_all=open_to_all)
    app = _GuardedApp(
        title="Impact Telemetry: numbers",
        summary="The numbers of the views, as JSON and CSV.",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's own page loads scripts from another host
        redoc_url=None,
    )
    app.include_router(api.routes(engine, access))
    store = PartnerStore(engine, clock)
    files = None if door is None else PartnerFiles(store, door, clock, derive_key(session_key, "files"))
    app.include_router(pages.routes(engine, access, store))
    app.include_router(partner_routes.routes(engine, access, store, files))
    for kind in (Problem, RequestValidationError, HTTPException, SQLAlchemyError, OSError, Exception):
        app.add_exception_handler(kind, _refuse)
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    problem = _problem(error)
    if request.url.path.startswith(API_PATHS) or not _wants_a_page(request):
        return Response(problem.body(), problem.status, problem.headers, PROBLEM_JSON)
    if problem.status == 401 and request.method == "GET":
        return pages.to_sign_in(request)
    return pages.message(problem)


def _wants_a_page(request: Request) -> bool:
    """Unless the request says that it reads something else, such as JSON."""
    accepts = request.headers.get("accept", "*/*")
    return any(kind in accepts for kind in ("text/html", "text/*", "*/*"))


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        detail = "There is no such page." if error.status_code == 404 else error.detail
        return Problem(error.status_code, code, detail, dict(error.headers or {}))
    if isinstance(error, RequestValidationError):
        names = sorted({str(fault["loc"][-1]) for fault in error.errors()})
        return Problem(400, "bad_query", f"These parameters are missing or wrong: {', '.join(names)}.")
    if isinstance(error, SQLAlchemyError | OSError):
        log.warning("numbers_not_read", error=type(error).__name__)
        detail = "The metrics database does not answer now: try again in a moment."
        return Problem(503, "database_unavailable", detail, {"Retry-After": "2"})
    return Problem(500, "internal_error", "This is a fault of the service: its log has the reason.")


class _GuardedApp(FastAPI):
    """FastAPI that tells the browser what to refuse, in every answer: that to a fault too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the headers, and no others."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await super().__call__(scope, receive, send_with_headers)
