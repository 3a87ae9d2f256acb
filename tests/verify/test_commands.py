"""`impact verify` and `impact explain` as processes, on both topologies, over real flights."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from examples.flights import flights
from tests.end_to_end.services import FLIGHTS_CATALOG, IMPACT, Embedded, Production

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig.kafka import KafkaServer

FLIGHTS = 4_000

_encode = msgspec.json.Encoder(decimal_format="number").encode


def some_flights(folder: Path) -> Path:
    """The first of them as NDJSON: five days."""
    path = folder / "some.ndjson"
    path.write_bytes(b"".join(_encode(event) + b"\n" for event in islice(flights.events(), FLIGHTS)))
    return path


def impact(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*IMPACT, *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_embedded_service_is_verified_while_it_runs_and_a_wrong_bucket_is_named(tmp_path: Path) -> None:
    with Embedded(tmp_path, FLIGHTS_CATALOG) as service:
        service.send(some_flights(tmp_path))
        service.send(tmp_path / "some.ndjson")  # again: duplicates
        service.wait_until_counted("air_travel", 2 * FLIGHTS)
        data = str(service.data)
        done = impact(tmp_path, "verify", "--data", data)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (
            f"equal: recomputed from {2 * FLIGHTS:,} events of the log, ledger of air_travel" in done.stdout
        )

        why = impact(tmp_path, "explain", "air_travel", "aircraft", "--data", data, "--json")
        assert why.returncode == 0, why.stdout + why.stderr
        found = json.loads(why.stdout)
        assert (found["duplicates"], found["status"], found["window"]) == (FLIGHTS, "ok", "all")
        assert found["facts"][0]["counted"] == found["n"]
        shown = impact(
            tmp_path,
            "explain",
            "air_travel",
            "cancelled_rate",
            "--data",
            data,
            "--segment",
            '{"origin": "JFK"}',
        )
        assert "Share of flights cancelled" in shown.stdout
        assert (
            "FROM rolling_metrics WHERE product = 'air_travel' AND segment = '{\"origin\":\"JFK\"}'"
            in shown.stdout
        )

    with closing(sqlite3.connect(service.data / "metrics.db")) as database, database:
        database.execute(
            "UPDATE bucket SET count = count + 1 WHERE resolution = '1d' AND bucket_start LIKE '2013-01-03%'"
            " AND series_id IN"
            " (SELECT series_id FROM series WHERE metric = 'flights_flown' AND segment = '{}')"
        )
    wrong = impact(tmp_path, "verify", "--data", data, "--metric", "flights_flown")
    assert wrong.returncode == 1
    lines = [line for line in wrong.stdout.splitlines() if line.startswith("air_travel flights_flown:")]
    assert [line.split(":")[1].strip() for line in lines] == ["bucket 1d 2013-01-03 00"] * 2
    assert "2 differences" in wrong.stdout
    assert impact(tmp_path, "verify", "--data", data, "--product", "nobody").returncode == 1
    assert (
        impact(tmp_path, "explain", "air_travel", "aircraft", "--data", data, "--segment", "x").returncode
        == 2
    )


def test_kafka_and_postgresql_are_verified(
    tmp_path: Path, kafka_server: KafkaServer, postgresql_url: str
) -> None:
    with Production(tmp_path, kafka_server, postgresql_url, FLIGHTS_CATALOG) as service:
        service.start_aggregator("one")
        service.send(some_flights(tmp_path))
        service.wait_until_counted("air_travel", FLIGHTS)
        report = json.loads(service.run("verify", "--json"))
        assert report["equal"]
        assert report["events"] == FLIGHTS
        assert report["ledgers"] == ["air_travel"]
        assert {one["metric"] for one in report["metrics"] if one["buckets"] > 50} >= {
            "aircraft",
            "co2e_emitted",
        }
        assert all(one["rolling"] >= 10 and one["periods"] >= 10 for one in report["metrics"])
        found = json.loads(service.run("explain", "air_travel", "flights_scheduled", "--json"))
        assert (found["value"], found["facts"][0]["counted"]) == (FLIGHTS, FLIGHTS)
        assert service.rows(found["sql"][0].rstrip(";"))[0][0] == FLIGHTS
