"""Splitting streams into events: every format, in pieces of any size, with nothing lost or changed."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_cli.event_files import UnreadableEvents, format_of, read_events

if TYPE_CHECKING:
    from impact_cli import event_files

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
events = st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=8)


def read(text: str | bytes, form: event_files.Format) -> list[Any]:
    raw = text if isinstance(text, bytes) else text.encode()
    return [json.loads(event) for event in read_events(io.BytesIO(raw), form)]


@given(events, st.sampled_from([None, 2]), st.booleans(), st.integers(1, 40))
def test_a_json_array_gives_its_elements_whatever_its_layout(
    values: list[Any], indent: int | None, ascii_only: bool, chunk: int
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    found = list(read_events(io.BytesIO(text.encode()), "json", chunk_chars=chunk))
    assert [json.loads(event) for event in found] == values
    assert all(b"\n" not in event for event in found)


@given(events)
def test_ndjson_gives_its_lines_without_blank_ones(values: list[Any]) -> None:
    text = "\n\n".join(json.dumps(value) for value in values)
    assert read(text, "ndjson") == values


def test_json_objects_one_after_the_other_are_read_like_an_array() -> None:
    assert read('{"id": "a"}\n\n {"id":\n"b"}', "json") == [{"id": "a"}, {"id": "b"}]


def test_the_text_of_numbers_is_kept() -> None:
    stream = io.BytesIO(b'[{"data": {"kg": 0.10000000000000000001, "n": 1e400}}]')
    assert list(read_events(stream, "json")) == [b'{"data": {"kg": 0.10000000000000000001, "n": 1e400}}']


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"id": "a"}', "before its array does"),
        ('[{"id": "a"} {"id": "b"}]', "character 13: expected a comma"),
        ('[{"id": "a"}][]', "character 13: something follows"),
        ("[] x", "character 3: something follows"),
        ('[{"id": "a"},]', "character 13: no complete event"),
        ('[{"id": "a"', "character 1: no complete event"),
        ('[{"id": }]', "character 1: no complete event"),
        (b'[{"id": "\xff"}]', "not UTF-8"),
    ],
)
def test_json_that_cannot_be_split_says_where(text: str | bytes, reason: str) -> None:
    with pytest.raises(UnreadableEvents, match=reason):
        read(text, "json")


def test_a_file_without_line_breaks_is_refused_and_not_held_in_memory() -> None:
    with pytest.raises(UnreadableEvents, match="line 2 is longer"):
        list(read_events(io.BytesIO(b"{}\n" + b"x" * 1000), "ndjson", max_event=100))


def test_csv_columns_become_attributes_and_data() -> None:
    text = (
        "\ufeffid,source,type,time,subject,data.litres,data.place.code:string,data.kept,data.note\n"
        'a,/w,t.v1,2026-01-01T00:00:00Z,p1,1.50,007,true,"two\nlines"\n'
        "b,/w,t.v1,,,-2e3,,false,\n"
    )
    stream = io.BytesIO(text.encode())
    first, second = list(read_events(stream, "csv"))
    assert json.loads(first) == {
        "specversion": "1.0",
        "id": "a",
        "source": "/w",
        "type": "t.v1",
        "time": "2026-01-01T00:00:00Z",
        "subject": "p1",
        "data": {"litres": 1.5, "place": {"code": "007"}, "kept": True, "note": "two\nlines"},
    }
    assert b"1.50" in first
    assert json.loads(second) == {
        "specversion": "1.0",
        "id": "b",
        "source": "/w",
        "type": "t.v1",
        "data": {"litres": -2000, "kept": False},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,Litres\na,1\n", "column 'Litres' is neither"),
        ("id,data\na,1\n", "column 'data' is neither"),
        ("id,data.n:float\na,1\n", "the type 'float' is none of"),
        ("id,data.n\na\n", "line 2 has 1 cells, the header has 2"),
        ("id,data.a,data.a.b\nx,1,2\n", "a is a column of its own"),
        (b"id\n\xff\n", "UTF-8|utf-8"),
    ],
)
def test_csv_that_cannot_be_read_says_where(text: str | bytes, reason: str) -> None:
    with pytest.raises(UnreadableEvents, match=reason):
        read(text, "csv")


def test_a_declared_type_decides_over_the_looks_of_a_cell() -> None:
    text = "id,data.a:string,data.b:number,data.c:boolean\nx,12,not a number,TRUE\n"
    assert read(text, "csv")[0]["data"] == {"a": "12", "b": "not a number", "c": True}


@pytest.mark.parametrize(
    ("name", "head", "form"),
    [
        ("a.csv", b"{}", "csv"),
        ("a.ndjson", b"[", "ndjson"),
        ("a.jsonl", b"", "ndjson"),
        ("a.json", b" {", "json"),
        ("a.json", b"\n[", "json"),
        ("-", b"[{}]", "json"),
        ("-", b'{"id":1}', "ndjson"),
        ("-", b"id,source", "csv"),
        ("-", b"", "ndjson"),
    ],
)
def test_the_format_is_seen_by_name_or_first_bytes(name: str, head: bytes, form: str) -> None:
    assert format_of(name, head) == form
