"""Settings: read from the environment, and refused by the name of the variable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from impact_cli.settings import Settings, SettingsError, load, load_limits, misspelt


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_set_gives_the_defaults_of_the_contract() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.metrics_port) == ("127.0.0.1", 8080, 9100)
    assert settings.event_log == "sqlite:///events.db"
    assert (settings.kafka_topic, settings.kafka_partitions) == ("impact.events.v1", 12)


def test_every_wrong_variable_is_named_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPACT_PORT", "http")
    monkeypatch.setenv("IMPACT_LOG_LEVEL", "loud")
    monkeypatch.setenv("IMPACT_EVENT_LOG", "redis://me:hush@host")
    with pytest.raises(SettingsError) as refused:
        load()
    lines = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "IMPACT_EVENT_LOG",
        "IMPACT_PORT",
        "IMPACT_LOG_LEVEL",
    ]
    assert "hush" not in str(refused.value)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPACT_PORT", "")
    assert load().port == 8080


def test_what_is_missing_is_named() -> None:
    settings = load()
    with pytest.raises(SettingsError, match="IMPACT_DATABASE_URL"):
        settings.required_database_url()
    with pytest.raises(SettingsError, match="IMPACT_CATALOG"):
        settings.catalog_path()
    with pytest.raises(SettingsError, match="IMPACT_PSEUDONYM_KEY"):
        settings.master_key()


def test_a_process_of_production_names_all_that_it_was_not_given(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()  # not even a folder of that name is taken for what was meant
    with pytest.raises(SettingsError, match=r"^IMPACT_CATALOG .*\nIMPACT_EVENT_LOG ") as told:
        Settings().for_production()
    assert len(str(told.value).splitlines()) == 2
    given = Settings(catalog=tmp_path, event_log="sqlite:///events.db")
    assert given.for_production() is given


def test_a_catalog_that_is_not_there_is_named_by_its_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="IMPACT_CATALOG"):
        Settings(catalog=tmp_path / "nothing").catalog_path()


def test_the_catalog_is_the_folder_of_that_name_if_none_is_set(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    assert load().catalog_path() == Path("catalog")


def test_a_pseudonym_key_from_a_file_is_the_same_as_from_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sixteen bytes or more\n")
    monkeypatch.setenv("IMPACT_PSEUDONYM_KEY_FILE", str(tmp_path / "key"))
    from_file = load().master_key()
    monkeypatch.setenv("IMPACT_PSEUDONYM_KEY", "sixteen bytes or more")
    assert load().master_key() == from_file == b"sixteen bytes or more"


def test_a_short_or_missing_pseudonym_key_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IMPACT_PSEUDONYM_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="IMPACT_PSEUDONYM_KEY_FILE"):
        load().master_key()
    monkeypatch.setenv("IMPACT_PSEUDONYM_KEY", "short")
    with pytest.raises(SettingsError, match="IMPACT_PSEUDONYM_KEY: has 5 bytes"):
        load().master_key()


def test_a_data_folder_says_where_everything_is(tmp_path: Path) -> None:
    settings = Settings().for_folder(tmp_path)
    assert settings.event_log_file() == tmp_path / "events.db"
    assert settings.required_database_url() == f"sqlite:///{tmp_path}/metrics.db"
    assert settings.pseudonym_key_file == tmp_path / "pseudonym.key"


@dataclass(frozen=True)
class Limits:
    max_events: int = 10
    drain_s: float = 1.0


def test_limits_are_variables_of_their_own_names() -> None:
    assert load_limits(Limits, {}) == Limits()
    assert load_limits(Limits, {"IMPACT_MAX_EVENTS": "7", "IMPACT_DRAIN_S": "0.5"}) == Limits(7, 0.5)
    with pytest.raises(SettingsError, match="IMPACT_MAX_EVENTS"):
        load_limits(Limits, {"IMPACT_MAX_EVENTS": "many"})


def test_a_misspelt_variable_is_told_with_the_one_that_was_meant() -> None:
    environment = {"IMPACT_CATALOGUE": "x", "IMPACT_MAX_EVENTS": "1", "IMPACT_TEST_X": "1", "PATH": "/"}
    assert misspelt(("max_events",), environment) == [
        "IMPACT_CATALOGUE is not a setting: did you mean IMPACT_CATALOG?"
    ]
