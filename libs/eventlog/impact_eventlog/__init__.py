"""The event log: two ports (append, read) and two adapters (Kafka, and a SQLite file)."""

from impact_eventlog.ports import (
    EventLogReader,
    EventLogWriter,
    KeyedEvent,
    LogError,
    LogHole,
    LogUnavailable,
    Partition,
    Record,
    RecordTooLarge,
)

__all__ = [
    "EventLogReader",
    "EventLogWriter",
    "KeyedEvent",
    "LogError",
    "LogHole",
    "LogUnavailable",
    "Partition",
    "Record",
    "RecordTooLarge",
]
