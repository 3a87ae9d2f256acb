"""The door: `POST /v1/events` from its head to its answer.

The order of checks is the contract's: method, key, sizes, media type, body, then what the events mean.
It is plain ASGI: the key is checked before a byte of the body is read, and a request of one event costs
a quarter of what it costs behind routing and dependency injection.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import msgspec
import structlog

from impact_eventlog.ports import KeyedEvent, LogUnavailable, RecordTooLarge
from impact_ingest.accept import Judge
from impact_ingest.body import ENCODINGS, Body, ClientGone, InFlight, inflate
from impact_ingest.problems import PROBLEM_JSON, Problem, too_large, unavailable
from impact_ingest.split import Events, mode_of, split
from impact_ingest.verdicts import Answer, Refused, Rejection
from impact_schemas.keys import opens, split_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from impact_eventlog.ports import EventLogWriter
    from impact_ingest.body import Reservation
    from impact_ingest.limits import Limits
    from impact_ingest.metrics import DoorMetrics
    from impact_ingest.rules import ProductRules, Rules
    from impact_schemas.identity import Identities, Pseudonyms
    from impact_schemas.keys import ApiKey, KeyStore

PATH = "/v1/events"

log = structlog.get_logger()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DoorParts:
    """What the door works with. `clock` gives microseconds since 1970."""

    rules: Rules
    writer: EventLogWriter
    keys: KeyStore
    identities: Identities
    pseudonyms: Pseudonyms
    limits: Limits
    events_topic: str
    quarantine_topic: str
    clock: Callable[[], int]


class Options(NamedTuple):
    """The query of a request."""

    dry_run: bool
    atomic: bool


class Verdicts(NamedTuple):
    """What is to become of the events of one request."""

    accepted: list[KeyedEvent]
    rejected: list[Rejection]
    quarantined: list[KeyedEvent]  # one for each rejection
    forbidden: int  # rejections for a source or type that is not the product's


class Reply(NamedTuple):
    """An answer that is ready to be sent."""

    status: int
    body: bytes
    headers: dict[str, str]
    media_type: str = "application/json"


class Door:
    """ASGI: answers `POST /v1/events` and leaves every other path to `app`."""

    def __init__(self, app: ASGIApp, *, parts: DoorParts, metrics: DoorMetrics, in_flight: InFlight) -> None:
        self._app = app
        self._parts = parts
        self._metrics = metrics
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Whatever goes wrong with it is answered, never raised; a bug is raised."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = Body(receive, headers)
        try:
            reply = await self._reply(scope, headers, body)
        except Problem as problem:
            reply = _reply_to(problem)
        except ClientGone:
            return
        await self._send(send, reply, body)
        self._metrics.count_request(reply.status, perf_counter() - started)

    async def _reply(self, scope: Scope, headers: dict[bytes, bytes], body: Body) -> Reply:
        if scope["method"] != "POST":
            detail = f"{PATH} takes POST only."
            raise Problem(405, "method_not_allowed", detail, headers={"Allow": "POST"})
        key = await self._authenticate(headers.get(b"authorization", b""))
        rules = self._parts.rules.of(key.product)
        if rules is None:
            detail = f"The service has no catalog of {key.product}, so no event can be taken: add its file."
            raise Problem(403, "unknown_product", detail)
        options = _options(scope["query_string"])
        with self._in_flight.admit() as room:
            events = await self._events(scope["headers"], headers, body, room)
            return await self._settle(events, rules, options)

    async def _authenticate(self, header: bytes) -> ApiKey:
        scheme, _, text = header.decode("latin-1").partition(" ")
        split_text = split_key(text.strip()) if scheme.lower() == "bearer" else None
        if split_text is None:
            raise _unauthorized(
                "Send `Authorization: Bearer <key>` with a key that `impact keys create` made."
            )
        key_id, secret = split_text
        key = await self._parts.keys.find(key_id)
        if key is None or not opens(key, secret, self._parts.clock()):
            raise _unauthorized("The key is unknown, expired or revoked: make one with `impact keys create`.")
        if "write" not in key.scopes:
            detail = "The key may not write events: use one with the scope `write`."
            raise Problem(403, "scope_missing", detail)
        return key

    async def _events(
        self,
        header_list: Sequence[tuple[bytes, bytes]],
        headers: dict[bytes, bytes],
        body: Body,
        room: Reservation,
    ) -> Events:
        limits = self._parts.limits
        body.check_length(limits)
        mode = mode_of(headers.get(b"content-type", b""), headers)
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        if encoding not in ENCODINGS:
            raise Problem(
                415,
                "unsupported_encoding",
                f"Content-Encoding may be {', '.join(ENCODINGS)}.",
                headers={"Accept-Encoding": ", ".join(ENCODINGS)},
            )
        wire = await body.read(limits, room)
        text = inflate(wire, encoding, limits)
        if text is not wire:
            room.grow(len(text))
        return split(mode, text, header_list, limits)

    async def _settle(self, events: Events, rules: ProductRules, options: Options) -> Reply:
        """From decoded events to the answer; nothing waits but the appends."""
        verdicts = self._judge(events, rules, options)
        if options.dry_run:
            return _reply_with(200, verdicts)
        _refuse_whole_request(verdicts)
        refused = bool(verdicts.rejected) and (options.atomic or not verdicts.accepted)
        await self._append(rules.product, verdicts, events_too=not refused)
        accepted = 0 if refused else len(verdicts.accepted)
        self._metrics.count_events(
            rules.product, accepted, [rejection.code for rejection in verdicts.rejected]
        )
        if verdicts.rejected:
            first = verdicts.rejected[0].code
            log.info(
                "events_refused",
                product=rules.product,
                accepted=accepted,
                rejected=len(verdicts.rejected),
                first=first,
            )
        if refused:
            raise _nothing_accepted(verdicts.rejected)
        return _reply_with(207 if verdicts.rejected else 202, verdicts)

    def _judge(self, events: Events, rules: ProductRules, options: Options) -> Verdicts:
        parts = self._parts
        latest = _EPOCH + timedelta(microseconds=parts.clock(), seconds=parts.limits.future_tolerance_s)
        judge = Judge(
            rules,
            parts.identities,
            parts.pseudonyms,
            latest=latest,
            max_event_bytes=parts.limits.max_event_bytes,
        )
        verdicts = Verdicts([], [], [], 0)
        forbidden = 0
        accept, taken = judge.accept, verdicts.accepted.append
        for index, (event, size) in enumerate(zip(events.decoded, events.sizes, strict=True)):
            try:
                taken(accept(event, size))
            except Refused as refused:
                if events.single and refused.code == "invalid_envelope":
                    raise _bad_request(refused) from None
                forbidden += refused.forbidden
                verdicts.rejected.append(_rejection(index, event, refused))
                if not options.dry_run:
                    verdicts.quarantined.append(judge.quarantine(event, refused))
        return verdicts._replace(forbidden=forbidden)

    async def _append(self, product: str, verdicts: Verdicts, *, events_too: bool) -> None:
        """To the quarantine log and the event log, both durable on return. Raises Problem 503 or 413."""
        append, parts = self._parts.writer.append, self._parts
        try:
            if verdicts.quarantined:
                await append(parts.quarantine_topic, product, verdicts.quarantined)
            if verdicts.accepted and events_too:
                await append(parts.events_topic, product, verdicts.accepted)
        except LogUnavailable as error:
            self._metrics.count_unavailable(product, len(verdicts.accepted) + len(verdicts.rejected))
            log.warning("log_unavailable", product=product, error=str(error))
            detail = "The event log takes no writes now. Some events may be in it: send the same ids again."
            raise unavailable("log_unavailable", detail) from None
        except RecordTooLarge:
            raise too_large("An event is larger than a record of the event log may be.") from None

    async def _send(self, send: Send, reply: Reply, body: Body) -> None:
        """Before the body has arrived, the answer closes the connection, and the body is read on a little."""
        early = not body.arrived
        headers = [
            (b"content-type", reply.media_type.encode()),
            (b"content-length", b"%d" % len(reply.body)),
            *((name.lower().encode(), value.encode()) for name, value in reply.headers.items()),
        ]
        if early:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": early})
        if early:
            await body.drain(self._parts.limits)
            await send({"type": "http.response.body", "body": b""})


def _options(query: bytes) -> Options:
    if not query:
        return Options(dry_run=False, atomic=False)
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    return Options(_flag(given, "dry_run"), _flag(given, "atomic"))


def _flag(given: dict[str, list[str]], name: str) -> bool:
    match given.get(name, ["false"]):
        case ["true"]:
            return True
        case ["false"]:
            return False
    raise Problem(400, "bad_query", f"The query parameter {name} is true or false.")


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="impact"'})


def _bad_request(refused: Refused) -> Problem:
    return Problem(400, refused.code, refused.detail, extra={"pointer": refused.pointer})


def _rejection(index: int, event: Any, refused: Refused) -> Rejection:
    event_id = event.get("id") if type(event) is dict else None
    known = event_id if type(event_id) is str else None
    return Rejection(index, known, refused.code, refused.detail, refused.pointer)


def _refuse_whole_request(verdicts: Verdicts) -> None:
    """Where all events share a fate that is the request's own: 413 or 403, and nothing is kept."""
    rejected = verdicts.rejected
    if verdicts.accepted or not rejected:
        return
    first = rejected[0]
    if all(rejection.code == "too_large" for rejection in rejected):
        raise too_large(first.detail)
    if verdicts.forbidden == len(rejected):
        raise Problem(403, first.code, first.detail)


def _nothing_accepted(rejected: list[Rejection]) -> Problem:
    first = rejected[0]
    extra = {"accepted": 0, "rejected": msgspec.to_builtins(rejected)}
    return Problem(422, first.code, first.detail, extra=extra)


def _reply_with(status: int, verdicts: Verdicts) -> Reply:
    answer = Answer(len(verdicts.accepted), verdicts.rejected)
    return Reply(status, msgspec.json.encode(answer), {})


def _reply_to(problem: Problem) -> Reply:
    return Reply(problem.status, problem.body(), problem.headers, PROBLEM_JSON)
