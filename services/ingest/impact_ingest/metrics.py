"""The door's own metrics: every name, label and value.

- `impact_ingest_events_total{product,outcome}`: events by what became of them: `accepted`, `unavailable` (a
  503: they may be in the log) or a verdict's code; dry runs are left out. A verdict's share grows: a sender
  or a catalog has changed.
- `impact_ingest_requests_total{status}`: requests to /v1/events by the status of their answer. 401 grows: a
  key was revoked that is still in use. 503 grows: look at the event log.
- `impact_ingest_request_seconds`: from a request's head to its answer. Its p99 grows: the log is slow.
- `impact_ingest_in_flight_bytes`: bodies in memory. Near the limit, answers become 503.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry

# 1 ms: a batch that waits for nobody; 0.25 s: the log's linger and a slow disk; 10 s: somebody hangs
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class DoorMetrics:
    """Counts what the door does, in one registry."""

    def __init__(self, registry: CollectorRegistry, bytes_in_flight: Callable[[], float]) -> None:
        events = Counter(
            "impact_ingest_events_total", "Events by outcome.", ["product", "outcome"], registry=registry
        )
        requests = Counter(
            "impact_ingest_requests_total", "Requests by status.", ["status"], registry=registry
        )
        self._seconds = Histogram(
            "impact_ingest_request_seconds",
            "Time from a request's head to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        gauge = Gauge("impact_ingest_in_flight_bytes", "Bytes of bodies in memory.", registry=registry)
        gauge.set_function(bytes_in_flight)
        # products come from keys, outcomes from a fixed list: few children, found without the library's lock
        self._events_of = lru_cache(maxsize=None)(events.labels)
        self._requests_of = lru_cache(maxsize=None)(requests.labels)

    def count_events(self, product: str, accepted: int, refused: Iterable[str]) -> None:
        """The verdicts of one request."""
        if accepted:
            self._events_of(product, "accepted").inc(accepted)
        for code in refused:
            self._events_of(product, code).inc()

    def count_unavailable(self, product: str, events: int) -> None:
        """Events whose fate the sender cannot know."""
        self._events_of(product, "unavailable").inc(events)

    def count_request(self, status: int, seconds: float) -> None:
        """One answer."""
        self._requests_of(str(status)).inc()
        self._seconds.observe(seconds)
