"""The corpus of bad input (tests/corpus): each case gets its answer, and nothing stays where it must not."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ingest.running import an_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.running import MemoryWriter, Service

CORPUS = Path(__file__).parents[1] / "corpus"
KINDS = {
    "structured": "cloudevents+json",
    "batched": "cloudevents-batch+json",
    "lines": "x-ndjson",
    "data": "json",
}
WRAPPED = {"structured": b"%b", "batched": b"[%b]", "lines": b"%b\n", "data": b"%b"}
CE_HEADERS = {f"ce-{name}": text for name, text in an_event(data=None).items()}


def cases(file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((CORPUS / file).read_text())["case"]
    return found


def repeated(prefix: str, unit: str, times: int, suffix: str) -> str:
    return prefix + unit * times + suffix


def nested(opening: str, core: str, closing: str, times: int) -> str:
    return opening * times + core + closing * times


def body_of(case: dict[str, Any], mode: str) -> bytes:
    data: str
    match case:
        case {"body": text}:
            return str(text).encode()
        case {"hex": digits}:
            return bytes.fromhex(digits)
        case {"repeat": parts}:
            return repeated(*parts).encode()
        case {"repeat_pair": [opening, core, closing, times]}:
            return nested(opening, core, closing, times).encode()
        case {"event_data": text}:
            data = str(text)
        case {"event_data_repeat": parts}:
            data = repeated(*parts)
        case {"event_data_pair": [opening, core, closing, times]}:
            data = nested(opening, core, closing, times)
        case _:
            raise ValueError(f"case {case['name']!r} has no body")
    if mode == "data":
        return data.encode()
    event: str = json.dumps(an_event(data="HERE"), separators=(",", ":")).replace('"HERE"', data)
    return WRAPPED[mode] % event.encode()


def unreadable() -> Iterator[Any]:
    for case in cases("bodies.toml"):
        for mode in case["modes"]:
            yield pytest.param(case, mode, id=f"{case['name']}, {mode}")


@pytest.mark.parametrize(("case", "mode"), list(unreadable()))
async def test_a_body_that_cannot_be_trusted_is_refused_whole(
    service: Service, writer: MemoryWriter, case: dict[str, Any], mode: str
) -> None:
    headers = CE_HEADERS if mode == "data" else {}
    answer = await service.send(body_of(case, mode), KINDS[mode], headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unreadable_body"
    assert not writer.records


def changed(case: dict[str, Any]) -> dict[str, Any]:
    return an_event(**{name: None if value == "-" else value for name, value in case["change"].items()})


REFUSED = [pytest.param(case, id=case["name"]) for case in cases("events.toml")]


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_single_event_is_refused_with_its_code(
    service: Service, writer: MemoryWriter, case: dict[str, Any]
) -> None:
    answer = await service.send(changed(case), "cloudevents+json")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (case["status"], case["code"]), answer.text
    assert not writer.events()
    if case["status"] == 400:
        assert problem.get("pointer") == case.get("pointer")
        assert not writer.records
    else:
        assert problem["accepted"] == 0
        assert [(one["code"], one["pointer"]) for one in problem["rejected"]] == [
            (case["code"], case["pointer"])
        ]
        assert [(one["code"], one["pointer"]) for one in writer.quarantined()] == [
            (case["code"], case["pointer"])
        ]


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_event_of_a_batch_gets_a_verdict_and_the_others_count(
    service: Service, writer: MemoryWriter, case: dict[str, Any]
) -> None:
    answer = await service.send([an_event(id="before"), changed(case), an_event(id="after")])
    assert answer.status_code == 207, answer.text
    (rejected,) = answer.json()["rejected"]
    assert (rejected["index"], rejected["code"], rejected["pointer"]) == (
        1,
        case["code"],
        case.get("pointer"),
    )
    assert rejected["retryable"] is False
    assert [event["id"] for event in writer.events()] == ["before", "after"]
    assert [one["code"] for one in writer.quarantined()] == [case["code"]]


@pytest.mark.parametrize("element", [1, "text", None, True, [], [[{"subject": "alice@example.com"}]], {}])
async def test_json_that_is_no_event_is_a_verdict_in_a_batch(
    service: Service, writer: MemoryWriter, element: Any
) -> None:
    answer = await service.send([element, an_event()])
    assert answer.status_code == 207
    assert answer.json()["rejected"][0] | {"detail": ""} == {
        "index": 0,
        "id": None,
        "code": "invalid_envelope",
        "detail": "",
        "pointer": "/id" if element == {} else None,
        "retryable": False,
    }
    assert b"alice" not in writer.everything()


ATTACKS = [
    "'; DROP TABLE metric; --",
    "=cmd|'/C calc'!A0",
    "<script>alert(1)</script>",
    "line\nlevel=error forged",
    'a"} 1\nimpact_fake 2',
    "\x1b[31mred\x1b[0m",
    "\u202etxt.exe",
    "${jndi:ldap://x}",
    "日本語 😀",
]


@pytest.mark.parametrize("text", ATTACKS)
async def test_text_that_attacks_the_next_reader_is_kept_as_it_is(
    service: Service, writer: MemoryWriter, text: str
) -> None:
    answer = await service.send([an_event(data={"litres": 1, "language": text}, feature=text)])
    assert answer.status_code == 202
    (event,) = writer.events()
    assert (event["data"]["language"], event["feature"]) == (text, text)


async def test_escaped_backslashes_and_long_digits_in_text_are_no_reason_to_refuse(service: Service) -> None:
    data = {"litres": 1, "language": "\\u0000 \\u003a 12345678901234567890123"}
    assert (await service.send_one(data=data)).status_code == 202
