"""What the service must show after a fault, L1 to L8, worked out from the driver's record alone.

L1 every accepted event is counted once or in quarantine. L2 nothing is counted that was not sent.
L3 rejected events are never counted. L4 an event without an answer counts at most once. L5 values by metric,
segment and bucket equal SQL over the record. L6 received = counted + duplicates + quarantined = what is
in the log. L7 the log is counted to its end within DRAIN_S of healing. L8 memory stays within its bounds.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from proof.ledger import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proof.ledger import Ledger
    from proof.topologies import Topology

DRAIN_S = 90.0  # lag 0 and every number settled, on two cores that others use too
BOUNDS_MIB = {"door": 256.0, "aggregator": 512.0, "up": 768.0}  # `impact up` is both
SHOWN = 5  # differences of one kind in a message


class Red(Exception):
    """The promise was broken; each line begins with the law that it broke."""


class Metric(NamedTuple):
    """How a metric is had from the record's table `counted`: value and n of a group."""

    value: str
    where: str = "1"
    n: str = "COUNT(*)"
    by_site: bool = True
    buckets: bool = True


_KG = "milligrams / 1000.0"
METRICS = {
    "collections": Metric("COUNT(*)"),
    "plastics": Metric("COUNT(*)", "plastic"),
    "waste": Metric("SUM(milligrams) / 1000.0"),
    "people": Metric("COUNT(DISTINCT person)"),
    "mean_weight": Metric("SUM(milligrams) / 1000.0 / COUNT(*)", by_site=False),
    "heaviest": Metric(f"MAX({_KG})", by_site=False),
    "plastic_share": Metric("1.0 * SUM(plastic) / COUNT(*)", buckets=False),
}
_LEVELS = {"1h": 3_600_000, "1d": 86_400_000}

Key = tuple[str, str, str, int]  # metric, resolution or 'all', segment, start in ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a green round showed."""

    sent: int
    accepted: int
    rejected: int
    unknown: int
    unknown_counted: int
    duplicates: int
    quarantined: int
    drain_s: float
    values: int  # compared with the oracle
    peak_mib: float


def check(service: Topology, ledger: Ledger, drain_s: float = DRAIN_S) -> Verdict:
    """Waits until the service has settled, then compares. Raises Red."""
    took = drain(service, drain_s)
    found_counted = _settle_unknown(service, ledger)
    _make_counted(ledger)
    faults = [*_ledger_faults(service, ledger), *_quarantine_faults(service, ledger)]
    expected = expected_values(ledger)
    shown = shown_values(service)
    faults += _differences(expected, shown)
    peak = max(service.peak_memory_mib().values(), default=0.0)
    faults += _memory_faults(service)
    if faults:
        raise Red("\n".join(faults))
    duplicates, quarantined = service.rows(
        "SELECT SUM(duplicates), SUM(quarantined) FROM ledger WHERE product = 'proof'"
    )[0]
    return Verdict(
        ledger.rows("SELECT COUNT(*) FROM event")[0][0],
        ledger.count("accepted"),
        ledger.count("rejected"),
        ledger.count("unknown"),
        found_counted,
        int(duplicates or 0),
        int(quarantined or 0),
        round(took, 1),
        len(expected),
        round(peak, 1),
    )


def drain(service: Topology, timeout_s: float = DRAIN_S) -> float:
    """Seconds until all of the log is counted and the tick has followed. Raises Red (L7)."""
    started = time.monotonic()
    while True:
        lag = -1
        try:
            lag = _lag(service)
            if (
                lag == 0
                and service.rows("SELECT COUNT(*) FROM changed_series") == [(0,)]
                and _lag(service) == 0
            ):
                return time.monotonic() - started
        except Exception as error:  # noqa: BLE001 - a service that is not back yet fails in many ways
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            reason = f"{lag} records wait"
        if time.monotonic() - started > timeout_s:
            raise Red(f"L7 not settled within {timeout_s:.0f} s: {reason}; {service.state()}")
        time.sleep(0.2)


def _lag(service: Topology) -> int:
    counted = {
        (topic, int(partition)): int(offset)
        for topic, partition, offset in service.rows(
            "SELECT topic, partition, next_offset FROM log_positions"
        )
    }
    return sum(max(0, end - counted.get(place, 0)) for place, end in service.log_ends().items())


