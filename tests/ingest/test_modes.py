"""The four content modes and the encodings, as senders use them."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tests.ingest.running import PSEUDONYMS, an_event, batch_of

if TYPE_CHECKING:
    from tests.ingest.running import MemoryWriter, Service

BODY = json.dumps(batch_of(3)).encode()


def sdk_event(**changes: Any) -> CloudEvent:
    attributes = {
        "id": "sdk-1",
        "source": "/water/sdk",
        "type": "water.delivered.v1",
        "specversion": "1.0",
        "time": datetime(2026, 1, 31, 11, tzinfo=UTC),
        "subject": "Zoë 100 %",
        "feature": "drip",
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes=attributes | changes, data={"litres": 2.5, "language": "fr"})


async def test_the_official_sdk_sends_structured_and_binary_to_the_same_record(
    service: Service, writer: MemoryWriter
) -> None:
    for message in (to_structured(sdk_event(), JSONFormat()), to_binary(sdk_event(), JSONFormat())):
        headers = {name.lower(): text for name, text in message.headers.items()}
        answer = await service.send(
            message.body, headers={"Content-Type": headers.pop("content-type", "")} | headers
        )
        assert answer.status_code == 202, answer.text
    structured, binary = writer.events()
    assert datetime.fromisoformat(structured.pop("time")) == datetime.fromisoformat(binary.pop("time"))
    assert structured == binary
    assert structured["subject"] == PSEUDONYMS.of("water", "Zoë 100 %")
    assert structured["data"] == {"language": "fr", "litres": 2.5}
    assert structured["feature"] == "drip"


async def test_the_official_sdk_sends_batches(service: Service, writer: MemoryWriter) -> None:
    events = [JSONFormat().write(sdk_event(id=f"sdk-{number}")) for number in range(3)]
    answer = await service.send(b"[" + b",".join(map(_bytes, events)) + b"]")
    assert answer.json() == {"accepted": 3, "rejected": []}
    assert [event["id"] for event in writer.events()] == ["sdk-0", "sdk-1", "sdk-2"]


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


async def test_lines_may_end_in_any_way_and_blank_ones_are_skipped(
    service: Service, writer: MemoryWriter
) -> None:
    lines = [json.dumps(event).encode() for event in batch_of(3)]
    answer = await service.send(lines[0] + b"\r\n\n" + lines[1] + b"\n  \n" + lines[2], "x-ndjson")
    assert answer.json() == {"accepted": 3, "rejected": []}
    assert len(writer.events()) == 3


async def test_a_bad_line_is_named(service: Service) -> None:
    answer = await service.send(b"\n{}\n{oops\n", "x-ndjson")
    assert answer.status_code == 400
    assert "line 3" in answer.json()["detail"]


async def test_an_empty_batch_is_valid(service: Service, writer: MemoryWriter) -> None:
    answer = await service.send([])
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "rejected": []})
    assert not writer.records


def binary_headers(**changes: str | None) -> dict[str, str]:
    given = {f"ce-{name}": text for name, text in an_event(data=None).items()} | changes
    return {name: text for name, text in given.items() if text is not None}


async def test_binary_mode_needs_no_content_type(service: Service, writer: MemoryWriter) -> None:
    headers = binary_headers() | {"Content-Type": ""}
    answer = await service.send(b'{"litres": 1}', headers=headers)
    assert answer.status_code == 202, answer.text
    assert writer.events()[0]["data"] == {"litres": 1}


async def test_binary_mode_without_a_body_is_an_event_without_data(
    service: Service, writer: MemoryWriter
) -> None:
    headers = binary_headers(**{"ce-type": "water.tested.v1"})
    answer = await service.send(b"", "json", headers=headers)
    assert answer.status_code == 202, answer.text
    assert "data" not in writer.events()[0]


BAD_HEADERS = {
    "a missing id": {"ce-id": None},
    "an empty source": {"ce-source": ""},
    "another specversion": {"ce-specversion": "0.3"},
    "an attribute name that is none": {"ce-bad_name": "x"},
    "data in a header": {"ce-data": "{}"},
    "a header that is not UTF-8": {"ce-id": "%ff"},
    "NUL in a header": {"ce-id": "a%00b"},
}


@pytest.mark.parametrize("changes", list(BAD_HEADERS.values()), ids=list(BAD_HEADERS))
async def test_binary_mode_with_a_bad_header_is_a_bad_request(
    service: Service, writer: MemoryWriter, changes: dict[str, str | None]
) -> None:
    answer = await service.send(b'{"litres": 1}', "json", headers=binary_headers(**changes))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_envelope")
    assert not writer.records


async def test_a_repeated_ce_header_is_a_bad_request(service: Service) -> None:
    lines = [f"{name}: {text}" for name, text in binary_headers().items()]
    head = service.head(*lines, "ce-id: other", "Content-Length: 2", "Connection: close", kind="json")
    assert (await service.raw(head, b"{}")).startswith(b"HTTP/1.1 400 ")


WRONG_TYPES = ["", "text/plain", "application/xml", "application/x-www-form-urlencoded", "application/json"]


@pytest.mark.parametrize("media_type", WRONG_TYPES)
async def test_another_media_type_is_refused(service: Service, writer: MemoryWriter, media_type: str) -> None:
    answer = await service.send(an_event(), headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert not writer.records


async def test_media_types_take_capitals_and_a_utf_8_charset_only(service: Service) -> None:
    good = {"Content-Type": 'Application/CloudEvents+JSON; Charset="UTF-8"'}
    bad = {"Content-Type": "application/cloudevents+json; charset=utf-16"}
    assert (await service.send(an_event(), headers=good)).status_code == 202
    assert (await service.send(an_event(), headers=bad)).status_code == 415


ENCODED = {
    "gzip": gzip.compress(BODY),
    "gzip of two members": gzip.compress(BODY[:50]) + gzip.compress(BODY[50:]),
    "zstd": zstandard.compress(BODY),
    "zstd of two frames": zstandard.compress(BODY[:50]) + zstandard.compress(BODY[50:]),
    "identity": BODY,
}


@pytest.mark.parametrize("name", list(ENCODED))
async def test_encoded_bodies_are_inflated(service: Service, writer: MemoryWriter, name: str) -> None:
    answer = await service.send(ENCODED[name], headers={"Content-Encoding": name.split()[0]})
    assert answer.json() == {"accepted": 3, "rejected": []}, answer.text
    assert len(writer.events()) == 3


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x"])
async def test_another_encoding_is_refused_and_told_which_there_are(service: Service, encoding: str) -> None:
    answer = await service.send(BODY, headers={"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")
    assert answer.headers["accept-encoding"] == "identity, gzip, zstd"


DAMAGED = {
    "gzip that was cut off": ("gzip", gzip.compress(BODY)[:-4]),
    "gzip with a wrong checksum": ("gzip", gzip.compress(BODY)[:-8] + b"\0\0\0\0\0\0\0\0"),
    "gzip with text after it": ("gzip", gzip.compress(BODY) + b"more"),
    "gzip that is text": ("gzip", BODY),
    "gzip that is empty": ("gzip", b""),
    "zstd that was cut off": ("zstd", zstandard.compress(BODY)[:-4]),
    "zstd with text after it": ("zstd", zstandard.compress(BODY) + b"more"),
    "zstd that is text": ("zstd", BODY),
    "zstd that is empty": ("zstd", b""),
}


@pytest.mark.parametrize(("encoding", "wire"), list(DAMAGED.values()), ids=list(DAMAGED))
async def test_a_damaged_body_is_unreadable(
    service: Service, writer: MemoryWriter, encoding: str, wire: bytes
) -> None:
    answer = await service.send(wire, headers={"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_body")
    assert not writer.records


async def test_ndjson_that_was_cut_off_between_lines_inside_zstd_counts_nothing(
    service: Service, writer: MemoryWriter
) -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    line = json.dumps(an_event()).encode() + b"\n"
    whole_blocks = compressor.compress(line) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    answer = await service.send(whole_blocks, "x-ndjson", headers={"Content-Encoding": "zstd"})
    assert answer.status_code == 400
    assert not writer.records
