"""Opens the event log that IMPACT_EVENT_LOG names: an embedded file, or Kafka."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from impact_eventlog.embedded import EmbeddedReader, EmbeddedWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import SecretStr

    from impact_cli.settings import Settings
    from impact_eventlog import kafka
    from impact_eventlog.ports import EventLogReader, EventLogWriter


def open_writer(settings: Settings, *, takes_guests: bool = False, is_guest: bool = False) -> EventLogWriter:
    """Not started yet. For an embedded log: whether it lets a command append beside it, or is one."""
    bootstrap = settings.kafka_bootstrap()
    if bootstrap is None:
        return EmbeddedWriter(settings.event_log_file(), takes_guests=takes_guests, is_guest=is_guest)
    from impact_eventlog.kafka import KafkaWriter

    return KafkaWriter(kafka_settings(settings, bootstrap), topics_of(settings))


@asynccontextmanager
async def writing(
    settings: Settings, *, takes_guests: bool = False, is_guest: bool = False
) -> AsyncIterator[EventLogWriter]:
    """A writer that is started, and stopped in the end. Raises LogError."""
    writer = open_writer(settings, takes_guests=takes_guests, is_guest=is_guest)
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


def open_reader(
    settings: Settings, *, group: str | None, beside: EventLogWriter | None = None
) -> EventLogReader:
    """Not started yet. On Kafka a member of `group`, or a reader of everything without one.

    An embedded reader `beside` the writer of this process sees an append at once.
    """
    bootstrap = settings.kafka_bootstrap()
    if bootstrap is None:
        writer = beside if isinstance(beside, EmbeddedWriter) else None
        return EmbeddedReader(settings.event_log_file(), topics_of(settings), writer=writer)
    from impact_eventlog.kafka import KafkaReader

    return KafkaReader(kafka_settings(settings, bootstrap), topics_of(settings), group=group)


def topics_of(settings: Settings) -> tuple[str, str]:
    """Events and quarantine."""
    return settings.kafka_topic, settings.kafka_quarantine_topic


def kafka_settings(settings: Settings, bootstrap: str) -> kafka.KafkaSettings:
    """What the Kafka adapter needs of the settings."""
    from impact_eventlog.kafka import KafkaSettings

    replicas = settings.kafka_replication_factor
    return KafkaSettings(
        bootstrap=bootstrap,
        partitions=settings.kafka_partitions,
        replication_factor=replicas,
        # acks=all means all replicas in sync: with a floor of one that could be a single copy
        min_insync_replicas=replicas - 1 if replicas > 1 else None,
        quarantine_topic=settings.kafka_quarantine_topic,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_username=settings.kafka_sasl_username,
        sasl_password=_revealed(settings.kafka_sasl_password),
        ssl_cafile=settings.kafka_ssl_cafile,
        ssl_certfile=settings.kafka_ssl_certfile,
        ssl_keyfile=settings.kafka_ssl_keyfile,
        ssl_password=_revealed(settings.kafka_ssl_password),
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def end_offsets(settings: Settings) -> dict[tuple[str, int], int]:
    """(topic, partition) -> the offset that its next record will get. Raises LogError."""
    reader = open_reader(settings, group=None)
    try:
        await reader.start()
        ends = await reader.end_offsets(reader.assignment().keys())
    finally:
        await reader.stop()
    return {(topic, index): end for (topic, index), end in ends.items()}
