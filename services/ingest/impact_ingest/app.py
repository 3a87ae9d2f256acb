"""Puts the door's parts together into one application."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from impact_ingest import openapi
from impact_ingest.admission import Admission
from impact_ingest.door import BUG, PATH, Door, DoorParts, Judges, Shared
from impact_ingest.express import Express
from impact_ingest.limits import Limits
from impact_ingest.metrics import DoorMetrics
from impact_ingest.operations import operations
from impact_ingest.problems import PROBLEM_JSON, Problem
from impact_ingest.rules import Rules
from impact_ingest.status import AcceptedEvents, status_route
from impact_schemas.wire import EVENTS_TOPIC, QUARANTINE_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from impact_eventlog.ports import EventLogWriter
    from impact_ingest.operations import Check
    from impact_ingest.status import EventStatus
    from impact_schemas.catalog import Catalog
    from impact_schemas.identity import Identities, Pseudonyms
    from impact_schemas.keys import KeyStore


def micros_now() -> int:
    """The system's clock in microseconds since 1970."""
    return time.time_ns() // 1000


def create_app(
    *,
    catalogs: Mapping[str, Catalog] | Rules,
    writer: EventLogWriter,
    keys: KeyStore,
    identities: Identities,
    pseudonyms: Pseudonyms,
    registry: CollectorRegistry,
    limits: Limits | None = None,
    events_topic: str = EVENTS_TOPIC,
    quarantine_topic: str = QUARANTINE_TOPIC,
    readiness: Mapping[str, Check] | None = None,
    more_metrics: Callable[[], bytes] = bytes,
    known_events: EventStatus | None = None,
    clock: Callable[[], int] = micros_now,
) -> DoorApp:
    """The ingest service. It starts and stops nothing: writer and keys are the caller's.

    Pass a `Rules` to swap catalogs later (`rules.use(catalogs)`). `readiness` names what must work for
    the process to be ready, `more_metrics` gives further lines of `/metrics`. With `known_events` it tells
    what became of an event. One app a registry.
    """
    limits = limits or Limits()
    admission, accepted = Admission(limits), AcceptedEvents()
    parts = DoorParts(
        rules=catalogs if isinstance(catalogs, Rules) else Rules(catalogs),
        writer=writer,
        keys=keys,
        identities=identities,
        pseudonyms=pseudonyms,
        limits=limits,
        events_topic=events_topic,
        quarantine_topic=quarantine_topic,
        clock=clock,
    )
    metrics = DoorMetrics(registry, lambda: admission.bytes)
    shared = Shared(parts, Judges(parts), metrics, admission, accepted)
    app = DoorApp(
        Door(shared),
        Express(shared),
        title="Impact Telemetry",
        summary="Product events in, live impact numbers out.",
        version="1",
        docs_url=None,  # FastAPI's own page loads scripts from another host
        redoc_url=None,
    )
    app.add_route("/docs", _docs, include_in_schema=False)
    if known_events is not None:
        app.include_router(status_route(accepted, known_events, keys, identities, clock))
    app.include_router(operations(registry, readiness or {}, more_metrics))
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_bad_query)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(Exception, _answer_bug)
    return app


class DoorApp(FastAPI):
    """FastAPI with the door in front of everything, and in its description: it is no route.

    A server may offer it whole requests by `express`, before anything else.
    """

    def __init__(self, door: Door, express: Express, **options: Any) -> None:
        super().__init__(**options)
        self._door = door
        self.express = express

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Past all middleware for the door: what it costs an event that comes alone."""
        if scope["type"] == "http" and scope["path"] == PATH:
            await self._door(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            schema = get_openapi(
                title=self.title, summary=self.summary, version=self.version, routes=self.routes
            )
            described = schema.setdefault("components", {})
            for kind, parts in openapi.components().items():
                described.setdefault(kind, {}).update(parts)
            schema["paths"] = {PATH: openapi.path_item(), **schema.get("paths", {})}
            self.openapi_schema = schema
        return self.openapi_schema


async def _docs(_request: Request) -> Response:
    page = files("impact_ingest").joinpath("docs.html").read_bytes()
    headers = {
        "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    }
    return Response(page, headers=headers, media_type="text/html")


def _response(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, problem.headers, PROBLEM_JSON)


async def _answer_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 (registered for it)
    return _response(error)


async def _answer_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for it)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    return _response(Problem(error.status_code, code, error.detail, headers=error.headers))


async def _answer_bad_query(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (registered for it)
    names = sorted({str(fault["loc"][-1]) for fault in error.errors()})
    return _response(Problem(400, "bad_query", f"These parameters are missing or wrong: {', '.join(names)}."))


async def _answer_bug(_request: Request, _error: Exception) -> Response:
    """The server logs the trace; the client gets none of it."""
    return _response(Problem(500, "internal_error", BUG))
