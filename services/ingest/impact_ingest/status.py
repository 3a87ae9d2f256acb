"""`GET /v1/events/status`: what became of an event.

An event is `waiting` from its 202 until the aggregator has committed it. The database knows nothing of it
then; the process that answered remembers, for as many events as it has room for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import structlog
from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse

from impact_ingest.authentication import authenticate
from impact_ingest.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from impact_schemas.identity import Identities
    from impact_schemas.keys import KeyStore

PATH = "/v1/events/status"
REMEMBERED_EVENTS = 200_000  # 3 MB; a minute of a busy door, and the aggregator follows within seconds

Settled = Literal["counted", "quarantined", "retracted"]
Status = Literal["waiting", "counted", "duplicate", "quarantined", "retracted", "unknown"]

log = structlog.get_logger()


class EventStatus(Protocol):
    """What the metrics database knows of events."""

    async def find(self, product: str, identity: bytes, source: str, event_id: str) -> Settled | None:
        """None if it knows nothing of the event. Raises OSError or the database's own errors."""
        ...


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

    return router


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
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "What is known of it.", "content": {"application/json": {"schema": _STATUS}}},
    400: {"description": "`source` or `id` is missing.", "content": _PROBLEM},
    401: {"description": "No valid key.", "content": _PROBLEM},
    403: {"description": "The key may not write.", "content": _PROBLEM},
    503: {"description": "The metrics database does not answer now.", "content": _PROBLEM},
}
