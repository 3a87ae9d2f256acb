"""What Prometheus scrapes: the pipeline's own metrics, and the business gauges of the leader.

Every name here is in the public contract. No label carries a subject, an event id or unbounded text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from impact_aggregator.active import catalogs_hash
from impact_aggregator.rules import TOTAL, UNKNOWN, is_shown
from impact_schemas import numbers
from impact_schemas.catalog.families import family, family_by
from impact_schemas.tables import to_datetime

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from impact_aggregator.rolling import Point
    from impact_aggregator.rules import Series
    from impact_schemas.catalog import Catalog

STATES = ("ok", "stale", "no_data", "suppressed")


class PipelineMetrics:
    """Metrics of the aggregator itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "impact_aggregator_events",
            "Events read from the logs, by what became of them: counted, duplicate or quarantined.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("counted", "duplicate", "quarantined"):
            self.events.labels(outcome)
        self.lag = Gauge(
            "impact_aggregator_lag_records",
            "Records in the log that are not yet counted. Growing: too little capacity.",
            ["partition"],
            registry=registry,
        )
        self.freshness = Histogram(
            "impact_aggregator_freshness_seconds",
            "From receipt at the door to visible in SQL, once a record.",
            registry=registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
        )
        self.leads = Gauge(
            "impact_aggregator_leader",
            "1 on the aggregator that keeps the rolling metrics; the sum over all should be 1.",
            registry=registry,
        )
        self.tick = Histogram(
            "impact_aggregator_tick_seconds",
            "How long it takes to bring the rolling metrics up to date.",
            registry=registry,
        )
        self.evaluation = Histogram(
            "impact_aggregator_evaluation_seconds",
            "How long it takes, after a tick, to say what the numbers mean: targets, gaps, violations.",
            registry=registry,
        )
        self.trends_waiting = Gauge(
            "impact_aggregator_trends_waiting",
            "Series whose trends are to be worked out; more than 0 for minutes: targets and gaps are behind.",
            registry=registry,
        )
        self.errors = Counter(
            "impact_aggregator_errors",
            "Batches dropped and read again, by cause: database, log, claim_lost, catalog_superseded (another"
            " catalog is active) or catalog_behind (the door knows a type that is not yet known here).",
            ["cause"],
            registry=registry,
        )


class BusinessGauges(Collector):
    """The leader's rolling values as gauges; nothing on any other aggregator."""

    def __init__(self, points: Callable[[], Collection[Point]], clock: Callable[[], int]) -> None:
        """`clock` gives microseconds since 1970."""
        self._points = points
        self._clock = clock
        self._catalogs: Mapping[str, Catalog] = {}
        # a point to its family and its line up to the value
        self._places: dict[tuple[Series, str], tuple[str, str]] = {}

    def use(self, catalogs: Mapping[str, Catalog]) -> None:
        """Takes up the catalogs in force."""
        self._catalogs = catalogs
        self._places = {}

    def describe(self) -> list[Family]:
        """Nothing: names depend on the catalog and are not known when this is registered."""
        return []

    def collect(self) -> Iterator[Family]:
        """What is known of the catalogs and of the metrics' states; the values are in `lines`."""
        info = Family("impact_catalog_info", "The catalog that is in force, by product.", "gauge")
        info.samples = [
            Sample(info.name, {"product": product, "version": catalogs_hash({product: catalog})[:12]}, 1)
            for product, catalog in self._catalogs.items()
        ]
        yield info
        states = Family("impact_metric_state", "1 for the state that a metric's total is in.", "gauge")
        for point in self._points():
            if point.series.segment == TOTAL:
                states.samples.extend(_states(point))
        yield states
        yield self._overdue()

    def _overdue(self) -> Family:
        told = "1 while the review of a risk is overdue, 0 while it is not."
        family = Family("impact_mission_risk_review_overdue", told, "gauge")
        today = to_datetime(self._clock()).date()
        if self._points():  # this process leads
            family.samples = [
                Sample(family.name, {"product": product, "risk": risk.id}, risk.is_overdue(today))
                for product, catalog in self._catalogs.items()
                for risk in catalog.risks
                if risk.review_every is not None
            ]
        return family

    def lines(self) -> bytes:
        """The values as text, the same in both of Prometheus' formats: a family for each metric and split.

        They are tens of thousands, and as objects they would cost ten times as much.
        """
        families: dict[str, dict[str, str]] = {}
        shown = [point for point in self._points() if is_shown(point.series.segment)]
        if len(self._places) > 2 * len(shown):
            self._places = {}  # most of these series are gone
        for point in shown:
            if point.reading.value is not None:
                name, place = self._place(point)
                # a segment that is called "(unknown)" must not collide with the unknown group
                families.setdefault(name, {}).setdefault(
                    place, f"{place} {point.reading.value / numbers.ONE}\n"
                )
        return "".join(
            text for name, found in families.items() for text in (_head(name), *found.values())
        ).encode()

    def _place(self, point: Point) -> tuple[str, str]:
        key = (point.series, point.window)
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = self._named(point)
        return found

    def _named(self, point: Point) -> tuple[str, str]:
        series = point.series
        segment = msgspec.json.decode(series.segment, type=dict[str, msgspec.Raw])
        cuts = self._catalogs[series.product].metrics[series.metric].cuts
        # a cut's family is named in the catalog's order, its segment has sorted keys
        names = next((cut for cut in cuts if set(cut) == set(segment)), tuple(segment))
        name = family_by(series.metric, names) if names else family(series.metric)
        labels = {"product": series.product, "window": point.window}
        labels |= {dimension: _label(bytes(segment[dimension]).decode()) for dimension in names}
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(labels.items()))
        return name, f"{name}{{{inside}}}"


def _head(name: str) -> str:
    told = "Rolling value of the metric of this name: see the view metrics."
    return f"# HELP {name} {told}\n# TYPE {name} gauge\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _states(point: Point) -> Iterator[Sample]:
    labels = {"product": point.series.product, "metric": point.series.metric, "window": point.window}
    for status in STATES:
        yield Sample("impact_metric_state", {**labels, "status": status}, point.reading.status == status)


def _label(text: str) -> str:
    if text == UNKNOWN:
        return "(unknown)"
    return str(msgspec.json.decode(text)) if text.startswith('"') else text
