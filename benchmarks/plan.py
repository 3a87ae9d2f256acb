"""How much is measured: in full, or quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of a run."""

    runs: int
    events: int  # in the topic that is drained
    series: tuple[int, ...]  # the growth by series
    identities: tuple[int, ...]  # the growth by identities, ascending
    batches: int  # measured at each size
    flights: int
    freshness_s: float
    gauges: int  # scraped and queried
    scale_events: int  # through two aggregators
    tell: Callable[[str], None]  # shows what is being done


def full(tell: Callable[[str], None]) -> Plan:
    """Twenty minutes, most of it for the many events of `scale` and identities of `growth`."""
    return Plan(
        runs=3,
        events=150_000,
        series=(100, 1_000, 10_000, 100_000, 1_000_000),
        identities=(100_000, 1_000_000, 10_000_000, 100_000_000),
        batches=20,
        flights=336_776,
        freshness_s=20,
        gauges=10_000,
        scale_events=10_000_000,
        tell=tell,
    )


def quick(tell: Callable[[str], None]) -> Plan:
    """Within 3 minutes: shows the direction."""
    return Plan(
        runs=1,
        events=40_000,
        series=(100, 10_000),
        identities=(100_000,),
        batches=5,
        flights=30_000,
        freshness_s=3,
        gauges=10_000,
        scale_events=100_000,
        tell=tell,
    )
