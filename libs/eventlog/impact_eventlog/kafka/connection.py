"""Where Kafka is and how to reach it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from impact_eventlog.ports import LogUnavailable
from impact_schemas.wire import PARTITIONS, QUARANTINE_TOPIC

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where Kafka is, how to connect, and how topics are made."""

    bootstrap: str  # host:port, several with commas
    partitions: int = PARTITIONS
    replication_factor: int = 1
    min_insync_replicas: int | None = None  # None: the brokers' setting
    quarantine_topic: str = QUARANTINE_TOPIC
    security_protocol: str = "PLAINTEXT"  # or SSL, SASL_PLAINTEXT, SASL_SSL
    sasl_mechanism: str | None = None  # PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: str | None = field(default=None, repr=False)
    request_timeout_s: float = 10.0

    def client_options(self) -> dict[str, Any]:
        """Arguments that aiokafka's clients share. Reads the TLS files: raises OSError, ssl.SSLError."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "request_timeout_ms": round(self.request_timeout_s * 1000),
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism or "PLAIN"
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ssl_cafile)
        if self.ssl_certfile is not None:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, self.ssl_password)
        return context


def unavailable(settings: KafkaSettings, error: BaseException) -> LogUnavailable:
    """The port's error for what aiokafka or the network raised."""
    return LogUnavailable(f"Kafka at {settings.bootstrap} does not do it now: {error!r}")
