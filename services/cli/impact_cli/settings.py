"""The settings: environment variables that begin with IMPACT_, read once at the start of a process."""

from __future__ import annotations

import difflib
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from impact_schemas.identity import MIN_MASTER_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

PREFIX = "IMPACT_"
NOT_OURS = ("IMPACT_TEST_", "IMPACT_REQUIRE_")  # the test suite's own

EVENTS_DB = "events.db"
METRICS_DB = "metrics.db"
KEYS_FILE = "keys.json"
CATALOG_FOLDER = "catalog"  # where the demo puts the catalogs that it plays
PSEUDONYM_KEY_FILE = "pseudonym.key"
PSEUDONYM_CHECK_FILE = "pseudonym.check"  # tells the key from another, and nothing about it

Port = Annotated[int, Field(ge=0, le=65535)]  # 0: any free port


class SettingsError(Exception):
    """A setting is wrong or missing; every line names its variable."""


class Settings(BaseSettings):
    """Each field is the variable IMPACT_<FIELD>; an empty variable counts as not set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    catalog: Path | None = None
    event_log: Annotated[str, Field(pattern=r"^(sqlite:///.+|kafka://[^/]+)$")] = f"sqlite:///{EVENTS_DB}"
    database_url: Annotated[str | None, Field(pattern=r"^(sqlite|postgresql)(\+\w+)?://")] = None
    pseudonym_key: SecretStr | None = None
    pseudonym_key_file: Path | None = None
    host: str = "127.0.0.1"
    port: Port = 8080
    metrics_port: Port = 9100
    metrics_token: SecretStr | None = None
    ingest_url: Annotated[str | None, Field(pattern=r"^https?://[^/\s]+")] = None
    session_key: Annotated[SecretStr, Field(min_length=32)] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    kafka_topic: str = "impact.events.v1"
    kafka_quarantine_topic: str = "impact.quarantine.v1"
    kafka_group: str = "impact-aggregator"
    kafka_partitions: Annotated[int, Field(ge=1, le=10_000)] = 12
    kafka_replication_factor: Annotated[int, Field(ge=1)] = 1
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_ssl_password: SecretStr | None = None

    def for_folder(self, folder: Path) -> Settings:
        """The same settings with log, database and, if none is set, pseudonym key in `folder`."""
        key_is_set = self.pseudonym_key or self.pseudonym_key_file
        return self.model_copy(
            update={
                "event_log": f"sqlite:///{(folder / EVENTS_DB).absolute()}",
                "database_url": f"sqlite:///{(folder / METRICS_DB).absolute()}",
                **({} if key_is_set else {"pseudonym_key_file": folder / PSEUDONYM_KEY_FILE}),
            }
        )

    def for_production(self) -> Settings:
        """The same, if log and catalog are given: what is kept where nobody meant it is as good as lost.

        Raises SettingsError.
        """
        lacking = {
            "catalog": "IMPACT_CATALOG is not set: give the folder of the catalog files",
            "event_log": "IMPACT_EVENT_LOG is not set: give the event log, such as kafka://localhost:9092",
        }
        lines = [line for field, line in lacking.items() if field not in self.model_fields_set]
        if lines:
            raise SettingsError("\n".join(lines))
        return self

    def required_database_url(self) -> str:
        """Raises SettingsError without one."""
        if self.database_url is None:
            raise SettingsError(
                "IMPACT_DATABASE_URL is not set: give the metrics database, such as "
                "postgresql://impact@localhost/impact, or --data with the folder of 'impact up'"
            )
        return self.database_url

    def catalog_path(self) -> Path:
        """IMPACT_CATALOG, else ./catalog if there is one. Raises SettingsError."""
        if self.catalog is not None:
            if not self.catalog.exists():
                raise SettingsError(
                    f"IMPACT_CATALOG (or --catalog): there is no catalog at {self.catalog}: "
                    "give a folder of YAML files, or one file"
                )
            return self.catalog
        if Path("catalog").is_dir():
            return Path("catalog")
        raise SettingsError(
            "IMPACT_CATALOG is not set and there is no folder ./catalog: "
            "give the folder of the catalog files, here or with --catalog"
        )

    def kafka_bootstrap(self) -> str | None:
        """The brokers of a kafka:// event log, else None."""
        scheme, _, rest = self.event_log.partition("://")
        return rest if scheme == "kafka" else None

    def event_log_file(self) -> Path:
        """The file of an embedded event log."""
        return Path(self.event_log.removeprefix("sqlite:///"))

    def master_key(self) -> bytes:
        """The key that pseudonyms and identities are derived from. Raises SettingsError."""
        if self.pseudonym_key is not None:
            return _checked_key(self.pseudonym_key.get_secret_value(), "IMPACT_PSEUDONYM_KEY")
        if self.pseudonym_key_file is None:
            raise SettingsError(
                "IMPACT_PSEUDONYM_KEY or IMPACT_PSEUDONYM_KEY_FILE is not set: every process needs the same "
                f"secret of at least {MIN_MASTER_KEY_BYTES} bytes; openssl rand -base64 32 makes one"
            )
        return _read_key(self.pseudonym_key_file)


def _read_key(file: Path) -> bytes:
    """A key from its file. Raises SettingsError."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"IMPACT_PSEUDONYM_KEY_FILE: {file}: {error}") from error
    return _checked_key(text, f"IMPACT_PSEUDONYM_KEY_FILE: {file}")


def _checked_key(text: str, where: str) -> bytes:
    key = text.strip().encode()
    if len(key) < MIN_MASTER_KEY_BYTES:
        raise SettingsError(f"{where}: has {len(key)} bytes, at least {MIN_MASTER_KEY_BYTES} are needed")
    return key


def load() -> Settings:
    """Reads the environment. Raises SettingsError with every wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_reasons(error)) from error


Limits = TypeVar("Limits", bound="DataclassInstance")


def load_limits(kind: type[Limits], environment: Mapping[str, str] = os.environ) -> Limits:
    """A dataclass of limits whose fields are the variables IMPACT_<FIELD>. Raises SettingsError."""
    names = {field.name: PREFIX + field.name.upper() for field in fields(kind)}
    values: dict[str, Any] = {
        name: environment[variable] for name, variable in names.items() if environment.get(variable)
    }
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise SettingsError(_reasons(error)) from error


def misspelt(known_limits: tuple[str, ...], environment: Mapping[str, str] = os.environ) -> list[str]:
    """A line for every variable IMPACT_... that nothing reads: most likely a typing error."""
    known = {PREFIX + name.upper() for name in (*Settings.model_fields, *known_limits)} | {"IMPACT_KEY"}
    lines = []
    for variable in sorted(environment):
        if variable.startswith(PREFIX) and variable not in known and not variable.startswith(NOT_OURS):
            close = difflib.get_close_matches(variable, known, 1)
            lines.append(f"{variable} is not a setting" + (f": did you mean {close[0]}?" if close else ""))
    return lines


def _reasons(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        name = PREFIX + ".".join(str(step) for step in fault["loc"]).upper()
        # the value may be a secret: only what is wrong with it is said
        lines.append(f"{name}: {fault['msg']}")
    return "\n".join(lines)
