"""Sending to a door that refuses, delays and breaks: every event ends with its verdict."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from impact_cli.send import SendError, Summary, Target, batched, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    events: list[bytes]


class Answer(NamedTuple):
    status: int
    body: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    headers: dict[str, str] = {}  # noqa: RUF012 (never changed)


def accept_all(request: Request) -> Answer:
    return Answer(202, {"accepted": len(request.events), "rejected": []})


class Door:
    """A small HTTP server with an answer of the test's own for each request."""

    def __init__(self) -> None:
        self.answer: Callable[[Request], Answer | None] = accept_all
        self.requests: list[Request] = []
        self.statuses: dict[str, str] | None = None
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path.endswith("/status"):
                    self._tell(body)
                    return
                request = Request(self.path, dict(self.headers), body.split(b"\n"))
                door.requests.append(request)
                answer = door.answer(request)
                if answer is None:  # the connection breaks without an answer
                    self.close_connection = True
                    return
                payload = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def _tell(self, asked: bytes) -> None:
                """The statuses of events: `statuses` by their ids, and none at all without any."""
                known = door.statuses
                ids = json.loads(asked)["ids"]
                statuses = {} if known is None else {one: known.get(one, "unknown") for one in ids}
                body = json.dumps({"statuses": statuses}).encode()
                self.send_response(404 if known is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (fixed by http.server)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def target(self, **changes: Any) -> Target:
        return Target(**{"url": self.url, "key": "k", "batch_events": 10, "retry_for_s": 5, **changes})


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


def numbered(count: int) -> list[bytes]:
    return [b'{"id":"%d"}' % number for number in range(count)]


def first_fails(answer: Answer | None) -> Callable[[Request], Answer | None]:
    """Each batch's first attempt gets `answer`, the next is accepted."""
    seen: set[bytes] = set()

    def decide(request: Request) -> Answer | None:
        if request.events[0] in seen:
            return accept_all(request)
        seen.add(request.events[0])
        return answer

    return decide


@pytest.mark.parametrize("compress", [True, False])
async def test_every_event_arrives_once_in_batches_with_the_key(door: Door, compress: bool) -> None:
    summary = await send(numbered(95), door.target(compress=compress))
    assert (summary.accepted, summary.rejected, summary.requests) == (95, 0, 10)
    assert Counter(event for request in door.requests for event in request.events) == Counter(numbered(95))
    for request in door.requests:
        assert request.path == "/v1/events"
        assert request.headers["Authorization"] == "Bearer k"
        assert request.headers["Content-Type"] == "application/x-ndjson"


async def test_nothing_to_send_sends_nothing(door: Door) -> None:
    summary = await send([], door.target())
    assert (summary.events, door.requests) == (0, [])


@pytest.mark.parametrize(
    "failure",
    [
        Answer(503, {"code": "unavailable"}, {"Retry-After": "0"}),
        Answer(429, {}, {"Retry-After": "0"}),
        Answer(502),
        None,
    ],
    ids=["503", "429", "502", "broken connection"],
)
async def test_a_passing_failure_is_tried_again(door: Door, failure: Answer | None) -> None:
    door.answer = first_fails(failure)
    summary = await send(numbered(40), door.target())
    assert (summary.accepted, summary.retries) == (40, 4)
    assert summary.trouble is None


async def test_retry_after_is_waited_for(door: Door) -> None:
    door.answer = first_fails(Answer(503, {}, {"Retry-After": "1"}))
    summary = await send(numbered(1), door.target())
    assert summary.seconds >= 1


async def test_it_gives_up_after_its_time_and_says_that_resending_is_safe(door: Door) -> None:
    door.answer = lambda _: Answer(503, {"detail": "the log is down"}, {"Retry-After": "1"})
    with pytest.raises(SendError, match=r"the log is down.*no event is counted twice"):
        await send(numbered(1), door.target(retry_for_s=0.5))


async def test_a_door_that_is_not_there_is_named() -> None:
    target = Target(url="http://127.0.0.1:9", key="k", retry_for_s=0.1)
    with pytest.raises(SendError, match=r"no answer from http://127.0.0.1:9"):
        await send(numbered(1), target)


async def test_rejections_are_given_by_their_number_in_the_whole(door: Door) -> None:
    def refuse_sevens(request: Request) -> Answer:
        rejected = [
            {"index": index, "id": json.loads(event)["id"], "code": "schema_violation", "pointer": "/data/x"}
            for index, event in enumerate(request.events)
            if event.endswith(b'7"}')
        ]
        accepted = len(request.events) - len(rejected)
        return Answer(207 if accepted else 422, {"accepted": accepted, "rejected": rejected})

    door.answer = refuse_sevens
    summary = await send(numbered(30), door.target())
    assert (summary.accepted, summary.rejected) == (27, 3)
    assert [(one.index, one.id, one.pointer) for one in summary.rejections] == [
        (7, "7", "/data/x"),
        (17, "17", "/data/x"),
        (27, "27", "/data/x"),
    ]
    assert summary.codes == {"schema_violation": 3}


@pytest.mark.parametrize("status", [400, 413])
async def test_one_unreadable_event_is_found_by_halving_and_the_others_count(door: Door, status: int) -> None:
    def refuse_the_fifth(request: Request) -> Answer:
        if b'{"id":"5"}' in request.events:
            return Answer(status, {"code": "unreadable", "detail": "no JSON"})
        return accept_all(request)

    door.answer = refuse_the_fifth
    summary = await send(numbered(10), door.target())
    assert (summary.accepted, summary.rejected) == (9, 1)
    assert (summary.rejections[0].index, summary.rejections[0].id) == (5, "5")
    assert summary.rejections[0].detail == "no JSON"


async def test_a_batch_that_the_key_may_not_write_is_rejected_event_by_event(door: Door) -> None:
    door.answer = lambda _: Answer(403, {"code": "source_not_allowed", "detail": "not yours"})
    summary = await send(numbered(3), door.target())
    assert (summary.accepted, summary.rejected) == (0, 3)
    assert [one.index for one in summary.rejections] == [0, 1, 2]


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "--key"), (404, "--url"), (415, "answered 415"), (500, "answered 500")]
)
async def test_an_answer_that_no_retry_can_change_stops_it(door: Door, status: int, advice: str) -> None:
    door.answer = lambda _: Answer(status, {"detail": "no"})
    with pytest.raises(SendError, match=advice):
        await send(numbered(100), door.target())
    assert len(door.requests) <= 4


