"""What one request may cost, and what all requests together may hold in memory."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of the door; the defaults are the contract's where it names one."""

    max_wire_bytes: int = 8 * MIB  # as received: an identity body can be no larger than an inflated one
    max_body_bytes: int = 8 * MIB  # inflated
    max_inflate_ratio: int = 1_000  # gzip reaches 1,032 at the very most; looked at above 1 MiB only
    max_events: int = 10_000
    max_event_bytes: int = 64 * 1024  # of one event as compact JSON
    max_nesting: int = 64
    max_requests_in_flight: int = 2_048
    max_bytes_in_flight: int = 64 * MIB  # objects made of JSON take 5 to 10 times as much, one body at a time
    max_product_requests_in_flight: int = 1_024  # of one product: half, so that there is room for others
    max_product_bytes_in_flight: int = 32 * MIB
    max_events_per_s: float = 0.0  # of one product, in each process; 0 is no limit: nobody is refused unasked
    burst_s: float = 10.0  # so many seconds' worth may come at once
    # of one product, in each process; some 700,000 refused events, 6 GiB a day. 0 is no limit
    max_quarantine_bytes_per_hour: int = 256 * MIB
    large_request_bytes: int = 64 * 1024  # from here on the requests of a product are judged in turn
    body_deadline_s: float = 30.0
    drain_bytes: int = MIB  # read on after an early refusal, so that the client sees the answer
    drain_s: float = 1.0
    future_tolerance_s: int = 300  # clocks of senders
