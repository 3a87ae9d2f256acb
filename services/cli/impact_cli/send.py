"""Sends events to a running ingest: batches, a few requests in flight, retries until the answer is known.

Resending is safe: an event is counted once, however often it arrives.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import httpx
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BATCH_EVENTS = 1_000
BATCH_BYTES = 2**20  # an eighth of what the door takes
KEPT_REJECTIONS = 1_000  # all are counted, the first ones are kept for the summary
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0

RETRIED = frozenset({408, 429, 502, 503, 504})
READ = frozenset({200, 202, 207, 422})
TOO_MUCH_OR_UNREADABLE = frozenset({400, 413})
FORBIDDEN_EVENTS = frozenset({"source_not_allowed", "unknown_type"})  # other 403 are about the key


class SendError(Exception):
    """Sending stopped before the end; says what to do."""


class Rejection(msgspec.Struct, frozen=True):
    """One event that was not accepted; `index` counts from 0 in what is sent."""

    index: int
    code: str
    id: str | None = None
    detail: str | None = None
    pointer: str | None = None
    retryable: bool = False


class _Answer(msgspec.Struct):
    accepted: int
    rejected: list[Rejection]


class _Problem(msgspec.Struct):
    code: str = "unknown"
    title: str = ""
    detail: str = ""
    rejected: list[Rejection] = []


class Batch(NamedTuple):
    """Consecutive events, the first of which has the number `start`."""

    start: int
    events: list[bytes]


@dataclass
class Summary:
    """What became of the events that were sent."""

    accepted: int = 0
    rejected: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    trouble: str | None = None  # why a batch is being tried again, while it is
    codes: Counter[str] = field(default_factory=Counter)
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def events(self) -> int:
        return self.accepted + self.rejected


@dataclass(frozen=True)
class Target:
    """Where to and how to send. `retry_for_s`: how long a batch is tried again before giving up."""

    url: str
    key: str
    dry_run: bool = False
    compress: bool = True
    in_flight: int = 4
    batch_events: int = BATCH_EVENTS
    retry_for_s: float = 60.0
    request_timeout_s: float = 60.0


def batched(events: Iterable[bytes], max_events: int, max_bytes: int = BATCH_BYTES) -> Iterator[Batch]:
    """Cuts by count and by bytes; an event larger than `max_bytes` goes alone."""
    start, batch, size = 0, list[bytes](), 0
    for event in events:
        if batch and (len(batch) == max_events or size + len(event) > max_bytes):
            yield Batch(start, batch)
            start, batch, size = start + len(batch), [], 0
        batch.append(event)
        size += len(event) + 1
    if batch:
        yield Batch(start, batch)


async def send(
    events: Iterable[bytes], target: Target, progress: Callable[[Summary], None] = lambda _: None
) -> Summary:
    """Sends every event and returns what became of it; `progress` is called often.

    `events` is read in another thread, a batch at a time. Each is a JSON text without line breaks.
    Up to `target.in_flight` batches are on their way at once and may arrive in any order.
    Raises SendError, and whatever reading `events` raises.
    """
    async with httpx.AsyncClient(timeout=target.request_timeout_s) as client:
        sender = _Sender(client, target, batched(events, target.batch_events), progress)
        return await sender.run()


class _Sender:
    def __init__(
        self,
        client: httpx.AsyncClient,
        target: Target,
        batches: Iterator[Batch],
        progress: Callable[[Summary], None],
    ) -> None:
        self._client = client
        self._target = target
        self._batches = batches
        self._progress = progress
        self._reading = asyncio.Lock()
        self._summary = Summary()
        self._url = target.url.rstrip("/") + "/v1/events"
        self._headers = {
            "Authorization": f"Bearer {target.key}",
            "Content-Type": "application/x-ndjson",
            **({"Content-Encoding": "gzip"} if target.compress else {}),
        }

    async def run(self) -> Summary:
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._target.in_flight):
                    group.create_task(self._work())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._summary.seconds = time.monotonic() - began
        self._summary.rejections.sort(key=lambda rejection: rejection.index)
        return self._summary

    async def _work(self) -> None:
        while (batch := await self._next_batch()) is not None:
            await self._deliver(batch)
            self._progress(self._summary)

    async def _next_batch(self) -> Batch | None:
        async with self._reading:
            return await asyncio.to_thread(next, self._batches, None)

    async def _deliver(self, batch: Batch) -> None:
        """Sends until every event has its verdict; halves what the door cannot read or finds too large."""
        response = await self._post(batch)
        if response.status_code in READ:
            self._note(batch, response)
        elif response.status_code in TOO_MUCH_OR_UNREADABLE and len(batch.events) > 1:
            middle = len(batch.events) // 2
            await self._deliver(Batch(batch.start, batch.events[:middle]))
            await self._deliver(Batch(batch.start + middle, batch.events[middle:]))
        elif response.status_code in TOO_MUCH_OR_UNREADABLE or _forbids_events(response):
            self._reject_all(batch, _problem(response))
        else:
            raise SendError(_what_to_do(response, self._target.url))

    async def _post(self, batch: Batch) -> httpx.Response:
        body = b"\n".join(batch.events)
        if self._target.compress:
            body = gzip.compress(body, compresslevel=1)
        deadline = time.monotonic() + self._target.retry_for_s
        delay = FIRST_DELAY_S
        while True:
            self._summary.requests += 1
            try:
                response = await self._client.post(
                    self._url, content=body, headers=self._headers, params=self._parameters()
                )
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise SendError(f"{self._target.url!r} is no URL of an ingest service: {error}") from error
            except httpx.TransportError as error:
                trouble, wait = f"{type(error).__name__} {error}".strip(), None
            else:
                if response.status_code not in RETRIED:
                    self._summary.trouble = None
                    return response
                trouble = f"HTTP {response.status_code} {_problem(response).detail}"
                wait = _retry_after(response)
            pause = wait if wait is not None else delay * random.uniform(0.5, 1)  # noqa: S311 # spreads retries
            if time.monotonic() + pause > deadline:
                raise SendError(self._gave_up(trouble))
            self._summary.retries += 1
            self._summary.trouble = trouble
            self._progress(self._summary)
            await asyncio.sleep(pause)
            delay = min(2 * delay, LONGEST_DELAY_S)

    def _parameters(self) -> dict[str, str]:
        return {"dry_run": "true"} if self._target.dry_run else {}

    def _gave_up(self, trouble: str) -> str:
        return (
            f"no answer from {self._target.url} for {self._target.retry_for_s:g} s ({trouble}); "
            f"{self._summary.accepted} events were accepted before. "
            "Send the same file again once it answers: no event is counted twice"
        )

    def _note(self, batch: Batch, response: httpx.Response) -> None:
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
        except msgspec.MsgspecError as error:
            raise SendError(
                f"{self._target.url} answered {response.status_code} with something that is not a verdict "
                f"({error}): is this the address of the ingest service?"
            ) from error
        self._summary.accepted += answer.accepted
        for rejection in answer.rejected:
            self._reject(batch, rejection)

    def _reject_all(self, batch: Batch, problem: _Problem) -> None:
        for rejection in problem.rejected:
            self._reject(batch, rejection)
        if not problem.rejected:
            for index, event in enumerate(batch.events):
                detail = problem.detail or problem.title
                self._reject(batch, Rejection(index, problem.code, _id_of(event), detail))

    def _reject(self, batch: Batch, rejection: Rejection) -> None:
        self._summary.rejected += 1
        self._summary.codes[rejection.code] += 1
        if len(self._summary.rejections) < KEPT_REJECTIONS:
            rejection = msgspec.structs.replace(rejection, index=batch.start + rejection.index)
            self._summary.rejections.append(rejection)


def _id_of(event: bytes) -> str | None:
    try:
        found = msgspec.json.decode(event)
    except msgspec.MsgspecError:
        return None
    identity = found.get("id") if isinstance(found, dict) else None
    return identity if isinstance(identity, str) else None


def _forbids_events(response: httpx.Response) -> bool:
    return response.status_code == 403 and _problem(response).code in FORBIDDEN_EVENTS


def _problem(response: httpx.Response) -> _Problem:
    try:
        return msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:
        return _Problem(detail=response.text[:200])


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; a date instead, which HTTP allows too, counts as none."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


def _what_to_do(response: httpx.Response, url: str) -> str:
    problem = _problem(response)
    said = f"{url} answered {response.status_code}: {problem.detail or problem.title}".rstrip(": ")
    if response.status_code in {401, 403}:
        return f"{said}\nGive a valid key with --key or --keys-file; impact keys create makes one"
    if response.status_code in {404, 405}:
        return f"{said}\nIs this the address of the ingest service? Give it with --url"
    return said
