"""The door's own metrics: every name, label and value.

- `impact_ingest_events_total{product,outcome}`: events by what became of them: `accepted`, `unavailable` (a
  503: they may be in the log), `turned_away` (with refused events when the quarantine took no more) or a
  verdict's code; dry runs are left out. A verdict's share grows: a sender
  or a catalog has changed.
- `impact_ingest_quarantine_bytes_total{product}`: what refused events take in the quarantine log. It grows
  fast: a sender or a catalog is wrong; beyond the limit an hour their requests get 429.
- `impact_ingest_requests_total{status}`: requests to /v1/events by the status of their answer. 401 grows: a
  key was revoked that is still in use. 503 grows: look at the event log.
- `impact_ingest_request_seconds`: from a request's head to its answer. Its p99 grows: the log is slow.
- `impact_ingest_in_flight_bytes`: bodies in memory. Near the limit, answers become 503.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

# 1 ms: a batch that waits for nobody; 0.25 s: the log's linger and a slow disk; 10 s: somebody hangs
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS = (*map(str, _SECONDS), "+Inf")


class DoorMetrics:
    """Counts what the door does, for one registry and one event loop.

    Plain numbers that become metrics when somebody asks: the library's own objects, with their locks, took
    a tenth of the time of a request with one event.
    """

    def __init__(self, registry: CollectorRegistry, bytes_in_flight: Callable[[], float]) -> None:
        self._events: Counter[tuple[str, str]] = Counter()
        self._quarantine_bytes: Counter[str] = Counter()
        self._requests: Counter[int] = Counter()
        self._slots = [0] * len(_BOUNDS)
        self._seconds = 0.0
        self._bytes_in_flight = bytes_in_flight
        registry.register(self)

    def count_events(self, product: str, accepted: int, refused: Iterable[str]) -> None:
        """The verdicts of one request."""
        if accepted:
            self._events[product, "accepted"] += accepted
        for code in refused:
            self._events[product, code] += 1

    def count_unavailable(self, product: str, events: int) -> None:
        """Events whose fate the sender cannot know."""
        self._events[product, "unavailable"] += events

    def count_turned_away(self, product: str, events: int) -> None:
        """Events of a request that was not taken because the quarantine took no more."""
        self._events[product, "turned_away"] += events

    def count_quarantined(self, product: str, size: int) -> None:
        """Bytes on their way into the quarantine log."""
        self._quarantine_bytes[product] += size

    def count_request(self, status: int, seconds: float) -> None:
        """One answer."""
        self._requests[status] += 1
        self._slots[bisect_left(_SECONDS, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """For the registry, which calls it in the event loop's thread."""
        events = CounterMetricFamily(
            "impact_ingest_events", "Events by outcome.", labels=["product", "outcome"]
        )
        for labels, count in self._events.items():
            events.add_metric(labels, count)
        yield events
        quarantined = CounterMetricFamily(
            "impact_ingest_quarantine_bytes",
            "Bytes that refused events take in the quarantine log.",
            labels=["product"],
        )
        for product, size in self._quarantine_bytes.items():
            quarantined.add_metric([product], size)
        yield quarantined
        requests = CounterMetricFamily("impact_ingest_requests", "Requests by status.", labels=["status"])
        for status, count in self._requests.items():
            requests.add_metric([str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "impact_ingest_request_seconds", "Time from a request's head to its answer."
        )
        seconds.add_metric([], list(zip(_BOUNDS, accumulate(self._slots), strict=True)), self._seconds)
        yield seconds
        yield GaugeMetricFamily(
            "impact_ingest_in_flight_bytes", "Bytes of bodies in memory.", self._bytes_in_flight()
        )
