"""No raw subject passes the door: not into the log, the quarantine, an answer or a log line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.ingest.running import PSEUDONYMS, an_event

if TYPE_CHECKING:
    from tests.ingest.running import MemoryWriter, Service

WHO = "alice@example.com"
ALIAS = PSEUDONYMS.of("water", WHO)


async def test_the_subject_is_kept_as_its_pseudonym(service: Service, writer: MemoryWriter) -> None:
    await service.send_one()
    assert writer.events()[0]["subject"] == ALIAS


async def test_a_type_without_a_subject_drops_it(service: Service, writer: MemoryWriter) -> None:
    assert (await service.send_one(type="water.tested.v1", data={"clean": True})).status_code == 202
    assert "subject" not in writer.events()[0]


async def test_pseudonymous_paths_are_hashed_like_the_subject(service: Service, writer: MemoryWriter) -> None:
    data = {"litres": 1, "household": WHO, "contact": {"phone": "+254700"}}
    await service.send_one(data=data)
    kept = writer.events()[0]["data"]
    assert kept["household"] == ALIAS
    assert kept["contact"] == {"phone": PSEUDONYMS.of("water", "+254700")}


async def test_a_number_has_the_pseudonym_of_its_text(service: Service, writer: MemoryWriter) -> None:
    await service.send_one(data={"litres": 1, "household": 4711})
    assert writer.events()[0]["data"]["household"] == PSEUDONYMS.of("water", "4711")


async def test_an_extension_that_repeats_the_subject_is_hashed(
    service: Service, writer: MemoryWriter
) -> None:
    await service.send_one(partitionkey=WHO, feature="drip")
    (event,) = writer.events()
    assert (event["partitionkey"], event["feature"]) == (ALIAS, "drip")


async def test_properties_that_the_schema_does_not_name_are_dropped(
    service: Service, writer: MemoryWriter
) -> None:
    data = {
        "litres": 1,
        "name": "Alice",
        "place": {"region": "west", "street": "Main"},
        "people": [{"age": 3, "x": 1}],
    }
    await service.send_one(data=data)
    assert writer.events()[0]["data"] == {"litres": 1, "place": {"region": "west"}, "people": [{"age": 3}]}


async def test_keep_unknown_keeps_them(service: Service, writer: MemoryWriter) -> None:
    await service.send_one(type="water.note.v1", data={"anything": {"deep": [1, {"x": None}]}})
    assert writer.events()[0]["data"] == {"anything": {"deep": [1, {"x": None}]}}


REFUSED = {
    "schema violated": an_event(data={"litres": WHO, "household": WHO, "other": {"note": [WHO]}}),
    "unknown type": an_event(
        type="x.y", data={"user": WHO, "household": "+254700", "contact": {"phone": "+254700"}}
    ),
    "foreign source": an_event(source="/wallet/1", data={"litres": 1, "household": WHO}),
    "subject that is a number": an_event(subject=254700, data={"litres": 1}),
    "subject that is an object": an_event(subject={"name": WHO}),
    "no id": an_event(id=None, partitionkey=WHO),
    "no id, subject deep below": an_event(id=None, data={"event": {"subject": WHO, "copy": WHO}}),
    "not an event but a list of them": [an_event()],
    "wrapped event": {"event": an_event()},
    "wrong property name": an_event(data={WHO: 1}),
    "time in future": an_event(
        time="2027-01-01T00:00:00Z", data={"litres": 1, "contact": {"phone": "+254700"}}
    ),
    "too large": an_event(data={"litres": 1, "language": WHO * 10_000}),
}


@pytest.mark.parametrize("event", list(REFUSED.values()), ids=list(REFUSED))
async def test_quarantine_answers_and_logs_hold_no_raw_subject(
    service: Service, writer: MemoryWriter, event: Any
) -> None:
    with capture_logs() as lines:
        answer = await service.send([event, an_event(id="good", subject="bob")])
    assert answer.status_code == 207, answer.text
    assert len(writer.quarantined()) == 1
    seen = writer.everything() + answer.content + repr(lines).encode()
    assert WHO.encode() not in seen
    assert b"254700" not in seen


async def test_a_refused_event_keeps_what_a_replay_needs(service: Service, writer: MemoryWriter) -> None:
    event = an_event(type="water.spilt.v1", data={"litres": 1, "new": [1, None, "x"]}, feature="drip")
    await service.send([event])
    kept = writer.quarantined()[0]["event"]
    assert kept == event | {"subject": ALIAS}


async def test_a_log_line_is_written_once_for_a_request(service: Service) -> None:
    with capture_logs() as lines:
        await service.send([an_event(data={}), an_event(data={}), an_event()])
        await service.send([an_event()])
    assert [line["event"] for line in lines] == ["events_refused"]
    assert lines[0]["rejected"] == 2


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"channel": "sms", "clinic": "clinic-12"}, {"channel": "sms", "clinic": "clinic-12"}),
        ({"litres": 12.5, "kept": True, "none": None}, {"litres": 12.5, "kept": True, "none": None}),
        ({"note": "Alice was here"}, {}),
        ({"caller": "+254700123456", "number": 254700123456}, {}),
        ({"phone": "12", "first_name": "Alice", "latitude": 1.5}, {}),
        ({"Alice Otieno": 1, "subject": "x"}, {}),
        ({"deep": [{"email": "x", "code": "a"}, "two words"]}, {"deep": [{"code": "a"}, None]}),
        (
            {"household": "Otieno", "contact": {"phone": "+254"}},
            {
                "household": PSEUDONYMS.of("water", "Otieno"),
                "contact": {"phone": PSEUDONYMS.of("water", "+254")},
            },
        ),
    ],
)
async def test_of_an_unknown_type_codes_and_numbers_are_kept_and_what_may_be_personal_is_not(
    service: Service, writer: MemoryWriter, data: dict[str, Any], kept: dict[str, Any]
) -> None:
    await service.send([an_event(type="water.spilt.v1", data=data)])
    assert writer.quarantined()[0]["event"]["data"] == kept


async def test_of_a_known_type_a_refused_event_keeps_what_its_schema_names(
    service: Service, writer: MemoryWriter
) -> None:
    await service.send([an_event(data={"litres": -1, "language": "two words", "name": "Alice"})])
    assert writer.quarantined()[0]["event"]["data"] == {"litres": -1, "language": "two words"}