async def test_something_else_that_answers_200_is_not_taken_for_the_door(door: Door) -> None:
    door.answer = lambda _: Answer(200, {"hello": "world"})
    with pytest.raises(SendError, match="is this the address of the ingest service"):
        await send(numbered(1), door.target())


async def test_a_url_without_a_scheme_is_refused_at_once() -> None:
    with pytest.raises(SendError, match="no URL of an ingest service"):
        await send(numbered(1), Target(url="127.0.0.1:8080", key="k"))


async def test_dry_run_is_asked_for(door: Door) -> None:
    await send(numbered(1), door.target(dry_run=True))
    assert door.requests[0].path == "/v1/events?dry_run=true"


async def test_only_a_few_batches_are_read_ahead(door: Door) -> None:
    drawn = 0
    release = threading.Event()

    def endless() -> Iterator[bytes]:
        nonlocal drawn
        while True:
            drawn += 1
            yield b'{"id":"%d"}' % drawn

    def hold(request: Request) -> Answer:
        release.wait(10)
        return accept_all(request)

    door.answer = hold
    sending = asyncio.create_task(send(endless(), door.target(in_flight=3)))
    while len(door.requests) < 3:  # noqa: ASYNC110 (another thread counts)
        await asyncio.sleep(0.01)
    assert drawn <= 4 * 10 + 1
    sending.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_progress_is_told_after_each_batch(door: Door) -> None:
    seen: list[int] = []

    def note(summary: Summary) -> None:
        seen.append(summary.events)

    await send(numbered(25), door.target(in_flight=1), note)
    assert seen == [10, 20, 25]


async def test_what_the_reader_raises_comes_through(door: Door) -> None:
    def broken() -> Iterator[bytes]:
        yield b"{}"
        raise ValueError("line 2 is no event")

    with pytest.raises(ValueError, match="line 2"):
        await send(broken(), door.target())


def test_batches_are_cut_by_count_and_by_bytes() -> None:
    cut = [(batch.start, len(batch.events)) for batch in batched(numbered(7), max_events=3)]
    assert cut == [(0, 3), (3, 3), (6, 1)]
    by_bytes = batched([b"x" * 40, b"y" * 40, b"z" * 200, b"w"], max_events=10, max_bytes=100)
    assert [(batch.start, len(batch.events)) for batch in by_bytes] == [(0, 2), (2, 1), (3, 1)]