def _settle_unknown(service: Topology, ledger: Ledger) -> int:
    """Asks what became of events without an answer: whether they count is open, how often is not (L4)."""
    numbers = [
        number
        for number, kind in ledger.rows("SELECT number, kind FROM event WHERE outcome = 'unknown'")
        if kind == "collected"
    ]
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.doors[0].url, headers=headers, timeout=30, verify=False) as client:
        counted = []
        for begin in range(0, len(numbers), 1000):  # the door takes so many ids at once
            counted += _counted_among(client, numbers[begin : begin + 1000])
    ledger.rows("DROP TABLE IF EXISTS found_counted")
    ledger.rows("CREATE TEMP TABLE found_counted (number INTEGER PRIMARY KEY)")
    for number in counted:
        ledger.rows("INSERT INTO found_counted VALUES (?)", (number,))
    return len(counted)


def _counted_among(client: httpx.Client, numbers: Sequence[int]) -> list[int]:
    asked = {"source": SOURCE, "ids": [f"e{number}" for number in numbers]}
    answer = client.post("/v1/events/status", json=asked)
    answer.raise_for_status()
    statuses = answer.json()["statuses"]
    return [number for number in numbers if statuses[f"e{number}"] == "counted"]


def _make_counted(ledger: Ledger) -> None:
    """`counted`: the events that the numbers must hold, and no others."""
    ledger.rows("DROP VIEW IF EXISTS counted")
    ledger.rows(
        "CREATE TEMP VIEW counted AS SELECT * FROM event WHERE kind = 'collected'"
        " AND (outcome = 'accepted' OR number IN (SELECT number FROM found_counted))"
        " AND number NOT IN (SELECT target FROM event WHERE kind = 'retraction' AND outcome = 'accepted')"
    )


def _ledger_faults(service: Topology, ledger: Ledger) -> Iterator[str]:
    rows = service.rows(
        "SELECT received, counted, duplicates, quarantined FROM ledger WHERE product = 'proof'"
    )
    received, counted, duplicates, quarantined = (int(field) for field in (rows or [(0, 0, 0, 0)])[0])
    if received != counted + duplicates + quarantined:
        yield f"L6 received {received} is not {counted} + {duplicates} + {quarantined}"
    yield from _log_faults(service)
    ((expected,),) = ledger.rows(
        "SELECT COUNT(*) FROM event WHERE kind IN ('collected', 'retraction')"
        " AND (outcome = 'accepted' OR number IN (SELECT number FROM found_counted))"
    )
    if counted != expected:
        law = "L1" if counted < expected else "L2"
        yield f"{law} {counted} events are counted, {expected} should be"


def _log_faults(service: Topology) -> Iterator[str]:
    """What was received is what the log holds: a retry that counts nothing twice still shows here."""
    for _ in range(3):  # an append that was given up may still arrive
        there = service.events_in_log("proof")
        rows = service.rows("SELECT received FROM ledger WHERE product = 'proof'")
        received = int(rows[0][0]) if rows else 0
        if received == there:
            return
        time.sleep(1)
    yield f"L6 {received} events were received, {there} are in the log"


def _quarantine_faults(service: Topology, ledger: Ledger) -> Iterator[str]:
    """Each refused event is there at least once (a resend may come there again), and nothing else is."""
    rows = service.rows("SELECT event_id, code FROM quarantined_events WHERE product = 'proof'")
    found = {(str(event_id), str(code)) for event_id, code in rows}
    due = {(event_id, "schema_violation") for (event_id,) in ledger.rows(
        "SELECT id FROM event WHERE kind = 'invalid' AND outcome = 'rejected'"
    )} | {(event_id, "id_conflict") for (event_id,) in ledger.rows(
        "SELECT id FROM event WHERE kind = 'conflict' AND outcome = 'accepted'"
    )}  # fmt: skip
    possible = {
        event_id
        for (event_id,) in ledger.rows(
            "SELECT id FROM event WHERE kind IN ('invalid', 'conflict') OR outcome = 'rejected'"
        )
    }
    if missing := due - found:
        yield f"L1 {len(missing)} refused events are not in quarantine, {sorted(missing)[:SHOWN]}"
    if strange := {one for one in found if one[0] not in possible}:
        yield f"L1 {len(strange)} events are in quarantine that should count, {sorted(strange)[:SHOWN]}"


