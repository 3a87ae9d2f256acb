"""The short way through the door: for small requests all of whose events are taken, which are most of them.

It gives no verdict. What is not plain, or would be refused, is left to the door as if nothing had happened;
so every rule about answers has one place, and a request costs a third here of what it costs there.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from impact_eventlog.ports import LogUnavailable, RecordTooLarge
from impact_ingest.authentication import known_writer
from impact_ingest.door import BUG, Reply, all_accepted, log_problem, reply_to
from impact_ingest.problems import Problem
from impact_ingest.split import plain_events, plain_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from impact_eventlog.ports import KeyedEvent
    from impact_ingest.admission import Room
    from impact_ingest.door import Shared
    from impact_ingest.rules import ProductRules
    from impact_ingest.split import Mode

    Answer = Callable[[Reply], None]


class _Taken(NamedTuple):
    """A request whose events are on their way into the log."""

    answer: Answer
    started: float
    product: str
    room: Room
    identities: list[bytes]


class Express:
    """Takes whole requests to `POST /v1/events` without a query."""

    def __init__(self, shared: Shared) -> None:
        self._parts, self._judges, self._metrics, self._admission, self._accepted = shared
        limits = self._parts.limits
        self._max_bytes = min(limits.large_request_bytes - 1, limits.max_wire_bytes, limits.max_body_bytes)

    def take(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: Answer) -> bool:
        """Whether the request was taken: then `answer` gets its reply, later, and once.

        If not, nothing of it was kept. Waits for nothing and raises nothing.
        """
        started = perf_counter()
        named = dict(headers)
        mode = plain_mode(named)
        if mode is None or len(body) > self._max_bytes:
            return False
        key = known_writer(named.get(b"authorization", b""), self._parts.keys, self._parts.clock())
        rules = self._parts.rules.of(key.product) if key else None
        if rules is None:
            return False
        try:
            room = self._admission.enter(rules.product)
        except Problem:
            return False
        try:
            taken = self._append(mode, body, rules, _Taken(answer, started, rules.product, room, []))
        except Exception:  # noqa: BLE001 (a refusal or a bug: the door meets it again, and tells)
            taken = False
        if not taken:
            room.leave()
        return taken

    def _append(self, mode: Mode, body: bytes, rules: ProductRules, request: _Taken) -> bool:
        parts = self._parts
        request.room.grow(len(body))
        events = plain_events(mode, body, parts.limits)
        if events is None or not events.decoded:
            return False
        judge = self._judges.of(rules)
        accepted: list[KeyedEvent] = list(map(judge.accept, events.decoded, events.sizes))
        append = asyncio.ensure_future(parts.writer.append(parts.events_topic, rules.product, accepted))
        request.room.charge(len(accepted))
        request.identities.extend(judge.identities)
        append.add_done_callback(partial(self._answer, request))
        return True

    def _answer(self, request: _Taken, append: asyncio.Future[None]) -> None:
        request.room.leave()
        events = len(request.identities)
        error = LogUnavailable("closed") if append.cancelled() else append.exception()
        if error is None:
            self._accepted.add(request.identities)
            self._metrics.count_events(request.product, events, ())
            reply = _reply_to_all(events)
        elif isinstance(error, LogUnavailable | RecordTooLarge):
            reply = reply_to(log_problem(error, self._metrics, request.product, events))
        else:
            request.answer(reply_to(Problem(500, "internal_error", BUG)))
            raise error  # for the event loop to log
        request.answer(reply)
        self._metrics.count_request(reply.status, perf_counter() - request.started)


_reply_to_all = lru_cache(maxsize=1024)(all_accepted)
