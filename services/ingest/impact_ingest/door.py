"""The door: `POST /v1/events` from its head to its answer.

The order of checks is the contract's: method, key, sizes, media type, body, then what the events mean.
It is plain ASGI: the key is checked before a byte of the body is read, and a request of one event costs
a quarter of what it costs behind routing and dependency injection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import msgspec
import structlog

from impact_eventlog.ports import LogUnavailable, RecordTooLarge
from impact_ingest.accept import Judge
from impact_ingest.authentication import authenticate, require_writer
from impact_ingest.body import ENCODINGS, Body, ClientGone, inflate
from impact_ingest.envelope import Envelope
from impact_ingest.problems import PROBLEM_JSON, Problem, too_large, unavailable
from impact_ingest.split import mode_of, split
from impact_ingest.verdicts import Answer, Refused, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from impact_eventlog.ports import EventLogWriter, KeyedEvent
    from impact_ingest.admission import Admission, Room
    from impact_ingest.limits import Limits
    from impact_ingest.metrics import DoorMetrics
    from impact_ingest.rules import ProductRules, Rules
    from impact_ingest.split import Mode
    from impact_ingest.status import AcceptedEvents
    from impact_schemas.identity import Identities, Pseudonyms
    from impact_schemas.keys import KeyStore

PATH = "/v1/events"
BUG = "Something is wrong inside the service: see its log."

log = structlog.get_logger()


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


@dataclass(slots=True)
class Verdicts:
    """What is to become of the events of one request."""

    accepted: list[KeyedEvent]  # empty once the writer has them
    identities: list[bytes]  # of all that were accepted
    rejected: list[Rejection]
    quarantined: list[KeyedEvent]  # one for each rejection
    forbidden: int = 0  # rejections for a source or type that is not the product's


class Reply(NamedTuple):
    """An answer that is ready to be sent."""

    status: int
    body: bytes
    headers: dict[str, str]
    media_type: str = "application/json"


class Judges:
    """One a product, until its catalog changes."""

    def __init__(self, parts: DoorParts) -> None:
        self._parts = parts
        self._made: dict[str, tuple[ProductRules, Judge]] = {}

    def of(self, rules: ProductRules) -> Judge:
        """Begun for a request that arrives now."""
        parts = self._parts
        latest = datetime.fromtimestamp(parts.clock() / 1e6 + parts.limits.future_tolerance_s, UTC)
        made = self._made.get(rules.product)
        if made is not None and made[0] is rules:
            made[1].begin(latest)
            return made[1]
        judge = Judge(
            rules,
            parts.identities,
            parts.pseudonyms,
            latest=latest,
            max_event_bytes=parts.limits.max_event_bytes,
        )
        self._made[rules.product] = rules, judge
        return judge


class Shared(NamedTuple):
    """What both ways through the door work with, and what they note."""

    parts: DoorParts
    judges: Judges
    metrics: DoorMetrics
    admission: Admission
    accepted: AcceptedEvents


class Door:
    """ASGI: answers `POST /v1/events`."""

    def __init__(self, shared: Shared) -> None:
        self._parts, self._judges, self._metrics, self._admission, self._accepted = shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Whatever goes wrong with it is answered, never raised; a bug is both."""
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = Body(receive, headers)
        try:
            reply = await self._reply(scope, headers, body)
        except Problem as problem:
            reply = reply_to(problem)
        except ClientGone:
            return
        except Exception:
            await self._send(send, reply_to(Problem(500, "internal_error", BUG)), body)
            raise
        await self._send(send, reply, body)
        self._metrics.count_request(reply.status, perf_counter() - started)

    async def _reply(self, scope: Scope, headers: dict[bytes, bytes], body: Body) -> Reply:
        parts = self._parts
        if scope["method"] != "POST":
            detail = f"{PATH} takes POST only."
            raise Problem(405, "method_not_allowed", detail, headers={"Allow": "POST"})
        key = await authenticate(headers.get(b"authorization", b""), parts.keys, parts.clock())
        options = _options(scope["query_string"])
        if not options.dry_run:
            require_writer(key)
        rules = parts.rules.of(key.product)
        if rules is None:
            detail = f"The service has no catalog of {key.product}, so no event can be taken: add its file."
            raise Problem(403, "unknown_product", detail)
        room = self._admission.enter(key.product)
        try:
            verdicts = await self._judged(scope, headers, body, rules, options, room)
            return await self._settle(verdicts, rules, options, room)
        finally:
            room.leave()

    async def _judged(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        body: Body,
        rules: ProductRules,
        options: Options,
        room: Room,
    ) -> Verdicts:
        """Of the whole body, which is forgotten then: the log may take a while. Raises as its parts do."""
        mode, text = await self._text(headers, body, room)
        if len(text) < self._parts.limits.large_request_bytes:
            return self._judge(mode, text, scope["headers"], rules, options, room)
        async with room.turn:
            verdicts = self._judge(mode, text, scope["headers"], rules, options, room)
            await asyncio.sleep(0)  # the other products first
            return verdicts

    async def _text(self, headers: dict[bytes, bytes], body: Body, room: Room) -> tuple[Mode, bytes]:
        """The inflated body. Raises Problem, and ClientGone."""
        limits = self._parts.limits
        body.check_length(limits)
        mode = mode_of(headers.get(b"content-type", b""), headers)
        encoding = headers.get(b"content-encoding")
        if encoding is None:
            wire = await body.read(limits, room)
            return mode, inflate(wire, "identity", limits)
        name = encoding.decode("latin-1").strip().lower()
        if name not in ENCODINGS:
            raise Problem(
                415,
                "unsupported_encoding",
                f"Content-Encoding may be {', '.join(ENCODINGS)}.",
                headers={"Accept-Encoding": ", ".join(ENCODINGS)},
            )
        text = inflate(await body.read(limits, room), name, limits)
        room.grow(len(text))
        return mode, text

    async def _settle(self, verdicts: Verdicts, rules: ProductRules, options: Options, room: Room) -> Reply:
        """From verdicts to the answer; nothing waits but the appends."""
        if options.dry_run:
            return _reply_with(200, verdicts)
        _refuse_whole_request(verdicts)
        if verdicts.quarantined:
            self._charge_quarantine(verdicts, rules.product, room)
        refused = bool(verdicts.rejected) and (options.atomic or not verdicts.accepted)
        await self._append(rules.product, verdicts, events_too=not refused)
        accepted = 0 if refused else len(verdicts.identities)
        if accepted:
            self._accepted.add(verdicts.identities)
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

    def _charge_quarantine(self, verdicts: Verdicts, product: str, room: Room) -> None:
        """Raises Problem 429 for a product whose refused events would fill the disk."""
        size = sum(len(item.event) for item in verdicts.quarantined)
        try:
            room.charge_quarantine(size)
        except Problem:
            self._metrics.count_turned_away(product, len(verdicts.accepted) + len(verdicts.rejected))
            raise
        self._metrics.count_quarantined(product, size)

    def _judge(
        self,
        mode: Mode,
        text: bytes,
        header_list: Sequence[tuple[bytes, bytes]],
        rules: ProductRules,
        options: Options,
        room: Room,
    ) -> Verdicts:
        """Splits and judges without a pause. Raises Problem 400 or 413."""
        events = split(mode, text, header_list, self._parts.limits)
        room.charge(len(events.decoded))
        judge = self._judges.of(rules)
        verdicts = Verdicts([], judge.identities, [], [])
        accept, taken = judge.accept, verdicts.accepted.append
        for index, (event, size) in enumerate(zip(events.decoded, events.sizes, strict=True)):
            try:
                taken(accept(event, size))
            except Refused as refused:
                if events.single and refused.code == "invalid_envelope":
                    raise _bad_request(refused) from None
                verdicts.forbidden += refused.forbidden
                verdicts.rejected.append(_rejection(index, event, refused))
                if not options.dry_run:
                    verdicts.quarantined.append(judge.quarantine(event, refused))
        return verdicts

    async def _append(self, product: str, verdicts: Verdicts, *, events_too: bool) -> None:
        """To the quarantine log and the event log, both durable on return. Raises Problem 503 or 413."""
        append, parts = self._parts.writer.append, self._parts
        try:
            if verdicts.quarantined:
                await append(parts.quarantine_topic, product, verdicts.quarantined)
            if verdicts.accepted and events_too:
                appended = append(parts.events_topic, product, verdicts.accepted)
                verdicts.accepted = []  # the writer has them: while it waits, they are not held twice
                await appended
        except (LogUnavailable, RecordTooLarge) as error:
            events = len(verdicts.identities) + len(verdicts.rejected)
            raise log_problem(error, self._metrics, product, events) from None

    async def _send(self, send: Send, reply: Reply, body: Body) -> None:
        """Before the body has arrived, the answer closes the connection, and the body is read on a little."""
        early = not body.arrived
        headers = [
            (b"content-type", reply.media_type.encode()),
            (b"content-length", b"%d" % len(reply.body)),
        ]
        for name, value in reply.headers.items():
            headers.append((name.lower().encode(), value.encode()))
        if early:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": early})
        if early:
            await body.drain(self._parts.limits)
            await send({"type": "http.response.body", "body": b""})


