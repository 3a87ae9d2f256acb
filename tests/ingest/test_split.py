"""Properties of reading JSON exactly."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_ingest.envelope import Envelope
from impact_ingest.limits import Limits
from impact_ingest.problems import Problem
from impact_ingest.split import Mode, decode, split, split_closely

if TYPE_CHECKING:
    from collections.abc import Callable

    from impact_ingest.split import Events

KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | KEYS
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=4) | st.dictionaries(KEYS, below, max_size=4)
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
FINITE = st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**20), max_value=10**20)
EXACT = Context(prec=100)
CANONICAL = msgspec.json.Encoder(order="sorted", decimal_format="number")


@given(st.lists(OBJECTS, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_whatever_json_says_once_is_read_as_the_standard_library_reads_it(
    events: list[Any], ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps(events, ensure_ascii=ascii_only, indent=indent).encode()
    assert split(Mode.BATCHED, body, [], Limits()).decoded == events


NAMES = st.sampled_from(["id", "source", "type", "specversion", "time", "subject", "data", "traceparent"])
GOOD = {"id": "a", "source": "/s", "type": "t", "specversion": "1.0"}
NUMBERS = st.integers(-(10**22), 10**22) | st.floats(allow_nan=False, allow_infinity=False)
DEEP = st.integers(60, 70).map(lambda depth: json.loads("[" * depth + "]" * depth))


@given(
    st.lists(st.dictionaries(NAMES, VALUES | NUMBERS | DEEP | st.text(max_size=3), max_size=2), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_events_that_are_read_at_once_are_read_as_closely_and_refused_as_strictly(
    changes: list[dict[str, Any]], ascii_only: bool, plain: bool
) -> None:
    """Whatever the quick way takes, the strict way reads alike; what the strict way refuses, both do."""
    changes = [{"data": change.get("data")} if plain else change for change in changes]
    body = json.dumps([GOOD | change for change in changes], ensure_ascii=ascii_only).encode(
        errors="surrogatepass"
    )
    assert outcome(split, body) == outcome(split_closely, body)


def outcome(read: Callable[..., Events], body: bytes) -> Any:
    """The events as JSON values and their sizes, or the code of the refusal."""
    try:
        events = read(Mode.BATCHED, body, [], Limits())
    except Problem as problem:
        return problem.code
    values = [event.attributes() if type(event) is Envelope else event for event in events.decoded]
    return values, events.sizes


def test_good_events_are_read_at_once() -> None:
    body = json.dumps([GOOD | {"subject": "p", "data": {"a": [1, {"b": 2.5}]}}] * 3).encode()
    assert {type(event) for event in split(Mode.BATCHED, body, [], Limits()).decoded} == {Envelope}


@given(st.lists(OBJECTS, min_size=1, max_size=4))
def test_lines_are_read_like_an_array(events: list[Any]) -> None:
    body = "\n".join(json.dumps(event) for event in events).encode()
    assert split(Mode.LINES, body, [], Limits()).decoded == events


@given(
    st.dictionaries(KEYS | NAMES, SCALARS, min_size=1, max_size=5),
    VALUES,
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_a_key_that_comes_twice_is_always_found(
    event: dict[str, Any], again: Any, ascii_only: bool, enveloped: bool, data: st.DataObject
) -> None:
    twice = data.draw(st.sampled_from(sorted(event)))
    pairs = [*event.items(), (twice, again)]
    if enveloped:
        pairs = [*GOOD.items(), *pairs]
    members = (json.dumps(key, ensure_ascii=ascii_only) + ":" + json.dumps(value) for key, value in pairs)
    body = "{" + ",".join(members) + "}"
    with pytest.raises(Problem, match="same key twice"):
        split(Mode.STRUCTURED, body.encode(), [], Limits())


@given(FINITE, st.integers(-20, 20))
def test_a_number_keeps_its_value_and_has_one_form(number: Decimal, shift: int) -> None:
    shifted = f"{number.scaleb(-shift, EXACT):f}e{shift}"
    plain, other = (decode(text.encode(), "here") for text in (format(number, "f"), shifted))
    assert Decimal(str(plain)) == number
    assert CANONICAL.encode(plain) == CANONICAL.encode(other)
    assert decode(CANONICAL.encode(plain), "here") == plain


@given(st.binary(max_size=60), st.sampled_from([Mode.STRUCTURED, Mode.BATCHED, Mode.LINES]))
def test_any_bytes_are_read_or_refused(body: bytes, mode: Mode) -> None:
    with suppress(Problem):
        split(mode, body, [], Limits())
