"""The event log on Kafka."""

from impact_eventlog.kafka.connection import KafkaSettings
from impact_eventlog.kafka.reader import KafkaReader
from impact_eventlog.kafka.topics import Topic, create_topics, describe_topics
from impact_eventlog.kafka.writer import KafkaWriter

__all__ = ["KafkaReader", "KafkaSettings", "KafkaWriter", "Topic", "create_topics", "describe_topics"]
