"""`GET /v1/events/status`: what became of an event; `POST`: of many of one source.

An event is `waiting` from its 202 until the aggregator has committed it. The database knows nothing of it
then; the process that answered remembers, for as many events as it has room for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec
import structlog
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse

from impact_ingest.authentication import authenticate
from impact_ingest.problems import Problem, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from impact_schemas.identity import Identities
    from impact_schemas.keys import KeyStore

PATH = "/v1/events/status"
REMEMBERED_EVENTS = 200_000  # 3 MB; a minute of a busy door, and the aggregator follows within seconds

MAX_IDS = 1_000
MAX_BYTES = 2**20

Settled = Literal["counted", "quarantined", "retracted"]
Status = Literal["waiting", "counted", "duplicate", "quarantined", "retracted", "unknown"]

log = structlog.get_logger()


class EventStatus(Protocol):
    """What the metrics database knows of events."""

    async def find(self, product: str, identity: bytes, source: str, event_id: str) -> Settled | None:
        """None if it knows nothing of the event. Raises OSError or the database's own errors."""
        ...

    async def find_all(self, product: str, source: str, events: Mapping[str, bytes]) -> Mapping[str, Settled]:
        """The same of many, by their ids: id -> identity; those of which it knows nothing are left out."""
        ...


class Many(msgspec.Struct, forbid_unknown_fields=True):
    """Events of one source."""

    source: Annotated[str, msgspec.Meta(min_length=1)]
    ids: Annotated[list[str], msgspec.Meta(max_length=MAX_IDS)]


class AcceptedEvents:
    """The identities of the last events that this process has accepted."""

    def __init__(self, capacity: int = REMEMBERED_EVENTS) -> None:
        self._capacity = capacity
        self._requests: deque[bytes] = deque()  # the identities of each request, one after the other
        self._held = 0

    def add(self, identities: Sequence[bytes]) -> None:
        """All have the same length."""
        self._requests.append(b"".join(identities))
        self._held += len(identities)
        while self._held > self._capacity and len(self._requests) > 1:
            self._held -= len(self._requests.popleft()) // len(identities[0])

    def among(self, wanted: frozenset[bytes]) -> set[bytes]:
        """Those of `wanted` that it remembers, in one pass over all of them."""
        size = len(next(iter(wanted), b"-"))
        return {
            identity
            for joined in self._requests
            for start in range(0, len(joined), size)
            if (identity := joined[start : start + size]) in wanted
        }

    def __contains__(self, identity: bytes) -> bool:
        return any(_has(joined, identity) for joined in self._requests)


def _has(joined: bytes, identity: bytes) -> bool:
    at = joined.find(identity)
    while at > 0 and at % len(identity):  # across two others
        at = joined.find(identity, at + 1)
    return at >= 0


def status_route(
    accepted: AcceptedEvents,
    known: EventStatus,
    keys: KeyStore,
    identities: Identities,
    clock: Callable[[], int],
) -> APIRouter:
    """The route; `clock` gives microseconds since 1970."""
    router = APIRouter(tags=["events"])

    @router.get(PATH, summary="What became of an event?", responses=_RESPONSES)
    async def status(
        source: Annotated[str, Query(min_length=1, description="The event's `source`.")],
        id: Annotated[str, Query(min_length=1, description="The event's `id`.")],  # noqa: A002 (the contract's name)
        authorization: Annotated[
            str, Header(description="Bearer, and a key with scope write or import.")
        ] = "",
    ) -> JSONResponse:
        key = await authenticate(authorization.encode("latin-1", "replace"), keys, clock())
        identity = identities.of(key.product, source, id)
        try:
            found: Status | None = await known.find(key.product, identity, source, id)
        except Exception as error:
            log.warning("event_status_not_read", error=type(error).__name__)
            raise unavailable("database_unavailable", "The metrics database does not answer now.") from error
        if found is None:
            found = "waiting" if identity in accepted else "unknown"
        return JSONResponse({"source": source, "id": id, "status": found})

    @router.post(
        PATH,
        summary="What became of many events of one source?",
        responses=_MANY_RESPONSES,
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _MANY}}}},
    )
    async def statuses(
        request: Request,
        authorization: Annotated[str, Header(description="As for one event.")] = "",
    ) -> JSONResponse:
        key = await authenticate(authorization.encode("latin-1", "replace"), keys, clock())
        _check_length(request.headers.get("content-length", ""))
        try:
            asked = msgspec.json.decode(await request.body(), type=Many)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Problem(400, "bad_query", f"Send {{source, ids}} as JSON: {error}") from error
        events = {one: identities.of(key.product, asked.source, one) for one in asked.ids}
        try:
            settled = await known.find_all(key.product, asked.source, events)
        except Exception as error:
            log.warning("event_status_not_read", error=type(error).__name__)
            raise unavailable("database_unavailable", "The metrics database does not answer now.") from error
        waiting = accepted.among(
            frozenset(identity for one, identity in events.items() if one not in settled)
        )
        rest = {one: "waiting" if identity in waiting else "unknown" for one, identity in events.items()}
        return JSONResponse({"source": asked.source, "statuses": rest | dict(settled)})

    return router


def _check_length(text: str) -> None:
    """The server reads no more than a request says that it has. Raises Problem 413."""
    if not text.isdecimal() or int(text) > MAX_BYTES:
        raise Problem(413, "body_too_large", f"Say the length of the body: {MAX_BYTES} bytes at most.")


_STATUS = {
    "type": "object",
    "required": ["source", "id", "status"],
    "properties": {
        "source": {"type": "string"},
        "id": {"type": "string"},
        "status": {
            "enum": ["waiting", "counted", "duplicate", "quarantined", "retracted", "unknown"],
            "description": "waiting: accepted by this process, not yet counted; counted: it is in the "
            "numbers, once, however often it was sent; quarantined: it was refused, and is not counted; "
            "retracted: taken back, also before it came; unknown: never seen, or not for long enough. "
            "duplicate is not in use: a copy has the name of the event that was counted.",
        },
    },
}
_MANY = {
    "type": "object",
    "required": ["source", "ids"],
    "additionalProperties": False,
    "properties": {
        "source": {"type": "string", "minLength": 1},
        "ids": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_IDS},
    },
}
_STATUSES = {
    "type": "object",
    "required": ["source", "statuses"],
    "properties": {
        "source": {"type": "string"},
        "statuses": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "id -> status, as for one event",
        },
    },
}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "What is known of it.", "content": {"application/json": {"schema": _STATUS}}},
    400: {"description": "`source` or `id` is missing.", "content": _PROBLEM},
    401: {"description": "No valid key.", "content": _PROBLEM},
    403: {"description": "The key may not write.", "content": _PROBLEM},
    503: {"description": "The metrics database does not answer now.", "content": _PROBLEM},
}
_MANY_RESPONSES: dict[int | str, dict[str, Any]] = {
    **_RESPONSES,
    200: {"description": "What is known of them.", "content": {"application/json": {"schema": _STATUSES}}},
    400: {"description": "The body is not {source, ids}.", "content": _PROBLEM},
    413: {"description": "The body is too large.", "content": _PROBLEM},
}