def expected_values(ledger: Ledger) -> dict[Key, tuple[float, int]]:
    """Value and n of every metric, segment and bucket, and of all time: SQL over the record."""
    found: dict[Key, tuple[float, int]] = {}
    for name, metric in METRICS.items():
        levels = {"all": 0, **(_LEVELS if metric.buckets else {})}
        for level, length in levels.items():
            start = f"time_ms / {length} * {length}" if length else "0"
            for site in ("NULL", "site") if metric.by_site else ("NULL",):
                segment = "'{}'" if site == "NULL" else "json_object('site', site)"
                sql = (
                    f"SELECT {segment}, {start}, {metric.value}, {metric.n} FROM counted"
                    f" WHERE {metric.where} GROUP BY 1, 2"
                )
                for key, begins, value, n in ledger.rows(sql):
                    if n:
                        found[name, level, key, begins] = (float(value), int(n))
    _add_newest(ledger, found)
    return found


def _add_newest(ledger: Ledger, found: dict[Key, tuple[float, int]]) -> None:
    for level, length in {"all": 0, **_LEVELS}.items():
        start = f"time_ms / {length} * {length}" if length else "0"
        # SQLite gives the other columns of the row with the maximum
        sql = f"SELECT {start}, MAX(time_ms), {_KG}, COUNT(*) FROM counted GROUP BY 1"
        for begins, newest, value, n in ledger.rows(sql):
            if newest is not None:
                found["newest", level, "{}", begins] = (float(value), int(n))


def shown_values(service: Topology) -> dict[Key, tuple[float, int]]:
    """The same from the service's views."""
    found: dict[Key, tuple[float, int]] = {}
    for metric, segment, value, n in service.rows(
        "SELECT metric, segment, value, n FROM rolling_metrics"
        " WHERE product = 'proof' AND time_window = 'all' AND n > 0"
    ):
        found[metric, "all", _compact(segment), 0] = (_number(value), int(n))
    for metric, level, start, segment, value, n in service.rows(
        "SELECT metric, resolution, bucket_start, segment, value, count FROM metric_buckets"
        " WHERE product = 'proof' AND count > 0"
    ):
        found[metric, level, _compact(segment), _milliseconds(start)] = (_number(value), int(n))
    return found


def _differences(expected: dict[Key, tuple[float, int]], shown: dict[Key, tuple[float, int]]) -> list[str]:
    missing = sorted(expected.keys() - shown.keys())
    surplus = sorted(shown.keys() - expected.keys())
    wrong = sorted(key for key in expected.keys() & shown.keys() if not _equal(expected[key], shown[key]))
    lines = []
    if missing:
        lines.append(f"L5 {len(missing)} values are missing, {missing[:SHOWN]}")
    if surplus:
        lines.append(f"L2 {len(surplus)} values should not be there, {surplus[:SHOWN]}")
    if wrong:
        first = [(key, "expected", expected[key], "found", shown[key]) for key in wrong[:SHOWN]]
        lines.append(f"L5 {len(wrong)} values are wrong, {first}")
    return lines


def _equal(one: tuple[float, int], other: tuple[float, int]) -> bool:
    return one[1] == other[1] and math.isclose(one[0], other[0], rel_tol=1e-9, abs_tol=1e-9)


def _memory_faults(service: Topology) -> Iterator[str]:
    for name, mib in service.peak_memory_mib().items():
        bound = BOUNDS_MIB[name.partition("-")[0]]
        if mib > bound:
            yield f"L8 {name} took {mib:.0f} MiB, the bound is {bound:.0f}"


def _compact(segment: Any) -> str:
    return json.dumps(json.loads(segment), separators=(",", ":"))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _milliseconds(start: Any) -> int:
    if isinstance(start, str):  # SQLite has no type for times
        start = datetime.fromisoformat(start)
    if start.tzinfo is None:
        start = start.replace(tzinfo=UTC)
    return int(start.timestamp()) * 1000