def log_problem(
    error: LogUnavailable | RecordTooLarge, metrics: DoorMetrics, product: str, events: int
) -> Problem:
    """What is answered when the log has not taken the events."""
    if isinstance(error, RecordTooLarge):
        return too_large("An event is larger than a record of the event log may be.")
    metrics.count_unavailable(product, events)
    log.warning("log_unavailable", product=product, error=str(error))
    detail = "The event log takes no writes now. Some events may be in it: send the same ids again."
    return unavailable("log_unavailable", detail)


_NO_OPTIONS = Options(dry_run=False, atomic=False)


def _options(query: bytes) -> Options:
    if not query:
        return _NO_OPTIONS
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    return Options(_flag(given, "dry_run"), _flag(given, "atomic"))


def _flag(given: dict[str, list[str]], name: str) -> bool:
    match given.get(name, ["false"]):
        case ["true"]:
            return True
        case ["false"]:
            return False
    raise Problem(400, "bad_query", f"The query parameter {name} is true or false.")


def _bad_request(refused: Refused) -> Problem:
    return Problem(400, refused.code, refused.detail, extra={"pointer": refused.pointer})


def _rejection(index: int, event: Any, refused: Refused) -> Rejection:
    if type(event) is Envelope:
        return Rejection(index, event.id, refused.code, refused.detail, refused.pointer)
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
    answer = Answer(len(verdicts.identities), verdicts.rejected)
    return Reply(status, msgspec.json.encode(answer), {})


def all_accepted(events: int) -> Reply:
    """202 for so many events."""
    return Reply(202, msgspec.json.encode(Answer(events, [])), {})


def reply_to(problem: Problem) -> Reply:
    """The answer that the problem is."""
    return Reply(problem.status, problem.body(), problem.headers, PROBLEM_JSON)
