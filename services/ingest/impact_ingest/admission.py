"""Who may come in now: bytes, requests and events a second, of each product and of all together.

Each product has its own share of what may be in flight, and its large requests are judged one at a time:
a product that floods the door fills its own share and waits for its own turn.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING

from impact_ingest.problems import Problem, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from impact_ingest.limits import Limits


class _Share:
    """What one product has in flight, and how many events it may still send now."""

    __slots__ = ("bytes", "requests", "tokens", "tokens_at", "turn")

    def __init__(self, tokens: float, now: float) -> None:
        self.bytes = 0
        self.requests = 0
        self.tokens = tokens
        self.tokens_at = now
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
            limits = self.limits
            burst = limits.max_events_per_s * limits.burst_s
            share = self._shares[product] = _Share(burst, self.clock())
        if self.limits.max_events_per_s:
            self._refill(share)
        if self.requests >= self.limits.max_requests_in_flight:
            raise _busy("Too many requests are in flight")
        if share.requests >= self.limits.max_product_requests_in_flight:
            raise _busy("Too many requests of this product are in flight")
        self.requests += 1
        share.requests += 1
        return Room(self, share)

    def _refill(self, share: _Share) -> None:
        """Raises Problem 429 for a product that has sent more than it may."""
        limits, now = self.limits, self.clock()
        rate = limits.max_events_per_s
        share.tokens = min(rate * limits.burst_s, share.tokens + (now - share.tokens_at) * rate)
        share.tokens_at = now
        if share.tokens < 0:
            wait_s = math.ceil(-share.tokens / rate)
            detail = f"The product may send {rate:g} events a second: send this request again in {wait_s} s."
            raise Problem(429, "rate_limited", detail, headers={"Retry-After": str(wait_s)})


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
        """Takes the events off the product's rate: it may go below what is there once, and then waits."""
        if self._admission.limits.max_events_per_s:
            self._share.tokens -= events

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


def _busy(what: str) -> Problem:
    return unavailable("overloaded", f"{what}: send this request again in a second.")
