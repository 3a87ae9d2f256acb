"""Commands without a running service: what they print and the exit code, 0 done, 1 no, 2 wrong use."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import jsonschema_rs
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from impact_cli.main import app
from tests.cli.service import CATALOG, write_catalog

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("IMPACT_")]:
        monkeypatch.delenv(name)


def impact(*arguments: str, **settings: str) -> Result:
    """The command in this process, which is twenty times quicker than in one of its own."""
    return CliRunner(env={"COLUMNS": "200", **settings}).invoke(app, arguments, catch_exceptions=False)


def test_a_catalog_without_faults_is_told_by_its_products(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    told = impact("catalog", "check")
    assert (told.exit_code, told.stdout) == (0, "clinic: 3 metrics, no fault\n")


def test_every_fault_is_one_line_with_its_place(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    write_catalog(tmp_path / "catalog", "school")
    for product in ("clinic", "school"):
        file = tmp_path / "catalog" / f"{product}.yaml"
        file.write_text(file.read_text().replace("aggregate: count", "aggregate: cuont"))
    told = impact("catalog", "check", "catalog")
    assert told.exit_code == 1
    lines = told.stdout.splitlines()
    line = 1 + next(number for number, one in enumerate(CATALOG.splitlines()) if "aggregate: count" in one)
    assert [one.partition(":")[0] for one in lines] == ["catalog/clinic.yaml", "catalog/school.yaml"]
    assert all(f".yaml:{line}:" in one and "metrics.visits.aggregate: " in one for one in lines), lines
    as_json = json.loads(impact("catalog", "check", "catalog", "--json").stdout)
    assert as_json["ok"] is False
    assert [fault["line"] for fault in as_json["faults"]] == [line, line]


def test_a_warning_is_told_and_is_no_fault(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    file = tmp_path / "catalog" / "clinic.yaml"
    file.write_text(file.read_text().replace("properties: {", "properties: {phone: {type: string}, "))
    told = impact("catalog", "check", "catalog")
    assert told.exit_code == 0
    warning, products = told.stdout.splitlines()
    assert warning.startswith("catalog/clinic.yaml:7:")
    assert "add data.phone to `pseudonymous`" in warning
    assert products == "clinic: 3 metrics, no fault"
    (as_json,) = json.loads(impact("catalog", "check", "catalog", "--json").stdout)["warnings"]
    assert as_json["line"] == 7


def test_the_schema_for_editors_accepts_a_catalog() -> None:
    told = impact("catalog", "check", "--schema")
    document = YAML(typ="safe").load(CATALOG.format(product="clinic"))
    assert jsonschema_rs.is_valid(json.loads(told.stdout), document)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("catalog", "check"), "IMPACT_CATALOG"),
        (("catalog", "check", "nowhere"), "no catalog at nowhere"),
        (("up",), "IMPACT_CATALOG"),
        (("ingest",), "IMPACT_CATALOG"),
        (("migrate",), "IMPACT_DATABASE_URL"),
        (("status",), "IMPACT_DATABASE_URL"),
        (("status", "--data", "nowhere"), "nowhere is no data folder"),
        (("keys", "create", "clinic"), "IMPACT_DATABASE_URL"),
        (("send", "events.ndjson"), "--key"),
        (("send", "events.ndjson", "--key", "k"), "cannot read events.ndjson"),
        (("demo", "--example", "unknown"), "there are caremessage"),
        (("no-such-command",), "No such command"),
        (("send",), "give either a file of events"),
    ],
    ids=" ".join,
)
def test_wrong_use_says_what_is_missing_and_ends_with_2(arguments: tuple[str, ...], said: str) -> None:
    told = impact(*arguments)
    assert told.exit_code == 2, told.stderr
    assert said in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("service", ["ingest", "aggregator"])
def test_a_service_does_not_start_on_a_database_whose_schema_is_behind(service: str, tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    settings = {
        "IMPACT_CATALOG": str(tmp_path / "catalog"),
        "IMPACT_DATABASE_URL": f"sqlite:///{tmp_path}/metrics.db",
        "IMPACT_EVENT_LOG": f"sqlite:///{tmp_path}/events.db",
        "IMPACT_PSEUDONYM_KEY": "the key of a test",
        "IMPACT_PORT": "0",
        "IMPACT_METRICS_PORT": "0",
    }
    told = impact(service, **settings)
    assert told.exit_code == 1
    assert "run 'impact migrate'" in told.stderr


def test_a_wrong_setting_stops_the_start_by_its_name() -> None:
    told = impact("up", IMPACT_PORT="http", IMPACT_KAFKA_PARTITIONS="0")
    assert told.exit_code == 2
    assert [line.partition(":")[0] for line in told.stderr.splitlines()] == [
        "IMPACT_PORT",
        "IMPACT_KAFKA_PARTITIONS",
    ]


def test_a_faulty_catalog_stops_the_start_with_its_faults(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    file = tmp_path / "catalog" / "clinic.yaml"
    file.write_text(file.read_text() + "surprise: yes\n")
    told = impact("up", "--port", "0")
    assert told.exit_code == 1
    assert "catalog/clinic.yaml:" in told.stderr
    assert "surprise" in told.stderr
    assert not (tmp_path / "impact-data").exists()


def test_doctor_without_settings_names_the_one_to_set() -> None:
    told = impact("doctor")
    assert told.exit_code == 1
    assert "IMPACT_DATABASE_URL" in told.stdout


def test_migrate_shows_what_it_would_do_does_it_and_may_be_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'metrics.db'}"
    shown = impact("migrate", "--print", IMPACT_DATABASE_URL=url)
    assert shown.exit_code == 0, shown.stderr
    assert "impact migrate" in shown.stdout
    for told in ("brought up to date", "up to date"):
        done = impact("migrate", IMPACT_DATABASE_URL=url)
        assert (done.exit_code, done.stdout) == (0, f"database: {told}\n"), done.stderr
    as_json = impact("migrate", "--json", IMPACT_DATABASE_URL=url)
    assert json.loads(as_json.stdout) == {"database": "up to date"}


def test_a_database_without_tables_is_sent_to_migrate(tmp_path: Path) -> None:
    told = impact("status", IMPACT_DATABASE_URL=f"sqlite:///{tmp_path / 'metrics.db'}")
    assert told.exit_code == 1
    assert "impact migrate" in told.stderr


def test_a_database_that_is_down_is_one_line_and_no_password() -> None:
    url = "postgresql://impact:hush@127.0.0.1:9/impact"
    told = impact("status", IMPACT_DATABASE_URL=url)
    assert told.exit_code == 1
    assert "IMPACT_DATABASE_URL" in told.stderr
    assert "Traceback" not in told.stderr
    assert "hush" not in told.stderr


def test_doctor_tells_of_a_flood_of_bad_events(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/metrics.db"
    assert impact("migrate", IMPACT_DATABASE_URL=url).exit_code == 0
    insert = (
        "INSERT INTO quarantine (topic, partition, offset, position, product, code, detail, received_at)"
        " VALUES ('q', ?, ?, 0, 'clinic', 'unknown_type', '', datetime('now', ?))"
    )

    def told_after(count: int, age_s: int) -> str:
        rows = [(age_s, number, f"-{age_s} seconds") for number in range(count)]
        with closing(sqlite3.connect(tmp_path / "metrics.db")) as database, database:
            database.executemany(insert, rows)
        return impact("doctor", IMPACT_DATABASE_URL=url).stdout

    assert "0 events came in the last hour" in told_after(count=2_000, age_s=4_000)
    told = told_after(count=1_001, age_s=60)
    assert "1,001 events of clinic came in the last hour" in told
    assert "next: impact quarantine list --product clinic" in told


def test_keys_of_a_database_are_made_with_scopes_and_an_end(tmp_path: Path) -> None:
    settings = {"IMPACT_DATABASE_URL": f"sqlite:///{tmp_path / 'metrics.db'}"}
    impact("migrate", **settings)
    made = json.loads(
        impact(
            *(
                "keys",
                "create",
                "clinic",
                "--scope",
                "read",
                "--scope",
                "write",
                "--expires-in-days",
                "3",
                "--json",
            ),
            **settings,
        ).stdout
    )
    [listed] = json.loads(impact("keys", "list", "--json", **settings).stdout)
    assert listed["key_id"] == made["key_id"]
    assert (listed["scopes"], listed["state"]) == (["read", "write"], "active")
    assert listed["expires_at"] > listed["created_at"]
    assert made["key"] not in json.dumps(listed)
    wrong = impact("keys", "create", "clinic", "--scope", "rule", **settings)
    assert wrong.exit_code == 2
    assert "rule" in wrong.stderr
