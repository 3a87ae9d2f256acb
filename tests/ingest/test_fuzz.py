"""Requests made from the OpenAPI description, good and bad: none is answered with a 5xx."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.ingest.running import MemoryWriter, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.running import Service

pytestmark = pytest.mark.timeout(120)
EXAMPLES = 40
DETERMINED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@contextmanager
def in_a_thread() -> Iterator[Service]:
    """A running door for a client that blocks."""
    started: list[Service] = []
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        async with running(MemoryWriter()) as service:
            started.append(service)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(20)
    try:
        yield started[0]
    finally:
        stop.set()
        thread.join()


def statuses_of(operation: Any, mode: schemathesis.GenerationMode, service: Service) -> set[int]:
    """What the operation answers to requests made from its description."""
    found: set[int] = set()
    headers = {"Authorization": f"Bearer {service.key}"}

    @DETERMINED
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case[Any]) -> None:
        found.add(case.call(headers=headers, base_url=f"http://127.0.0.1:{service.port}").status_code)

    call()
    return found


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_no_request_that_the_description_suggests_is_a_5xx(mode: schemathesis.GenerationMode) -> None:
    with in_a_thread() as service:
        api = schemathesis.openapi.from_url(f"http://127.0.0.1:{service.port}/openapi.json")
        for path, method in (("/v1/events", "POST"), ("/v1/events/status", "GET")):
            found = statuses_of(api[path][method], mode, service)
            assert len(found) > (method == "POST")
            assert max(found) < 500
