"""Which answer a request gets, and what is then in the two logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from impact_eventlog.ports import RecordTooLarge
from impact_ingest.limits import Limits
from impact_schemas.catalog import parse_catalogs
from impact_schemas.wire import EVENTS_TOPIC, QUARANTINE_TOPIC
from tests.ingest.running import CATALOGS, IDENTITIES, an_event, batch_of, running

if TYPE_CHECKING:
    from tests.ingest.running import MemoryWriter, Service

BAD = an_event(id="bad", data={"litres": -1})
FOREIGN = an_event(id="foreign", source="/wallet/1")
OTHER_TYPE = an_event(id="other", type="wallet.opened.v1")


async def test_accepted_events_are_in_the_log_in_canonical_form_under_their_identity(
    service: Service, writer: MemoryWriter
) -> None:
    event = an_event(data={"language": "es", "litres": 1.50}, subject="x", traceparent="00-ab")
    body = json.dumps(event).replace("1.5", "150.0e-2").encode()
    assert (await service.send(body, "cloudevents+json")).status_code == 202
    ((product, kept),) = writer.records[EVENTS_TOPIC]
    assert product == "water"
    assert kept.key == IDENTITIES.of("water", event["source"], event["id"])
    assert b'{"data":{"language":"es","litres":1.5},"id":"e-1",' in kept.event
    assert json.loads(kept.event)["traceparent"] == "00-ab"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1.0", b"1"),
        ("1e2", b"100"),
        ("-0.0", b"0"),
        ("0e-9", b"0"),
        ("1.10", b"1.1"),
        ("12345678901234.123456789012345678", b"12345678901234.123456789012345678"),
        ("1e-7", b"1E-7"),
        ("9007199254740993.0", b"9007199254740993"),
        ("9223372036854775807", b"9223372036854775807"),
        ("1e30", b"1E+30"),
    ],
)
async def test_equal_numbers_are_kept_in_one_way_and_never_rounded(
    service: Service, writer: MemoryWriter, written: str, kept: bytes
) -> None:
    event = an_event(type="water.tested.v1", data={"share": 0})
    body = json.dumps(event).replace('"share": 0', f'"share": {written}').encode()
    assert (await service.send(body, "cloudevents+json")).status_code == 202
    assert b'{"share":%b}' % kept in writer.everything()


async def test_a_batch_with_a_bad_event_is_207_and_the_bad_one_is_in_quarantine(
    service: Service, writer: MemoryWriter
) -> None:
    answer = await service.send([*batch_of(2), BAD])
    assert answer.status_code == 207
    assert answer.json() == {
        "accepted": 2,
        "rejected": [
            {
                "index": 2,
                "id": "bad",
                "code": "schema_violation",
                "detail": "the value is less than the minimum of 0",
                "pointer": "/data/litres",
                "retryable": False,
            }
        ],
    }
    (quarantined,) = writer.quarantined()
    assert quarantined["event"]["id"] == "bad"
    assert quarantined["event"]["data"] == {"litres": -1}
    assert service.metric("impact_ingest_events_total", product="water", outcome="accepted") == 2
    assert service.metric("impact_ingest_events_total", product="water", outcome="schema_violation") == 1


async def test_a_batch_of_bad_events_is_422_with_all_verdicts(service: Service, writer: MemoryWriter) -> None:
    answer = await service.send([BAD, FOREIGN, 7])
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["accepted"]) == (422, "schema_violation", 0)
    codes = ["schema_violation", "source_not_allowed", "invalid_envelope"]
    assert [one["code"] for one in problem["rejected"]] == codes
    assert [one["code"] for one in writer.quarantined()] == codes


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([FOREIGN], "source_not_allowed"),
        ([OTHER_TYPE], "unknown_type"),
        ([FOREIGN, OTHER_TYPE], "source_not_allowed"),
    ],
)
async def test_events_that_are_all_another_products_are_403_and_not_kept(
    service: Service, writer: MemoryWriter, events: list[dict[str, object]], code: str
) -> None:
    answer = await service.send(events)
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert not writer.records


async def test_a_foreign_event_among_good_ones_is_a_verdict(service: Service, writer: MemoryWriter) -> None:
    answer = await service.send([FOREIGN, an_event()])
    assert (answer.status_code, answer.json()["rejected"][0]["code"]) == (207, "source_not_allowed")
    assert len(writer.quarantined()) == 1


async def test_the_product_comes_from_the_key(service: Service, writer: MemoryWriter) -> None:
    service.key = service.keys.make("wallet")
    event = an_event(source="/wallet/1", type="wallet.opened.v1", data={"county": "Kisumu"})
    assert (await service.send([event])).status_code == 202
    assert writer.records[EVENTS_TOPIC][0][0] == "wallet"


async def test_a_key_of_a_product_without_a_catalog_may_write_nothing(service: Service) -> None:
    service.key = service.keys.make("ghost")
    answer = await service.send([an_event()])
    assert (answer.status_code, answer.json()["code"]) == (403, "unknown_product")


@pytest.mark.parametrize("glob_match", ["/water/", "/water/a/b", "urn:water"])
async def test_stars_in_sources_match_any_characters(service: Service, glob_match: str) -> None:
    assert (await service.send_one(source=glob_match)).status_code == 202


@pytest.mark.parametrize("other", ["/water", "x/water/1", "urn:water2", "/water2/1"])
async def test_sources_match_whole(service: Service, other: str) -> None:
    assert (await service.send_one(source=other)).status_code == 403


async def test_atomic_takes_all_or_none(service: Service, writer: MemoryWriter) -> None:
    answer = await service.send([an_event(), BAD], params={"atomic": "true"})
    assert (answer.status_code, answer.json()["accepted"]) == (422, 0)
    assert [one["index"] for one in answer.json()["rejected"]] == [1]
    assert EVENTS_TOPIC not in writer.records
    assert len(writer.quarantined()) == 1
    assert (await service.send(batch_of(2), params={"atomic": "true"})).status_code == 202


async def test_dry_run_answers_with_verdicts_and_keeps_nothing(
    service: Service, writer: MemoryWriter
) -> None:
    answer = await service.send([an_event(), BAD, FOREIGN], params={"dry_run": "true"})
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert [one["index"] for one in answer.json()["rejected"]] == [1, 2]
    assert (await service.send([BAD], params={"dry_run": "true"})).status_code == 200
    assert not writer.records
    assert service.metric("impact_ingest_events_total", product="water", outcome="accepted") == 0


@pytest.mark.parametrize("query", ["dry_run=1", "atomic=yes", "dry_run=", "dry_run=true&dry_run=false"])
async def test_an_option_is_true_or_false(service: Service, writer: MemoryWriter, query: str) -> None:
    answer = await service.send([an_event()], params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")
    assert not writer.records


@pytest.mark.parametrize("topic", [EVENTS_TOPIC, QUARANTINE_TOPIC])
async def test_a_log_that_takes_no_writes_is_503(service: Service, writer: MemoryWriter, topic: str) -> None:
    writer.failing.add(topic)
    answer = await service.send([an_event(), BAD])
    assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "broker" not in answer.text
    assert service.metric("impact_ingest_events_total", product="water", outcome="unavailable") == 2
    assert service.metric("impact_ingest_events_total", product="water", outcome="accepted") == 0


async def test_an_event_that_no_record_holds_is_413(service: Service, writer: MemoryWriter) -> None:
    writer.errors[EVENTS_TOPIC] = RecordTooLarge("no")
    answer = await service.send([an_event()])
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_other_methods_are_405_even_without_a_key(service: Service, method: str) -> None:
    answer = await service.client.request(method, "/v1/events")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_checks_come_in_the_order_of_the_contract(writer: MemoryWriter) -> None:
    async with running(writer, limits=Limits(drain_s=0.05)) as service:
        await _check_order(service)


async def _check_order(service: Service) -> None:
    method = await service.raw(b"PUT /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    assert method.startswith(b"HTTP/1.1 405")
    no_key = await service.raw(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 99999999\r\n\r\n"
    )
    assert no_key.startswith(b"HTTP/1.1 401")
    large = await service.raw(service.head("Content-Length: 99999999", kind="xml"))
    assert large.startswith(b"HTTP/1.1 413")
    kind = await service.send(b"{oops", "xml")
    assert kind.status_code == 415


async def test_identical_copies_in_one_request_are_accepted(service: Service, writer: MemoryWriter) -> None:
    answer = await service.send([an_event(), an_event()])
    assert answer.json() == {"accepted": 2, "rejected": []}
    first, second = writer.records[EVENTS_TOPIC]
    assert first == second


async def test_a_changed_catalog_holds_from_the_next_request_on(service: Service) -> None:
    assert (await service.send_one(type="water.spilt.v1")).status_code == 422
    changed = CATALOGS["water.yaml"].replace("water.tested.v1", "water.spilt.v1")
    service.rules.use(parse_catalogs(CATALOGS | {"water.yaml": changed}))
    assert (await service.send_one(type="water.spilt.v1")).status_code == 202
    assert (await service.send_one(type="water.tested.v1")).status_code == 422


async def test_unknown_paths_are_problems_too(service: Service) -> None:
    answer = await service.client.get("/v2/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_bug_is_a_problem_without_a_trace(
    service: Service, writer: MemoryWriter, caplog: pytest.LogCaptureFixture
) -> None:
    writer.errors[EVENTS_TOPIC] = ZeroDivisionError("secret detail")
    answer = await service.send([an_event()])
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text
