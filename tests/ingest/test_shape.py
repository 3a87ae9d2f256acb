"""Which properties pass: those that the schema names, wherever JSON Schema can name them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_ingest.shape import compile_shape


def prune(schema: dict[str, Any], data: Any) -> Any:
    shape = compile_shape(schema)
    data = copy.deepcopy(data)
    return data if shape is None else shape.prune(data)


A: dict[str, Any] = {"properties": {"a": {"type": "string"}}}
B: dict[str, Any] = {"properties": {"b": {"type": "string"}}}
BOTH = {"a": "1", "b": "2", "c": "3"}
NAMED_IN = {
    "properties": ({"properties": A["properties"] | B["properties"]}, {"a", "b"}),
    "allOf": ({"allOf": [A, B]}, {"a", "b"}),
    "anyOf": (A | {"anyOf": [B]}, {"a", "b"}),
    "oneOf": ({"oneOf": [A, B]}, {"a", "b"}),
    "then": ({"if": A, "then": B}, {"a", "b"}),
    "else": ({"if": A, "else": B}, {"a", "b"}),
    "dependentSchemas": (A | {"dependentSchemas": {"a": B}}, {"a", "b"}),
    "$ref": ({"$ref": "#/$defs/x", "$defs": {"x": A}}, {"a"}),
    "$ref through a list": ({"$ref": "#/allOf/0", "allOf": [A]}, {"a"}),
    "$ref with escapes": ({"$ref": "#/$defs/x~1y%20z", "$defs": {"x/y z": A}}, {"a"}),
    "a reference elsewhere": (A | {"$ref": "https://example.com/x"}, {"a"}),
    "patternProperties": ({"patternProperties": {"^[ab]$": {}}}, {"a", "b"}),
    "additionalProperties that are described": (
        {"additionalProperties": {"type": "string"}},
        {"a", "b", "c"},
    ),
    "additionalProperties: true names nothing": (A | {"additionalProperties": True}, {"a"}),
    "a schema without properties": ({"type": "object"}, set()),
    "an empty schema": ({}, set()),
}


@pytest.mark.parametrize(("schema", "kept"), list(NAMED_IN.values()), ids=list(NAMED_IN))
def test_a_property_passes_if_a_schema_of_its_place_names_it(schema: dict[str, Any], kept: set[str]) -> None:
    assert prune(schema, BOTH) == {name: BOTH[name] for name in kept}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda schema: {"properties": {"in": schema}},
        lambda schema: {"patternProperties": {"^i": schema}},
        lambda schema: {"additionalProperties": schema},
        lambda schema: {"properties": {"in": True}, "allOf": [{"properties": {"in": schema}}]},
        lambda schema: {"properties": {"in": {"anyOf": [{"type": "null"}, schema]}}},
    ],
)
def test_what_is_below_is_pruned_too(wrap: Any) -> None:
    assert prune(wrap(A), {"in": BOTH}) == {"in": {"a": "1"}}


def test_items_are_pruned() -> None:
    for items in ({"items": A}, {"prefixItems": [A]}, {"contains": A}):
        assert prune({"properties": {"in": items}}, {"in": [BOTH, 1]}) == {"in": [{"a": "1"}, 1]}


def test_objects_below_what_no_schema_describes_are_emptied() -> None:
    schema: dict[str, Any] = {"properties": {"any": {}, "list": {"type": "array"}}}
    assert prune(schema, {"any": {"x": 1}, "list": [{"x": 1}, 2, [{"x": 1}]]}) == {
        "any": {},
        "list": [{}, 2, [{}]],
    }


def test_recursive_schemas_prune_at_every_depth() -> None:
    schema = {"properties": {"name": {"type": "string"}, "child": {"$ref": "#"}}}
    data = {"name": "a", "x": 1, "child": {"name": "b", "x": 1, "child": {"x": 1}}}
    assert prune(schema, data) == {"name": "a", "child": {"name": "b", "child": {}}}


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
DATA = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below)
)


def naming(data: Any) -> dict[str, Any]:
    """A schema that names everything in `data`."""
    if isinstance(data, dict):
        return {"properties": {name: naming(below) for name, below in data.items()}}
    if isinstance(data, list):
        return {"items": {"allOf": [naming(item) for item in data]}}
    return {}


@given(DATA)
def test_what_is_named_throughout_is_not_touched(data: Any) -> None:
    assert prune(naming(data), data) == data


@given(DATA, DATA)
def test_pruning_twice_is_pruning_once(named: Any, data: Any) -> None:
    once = prune(naming(named), data)
    assert prune(naming(named), once) == once
