"""Kafka's topics: what they are, and making them.

Making topics is never left to the brokers: theirs would have one partition and forget after a week.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from impact_eventlog.kafka.connection import unavailable
from impact_eventlog.ports import LogError
from impact_schemas.wire import EVENTS_TOPIC, QUARANTINE_TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from io import BytesIO

    from impact_eventlog.kafka.connection import KafkaSettings


class Topic(NamedTuple):
    """What the brokers say about a topic."""

    topic_id: str
    partitions: int


async def describe_topics(settings: KafkaSettings, names: Iterable[str]) -> dict[str, Topic]:
    """All of `names`; makes none. Raises LogUnavailable, and LogError if one does not exist."""
    wanted = list(names)
    found = await _find_topics(settings, wanted)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise LogError(
            f"Kafka at {settings.bootstrap} has no topic {', '.join(missing)}: `impact migrate` makes it"
        )
    return found


async def create_topics(
    settings: KafkaSettings, names: Iterable[str] = (EVENTS_TOPIC, QUARANTINE_TOPIC)
) -> list[str]:
    """Makes those of `names` that do not exist, kept for ever; returns them when they can be used.

    Raises LogUnavailable, and LogError if the brokers refuse or one exists with another number of
    partitions, which decides where an event goes.
    """
    wanted = list(names)
    found = await _find_topics(settings, wanted)
    for name, topic in found.items():
        if topic.partitions != settings.partitions:
            raise LogError(
                f"{name} has {topic.partitions} partitions, the settings say {settings.partitions}"
            )
    new = [name for name in wanted if name not in found]
    if new:
        await _make_topics(settings, new)
        await _wait_for_topics(settings, new)
    return new


async def _make_topics(settings: KafkaSettings, names: Sequence[str]) -> None:
    config = {
        "retention.ms": "-1",
        "cleanup.policy": "delete",
        # by the brokers: the doors' time is dearer, and readers get a quarter of the bytes
        "compression.type": "lz4",
    }
    if settings.min_insync_replicas is not None:
        config["min.insync.replicas"] = str(settings.min_insync_replicas)
    topics = [
        NewTopic(name, settings.partitions, settings.replication_factor, topic_configs=config)
        for name in names
    ]
    admin = AIOKafkaAdminClient(**settings.client_options())
    try:
        async with asyncio.timeout(3 * settings.request_timeout_s):
            await admin.start()
            answer = await admin.create_topics(topics)
    except (KafkaError, TimeoutError, OSError) as error:
        raise unavailable(settings, error) from error
    finally:
        await admin.close()
    for name, code, message in answer.topic_errors:
        # somebody else may have made it meanwhile
        if code not in (0, TopicAlreadyExistsError.errno):
            raise LogError(f"Kafka did not make the topic {name}: {message or for_code(code).__name__}")


async def _wait_for_topics(settings: KafkaSettings, names: Sequence[str]) -> None:
    """The brokers answer that a topic is made before all of them know it."""
    try:
        async with asyncio.timeout(2 * settings.request_timeout_s):
            while len(await _find_topics(settings, names)) < len(names):  # noqa: ASYNC110 - the brokers send no event
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise unavailable(settings, error) from error


async def _find_topics(settings: KafkaSettings, names: Sequence[str]) -> dict[str, Topic]:
    client = AIOKafkaClient(**settings.client_options())
    try:
        async with asyncio.timeout(2 * settings.request_timeout_s):
            await client.bootstrap()
            answer = await client.send(client.get_random_node(), _TopicsRequest(names))
    except (KafkaError, TimeoutError, OSError) as error:
        raise unavailable(settings, error) from error
    finally:
        await client.close()
    return {
        name: Topic(str(uuid.UUID(bytes=topic_id)), len(partitions))
        for code, name, topic_id, _internal, partitions, *_ in answer.topics
        if code == 0
    }


class _Uuid:
    """16 bytes."""

    @staticmethod
    def encode(value: bytes) -> bytes:
        return value

    @staticmethod
    def decode(data: BytesIO) -> bytes:
        return data.read(16)

    repr = staticmethod(repr)


class _TopicsResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    """Metadata version 12: aiokafka's own, 5, has no topic ids."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync_replicas", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _TopicsRequestV12(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _TopicsResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicsRequest(Request[_TopicsRequestV12]):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3

    def __init__(self, names: Iterable[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_TopicsRequestV12]) -> _TopicsRequestV12:
        topics: list[tuple[bytes, str, dict[int, bytes]]] = [(bytes(16), name, {}) for name in self._names]
        return request_struct_class(topics, False, False, {})
