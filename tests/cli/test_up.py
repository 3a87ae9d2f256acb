"""`impact up` for real: from an empty folder to a number in SQL, and through its ends and restarts."""

from __future__ import annotations

import json
import signal
import socket
import stat
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.service import Service, impact, visit, wait_until, write_catalog

SINGLE = {"Content-Type": "application/cloudevents+json"}

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Counts three visits of the clinic, one of them sent twice."""
    folder = tmp_path_factory.mktemp("up")
    write_catalog(folder / "catalog")
    service = Service(folder)
    service.start()
    assert service.post([visit(1), visit(2), visit(3), visit(3)]).status_code == 202
    wait_until(lambda: service.value("visits") == 3, "three visits are counted")
    yield service
    if service.process is not None:
        service.stop()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_event_becomes_a_number_in_sql_and_in_metrics(service: Service) -> None:
    assert (service.value("minutes"), service.value("people")) == (30, 3)
    assert service.sql("SELECT received, counted, duplicates, quarantined FROM ledger") == [(4, 3, 1, 0)]
    metrics = httpx.get(f"{service.url}/metrics").text
    assert 'impact_visits{product="clinic",window="all"} 3.0' in metrics
    assert 'impact_ingest_events_total{outcome="accepted",product="clinic"} 4.0' in metrics
    assert 'impact_aggregator_lag_records{partition="impact.events.v1-0"} 0.0' in metrics


def test_what_is_secret_is_for_its_owner_alone_and_keys_are_hashed(service: Service) -> None:
    assert mode(service.data) == 0o700
    for name in ("keys.json", "pseudonym.key", "events.db", "metrics.db"):
        assert mode(service.data / name) == 0o600, name
    assert service.sql("SELECT scopes FROM api_key") == [("read write",)]
    secret = service.key().split("_", 2)[2].encode()  # it may have underscores of its own
    for file in service.data.glob("*.db*"):
        assert secret not in file.read_bytes(), file


def test_no_raw_subject_is_on_disk(service: Service) -> None:
    for file in service.data.glob("*.db*"):
        assert b"person-1" not in file.read_bytes(), file


def test_status_tells_the_numbers(service: Service) -> None:
    told = impact("status", "--data", "data", cwd=service.folder)
    assert told.returncode == 0, told.stderr
    assert "4 events received = 3 counted + 1 duplicates + 0 quarantined" in told.stdout
    as_json = impact("status", "--data", "data", "--json", cwd=service.folder).stdout
    assert '"metric": "minutes"' in as_json
    assert '"value": 30' in as_json


def test_doctor_finds_nothing_wrong(service: Service) -> None:
    told = impact("doctor", "--data", "data", cwd=service.folder)
    assert told.returncode == 0, told.stdout + told.stderr


def test_doctor_names_what_is_wrong_and_the_next_command(service: Service, tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    (tmp_path / "catalog" / "clinic.yaml").write_text("product: [")
    told = impact("doctor", "--data", str(service.data), cwd=tmp_path, IMPACT_CATALOGE="x")
    assert told.returncode == 1
    assert "did you mean IMPACT_CATALOG?" in told.stdout
    assert "next: impact catalog check catalog" in told.stdout


def test_send_reports_rejections_and_ends_with_1(service: Service) -> None:
    lines = "\n".join(json.dumps(one) for one in (visit(50), visit(51, minutes=-1)))
    told = impact(
        *("send", "-", "--url", service.url, "--keys-file", "data/keys.json", "--dry-run"),
        cwd=service.folder,
        stdin=lines,
    )
    assert told.returncode == 1
    assert "1 accepted, 1 rejected" in told.stdout
    assert "schema_violation" in told.stdout
    assert "/data/minutes" in told.stdout
    assert "a dry run: nothing was kept" in told.stdout
    assert service.value("visits") == 3


def test_keys_are_made_listed_used_and_revoked(service: Service) -> None:
    made = impact("keys", "create", "clinic", "--label", "north", "--data", "data", cwd=service.folder)
    key = made.stdout.strip()
    key_id = key.split("_")[1]
    assert httpx.post(
        f"{service.url}/v1/events", json=visit(1), headers={"Authorization": f"Bearer {key}"} | SINGLE
    ).is_success
    assert key not in impact("keys", "list", "--data", "data", cwd=service.folder).stdout
    assert impact("keys", "revoke", key_id, "--data", "data", cwd=service.folder).returncode == 0
    listed = impact("keys", "list", "--data", "data", cwd=service.folder).stdout
    assert "revoked" in next(line for line in listed.splitlines() if key_id in line)
    again = impact("keys", "revoke", key_id, "--data", "data", cwd=service.folder)
    assert again.returncode == 1
    assert "impact keys list" in again.stderr


def test_a_second_process_on_the_same_folder_is_refused(service: Service) -> None:
    second = impact("up", "--catalog", "catalog", "--data", "data", "--port", "0", cwd=service.folder)
    assert second.returncode == 1
    assert "in use by another process" in second.stderr
    assert service.value("visits") == 3


def test_a_taken_port_is_named_with_the_way_out(service: Service, tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    second = impact("up", "--port", str(service.port), cwd=tmp_path)
    assert second.returncode == 1
    assert f"port {service.port} on 127.0.0.1 is taken" in second.stderr
    assert "--port" in second.stderr
    assert not (tmp_path / "impact-data").exists()


def test_a_new_product_in_the_catalog_gets_its_key_and_is_counted_without_a_restart(service: Service) -> None:
    write_catalog(service.folder / "catalog", "school")
    wait_until(lambda: "school" in (service.data / "keys.json").read_text(), "a key for the school", 10)
    wait_until(
        lambda: service.post([visit(1, product="school")], "school").status_code == 202,
        "the door knows it",
        10,
    )
    wait_until(lambda: service.value("visits", "school") == 1, "the school's visit is counted")
    assert service.value("visits") == 3


def test_sigterm_ends_it_cleanly_and_a_restart_goes_on_where_it_was(service: Service) -> None:
    key = service.key()
    assert service.stop(signal.SIGTERM) == 0
    service.start()
    assert service.key() == key
    assert service.post([visit(3), visit(4, minutes=0.5)]).status_code == 202
    wait_until(lambda: service.value("visits") == 4, "the new visit is counted")
    assert service.value("minutes") == 30.5
    assert service.value("people") == 3


def test_kill_9_loses_nothing_that_was_accepted(service: Service) -> None:
    before = service.value("visits")
    assert before is not None
    assert service.post([visit(number) for number in range(100, 200)]).status_code == 202
    assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    service.start()
    wait_until(lambda: service.value("visits") == before + 100, "all accepted visits are counted")


def test_a_lost_pseudonym_key_is_not_replaced_by_a_new_one(service: Service) -> None:
    service.stop()
    key = service.data / "pseudonym.key"
    kept = key.read_text()
    key.unlink()
    refused = impact(*service.arguments, cwd=service.folder)
    assert refused.returncode == 2
    assert "pseudonym.key is gone" in refused.stderr
    other = impact(*service.arguments, cwd=service.folder, IMPACT_PSEUDONYM_KEY="another key of enough bytes")
    assert other.returncode == 2
    assert "is another key than" in other.stderr
    key.write_text(kept)
    service.start()
    assert service.value("people") == 3


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    service = Service(tmp_path)
    service.start()
    # a client that keeps its connection open does not hold up the end
    with socket.create_connection(("127.0.0.1", service.port)):
        assert service.stop(signal.SIGINT) == 0
