"""All 336,776 flights through HTTP: every number equals what plain SQL over the rows says.

Once into `impact up`, once through real Kafka into real PostgreSQL with two aggregators.
"""

from __future__ import annotations

import math
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator.sketches import EXACT_LIMIT
from tests.end_to_end import flights_oracle
from tests.end_to_end.services import FLIGHTS_CATALOG, Embedded, Production, flight_events

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.end_to_end.services import Service
    from tests.rig.kafka import KafkaServer

FLIGHTS = 336_776
STANDARD_ERROR = 0.0081  # of unique beyond EXACT_LIMIT, as ARCHITECTURE.md states


def same(metric: str, found: Any, expected: Decimal) -> bool:
    """Exact, but for a mean's last digits, doubles on SQLite, and the stated error of `unique`."""
    if metric == "aircraft" and expected > EXACT_LIMIT:
        return abs(float(found) / float(expected) - 1) < 4 * STANDARD_ERROR
    if metric == "arrival_delay":
        return math.isclose(float(found), float(expected), rel_tol=1e-9, abs_tol=1e-9)
    return Decimal(found) == expected if isinstance(found, Decimal) else float(found) == float(expected)


def differences(found: Mapping[Any, Any], expected: Mapping[Any, Decimal]) -> list[tuple[Any, ...]]:
    """What is not the same; values of nothing (0 in a bucket that saw only other events) may be extra."""
    wrong = [
        (key, found.get(key), value)
        for key, value in expected.items()
        if found.get(key) is None or not same(key[0], found[key], value)
    ]
    extra = [(key, value, None) for key, value in found.items() if key not in expected and value]
    return [*wrong, *extra]


def check_numbers(service: Service) -> None:
    buckets = service.rows(
        "SELECT metric, segment, SUBSTR(CAST(bucket_start AS VARCHAR), 1, 10), value FROM metric_buckets"
        " WHERE product = 'air_travel' AND resolution = '1d'",
    )
    expected = flights_oracle.by_day()
    assert len(expected) > 40_000
    assert differences({(m, s, day): value for m, s, day, value in buckets}, expected) == []
    rolling = service.rows(
        "SELECT metric, segment, '', value FROM rolling_metrics WHERE time_window = 'all' AND status = 'ok'",
    )
    values = {(m, s, day): value for m, s, day, value in rolling if m != "cancelled_rate"}
    assert differences(values, flights_oracle.of_all_time()) == []
    rate = {segment: value for metric, segment, _, value in rolling if metric == "cancelled_rate"}
    totals = flights_oracle.of_all_time()
    for segment, value in rate.items():
        cancelled = totals.get(("flights_cancelled", segment, ""), Decimal(0))
        scheduled = totals["flights_scheduled", segment, ""]
        assert math.isclose(float(value), cancelled / scheduled, abs_tol=1e-9)
    assert len(rate) == 20


@pytest.mark.timeout(600)
def test_every_number_of_the_embedded_service_equals_plain_sql(tmp_path: Path) -> None:
    with Embedded(tmp_path, FLIGHTS_CATALOG) as service:
        service.send(flight_events(tmp_path))
        service.wait_until_counted("air_travel", FLIGHTS)
        check_numbers(service)
        before = service.rows(
            "SELECT metric, segment, time_window, value, n FROM rolling_metrics ORDER BY 1, 2, 3"
        )
        buckets = service.rows("SELECT * FROM metric_buckets ORDER BY 1, 2, 3, 4, 5, 6")

        service.send(flight_events(tmp_path))  # the whole file once more changes no number
        service.wait_until_counted("air_travel", 2 * FLIGHTS)
        assert service.rows("SELECT * FROM ledger") == [("air_travel", 2 * FLIGHTS, FLIGHTS, FLIGHTS, 0)]
        after = service.rows(
            "SELECT metric, segment, time_window, value, n FROM rolling_metrics ORDER BY 1, 2, 3"
        )
        assert after == before
        assert service.rows("SELECT * FROM metric_buckets ORDER BY 1, 2, 3, 4, 5, 6") == buckets
        assert service.door.peak_memory_bytes() < 1024**3


@pytest.mark.timeout(600)
def test_every_number_through_kafka_and_postgresql_equals_plain_sql(
    tmp_path: Path, kafka_server: KafkaServer, postgresql_url: str
) -> None:
    """With two aggregators of one group, one of which is stopped and started in mid-stream."""
    with Production(tmp_path, kafka_server, postgresql_url, FLIGHTS_CATALOG) as service:
        first, second = service.start_aggregator("first"), service.start_aggregator("second")
        with ThreadPoolExecutor(1) as threads:
            sending = threads.submit(service.send, flight_events(tmp_path))
            service.wait_until_counted("air_travel", FLIGHTS // 5)
            second.stop(signal.SIGKILL)
            time.sleep(3)
            second.start()
            service.wait_until_counted("air_travel", FLIGHTS // 2)
            first.stop(signal.SIGTERM)
            first.start()
            sending.result()
        service.wait_until_counted("air_travel", FLIGHTS)
        assert service.rows("SELECT * FROM ledger") == [("air_travel", FLIGHTS, FLIGHTS, 0, 0)]
        check_numbers(service)
