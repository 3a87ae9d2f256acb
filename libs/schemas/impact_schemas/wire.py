"""The log's wire format: topics, headers, records, and which partition an event goes to.

A record is a JSON array of CloudEvents (in the quarantine log of rejections), so that any Kafka consumer can
read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EVENTS_TOPIC = "impact.events.v1"
QUARANTINE_TOPIC = "impact.quarantine.v1"
PARTITIONS = 12  # of a new Kafka topic; fixed for the life of the topic

BATCH_TYPE = "application/cloudevents-batch+json"
REJECTIONS_TYPE = "application/json"

CONTENT_TYPE = "content-type"
PRODUCT = "impact-product"
RECEIVED_AT = "impact-received-at"

MAX_RECORD_BYTES = 256 * 1024

Headers = list[tuple[str, bytes]]


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of the event with this identity: all copies of an event meet in one."""
    return int.from_bytes(key[:8], "big") % partitions


def encode_record(events: Iterable[bytes]) -> bytes:
    """A record's payload from JSON objects."""
    return b"[" + b",".join(events) + b"]"


_array = msgspec.json.Decoder(list[msgspec.Raw])


def decode_record(payload: bytes) -> list[bytes]:
    """The JSON objects of a record's payload, unparsed. Raises msgspec.DecodeError."""
    return [bytes(event) for event in _array.decode(payload)]


def record_headers(content_type: str, product: str, received_at: int) -> Headers:
    """`received_at` in microseconds since 1970."""
    return [
        (CONTENT_TYPE, content_type.encode()),
        (PRODUCT, product.encode()),
        (RECEIVED_AT, b"%d" % received_at),
    ]


def product_of(headers: Sequence[tuple[str, bytes]]) -> str | None:
    """The product that `record_headers` wrote; None in a record that is not ours."""
    value = dict(headers).get(PRODUCT)
    return None if value is None else value.decode(errors="replace")


def received_at_of(headers: Sequence[tuple[str, bytes]]) -> int | None:
    """The receipt time that `record_headers` wrote; None in a record that is not ours."""
    value = dict(headers).get(RECEIVED_AT, b"")
    return int(value) if value.isdigit() else None
