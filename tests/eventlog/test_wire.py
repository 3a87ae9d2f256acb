"""The wire format, which other Kafka consumers rely on."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_schemas.wire import (
    BATCH_TYPE,
    decode_record,
    encode_record,
    partition_of,
    product_of,
    received_at_of,
    record_headers,
)

json_objects = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)


@given(st.lists(json_objects.map(msgspec.json.encode), max_size=5))
def test_a_record_gives_back_its_events_byte_for_byte(events: list[bytes]) -> None:
    payload = encode_record(events)
    assert decode_record(payload) == events
    assert msgspec.json.decode(payload) == [msgspec.json.decode(event) for event in events]


@pytest.mark.parametrize("payload", [b"", b"not ours", b"{}", b"[{]", b"\xff"])
def test_a_foreign_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_record(payload)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1), st.integers(0, 2**53))
def test_headers_carry_product_and_receipt_time(product: str, received_at: int) -> None:
    headers = record_headers(BATCH_TYPE, product, received_at)
    assert (product_of(headers), received_at_of(headers)) == (product, received_at)


@pytest.mark.parametrize("value", [b"", b"-5", b"soon", b"1.5"])
def test_a_receipt_time_that_is_no_number_is_none(value: bytes) -> None:
    assert received_at_of([("impact-received-at", value)]) is None


def test_records_without_our_headers_have_neither() -> None:
    assert product_of([]) is None
    assert received_at_of([]) is None


def test_the_partition_of_a_key_never_changes() -> None:
    # a change here sends copies of old events to other partitions: counted twice
    assert [partition_of(bytes(range(n, n + 16)), 12) for n in range(6)] == [7, 0, 5, 10, 3, 8]
    assert partition_of(b"\0" * 7 + b"\x0d" + b"ignored", 12) == 1
