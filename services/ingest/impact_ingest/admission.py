"""Who may come in now: bytes, requests, events and refused events, of each product and of all together.

Each product has its own share of what may be in flight, and its large requests are judged one at a time:
a product that floods the door fills its own share and waits for its own turn.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING

from impact_ingest.limits import MIB
from impact_ingest.problems import Problem, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from impact_ingest.limits import Limits


class _Allowance:
    """A token bucket: what may come now, and so much more each second, up to `most`.

    It may go below zero once, so that what is larger than the bucket passes too; then it must recover.
    """

    __slots__ = ("_filled_at", "_left", "_most", "_per_s")

    def __init__(self, per_s: float, most: float, now: float) -> None:
        self._per_s = per_s
        self._most = most
        self._left = most
        self._filled_at = now

    def wait_s(self, now: float) -> int:
        """Full seconds until it is above zero; 0 if it is."""
        if not self._per_s:  # no limit
            return 0
        self._left = min(self._most, self._left + (now - self._filled_at) * self._per_s)
        self._filled_at = now
        return math.ceil(max(0.0, -self._left) / self._per_s)

    def take(self, amount: int) -> None:
        """What has come."""
        self._left -= amount


class _Share:
    """What one product has in flight, and what it may still send now."""

    __slots__ = ("bytes", "events", "quarantine_bytes", "requests", "turn")

    def __init__(self, limits: Limits, now: float) -> None:
        self.bytes = 0
        self.requests = 0
        rate = limits.max_events_per_s
        self.events = _Allowance(rate, rate * limits.burst_s, now)
        an_hour = limits.max_quarantine_bytes_per_hour
        self.quarantine_bytes = _Allowance(an_hour / 3600, an_hour, now)
        self.turn = asyncio.Lock()


class Admission:
    """Counts what is in flight. For one event loop; `clock` gives seconds."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = monotonic) -> None:
        self.limits = limits
        self.clock = clock
        self.requests = 0
        self.bytes = 0
        self._shares: dict[str, _Share] = {}

    def enter(self, product: str) -> Room:
        """Room for one request; give it back with `leave`. Raises Problem 429 or 503."""
        share = self._shares.get(product)
        if share is None:
            share = self._shares[product] = _Share(self.limits, self.clock())
        if self.limits.max_events_per_s and (wait_s := share.events.wait_s(self.clock())):
            what = f"The product may send {self.limits.max_events_per_s:g} events a second"
            raise _too_fast("rate_limited", f"{what}:", wait_s)
        if self.requests >= self.limits.max_requests_in_flight:
            raise _busy("Too many requests are in flight")
        if share.requests >= self.limits.max_product_requests_in_flight:
            raise _busy("Too many requests of this product are in flight")
        self.requests += 1
        share.requests += 1
        return Room(self, share)


class Room:
    """What one request holds."""

    __slots__ = ("_admission", "_held", "_share")

    def __init__(self, admission: Admission, share: _Share) -> None:
        self._admission = admission
        self._share = share
        self._held = 0

    def grow(self, size: int) -> None:
        """Holds `size` bytes more. Raises Problem 503."""
        admission, share = self._admission, self._share
        if admission.bytes + size > admission.limits.max_bytes_in_flight:
            raise _busy("Too much is in flight")
        if share.bytes + size > admission.limits.max_product_bytes_in_flight:
            raise _busy("Too much of this product is in flight")
        admission.bytes += size
        share.bytes += size
        self._held += size

    def charge(self, events: int) -> None:
        """Takes the events off the product's rate."""
        self._share.events.take(events)

    def charge_quarantine(self, size: int) -> None:
        """Takes `size` bytes off what the product may have put into quarantine. Raises Problem 429."""
        admission, allowance = self._admission, self._share.quarantine_bytes
        if wait_s := allowance.wait_s(admission.clock()):
            mib = admission.limits.max_quarantine_bytes_per_hour / MIB
            what = f"The quarantine takes {mib:g} MiB of the product's refused events an hour"
            raise _too_fast("quarantine_full", f"{what}. Mend what is refused, or", wait_s)
        allowance.take(size)

    @property
    def turn(self) -> asyncio.Lock:
        """Held while a large request of the product is judged."""
        return self._share.turn

    def leave(self) -> None:
        """Gives everything back."""
        self._admission.requests -= 1
        self._share.requests -= 1
        self._admission.bytes -= self._held
        self._share.bytes -= self._held


def _too_fast(code: str, what: str, wait_s: int) -> Problem:
    detail = f"{what} send this request again in {wait_s} s."
    return Problem(429, code, detail, headers={"Retry-After": str(wait_s)})


def _busy(what: str) -> Problem:
    return unavailable("overloaded", f"{what}: send this request again in a second.")
