"""Which properties of an event's data its schema names: the others are dropped before the log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ALSO_HERE = ("allOf", "anyOf", "oneOf")
_PERHAPS_HERE = ("if", "then", "else")
_CONTAINERS = {"object", "array"}
_ANYTHING: dict[str, Any] = {}  # one object, because places are known by the identity of their schemas


class Shape:
    """The properties that are named at one place, and what is below them. Recursive schemas make cycles."""

    __slots__ = ("_any_name", "_is_flat", "_items", "_names", "_nested", "_patterns")

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._nested: dict[str, Shape] = {}
        self._patterns: list[tuple[re.Pattern[str], Shape | None]] = []
        self._any_name: tuple[Shape | None] | None = None
        self._items: Shape | None = None
        self._is_flat = False  # nothing below needs a look

    def prune(self, value: Any) -> Any:
        """`value` without what is not named. Changes objects and arrays in place where it can."""
        if type(value) is dict:
            if not self._names.issuperset(value):
                value = {name: part for name, part in value.items() if self._takes(name)}
            if self._is_flat:
                return value
            for name, below in self._nested.items():
                if name in value:
                    value[name] = below.prune(value[name])
            if self._patterns or self._any_name:
                self._prune_unlisted(value)
        elif type(value) is list and self._items is not None:
            value[:] = [self._items.prune(item) for item in value]
        return value

    def _takes(self, name: str) -> bool:
        return (
            name in self._names
            or self._any_name is not None
            or any(pattern.search(name) for pattern, _ in self._patterns)
        )

    def _prune_unlisted(self, value: dict[str, Any]) -> None:
        for name in value.keys() - self._names:
            below = [shape for pattern, shape in self._patterns if pattern.search(name)]
            if not below and self._any_name:
                below = [self._any_name[0]]
            for shape in below:
                if shape is not None:
                    value[name] = shape.prune(value[name])

    def _fill(self, schemas: Sequence[Any], compiler: _Compiler) -> None:
        """Joins what several schemas of one place say."""
        children: dict[str, list[Any]] = {}
        items: list[Any] = []
        rest: list[Any] = []
        for schema in schemas:
            for name, below in schema.get("properties", {}).items():
                children.setdefault(name, []).append(below)
            for pattern, below in schema.get("patternProperties", {}).items():
                self._patterns.append((re.compile(pattern), compiler.shape([below])))
            rest += _schemas(schema, "additionalProperties", "unevaluatedProperties")
            items += _schemas(schema, "items", "contains", "unevaluatedItems")
            items += schema.get("prefixItems", [])
        self._names = frozenset(children)
        for name, below in children.items():
            if (shape := compiler.shape(below)) is not None:
                self._nested[name] = shape
        if rest:
            self._any_name = (compiler.shape(rest),)
        self._is_flat = not (self._nested or self._patterns or self._any_name)
        # an array whose items no schema describes may hold objects: nothing in them is named
        self._items = compiler.shape(items or [_ANYTHING])


def _schemas(schema: Mapping[str, Any], *keywords: str) -> Iterator[Any]:
    """Sub-schemas that describe something; `true` and `false` name nothing."""
    return (schema[keyword] for keyword in keywords if isinstance(schema.get(keyword), dict))


def compile_shape(schema: Mapping[str, Any]) -> Shape | None:
    """The shape of data under `schema` (JSON Schema 2020-12); None if it can be no object and no array."""
    return _Compiler(schema).shape([schema])


class _Compiler:
    """Follows local references; remembers places, so that recursion ends."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[int, ...], Shape] = {}

    def shape(self, schemas: Sequence[Any]) -> Shape | None:
        """What all of `schemas`, which stand at one place, name together."""
        if all(_is_scalar(schema) for schema in schemas):
            return None
        here: list[Mapping[str, Any]] = []
        for schema in schemas:
            self._spread(schema, here)
        key = tuple(id(schema) for schema in here)
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape()
            shape._fill(here, self)  # noqa: SLF001 (its own module)
        return shape

    def _spread(self, schema: Any, here: list[Mapping[str, Any]]) -> None:
        """Adds `schema` and every other schema that speaks of the same place."""
        if not isinstance(schema, dict) or any(schema is known for known in here):
            return
        here.append(schema)
        for keyword in _ALSO_HERE:
            for part in schema.get(keyword, ()):
                self._spread(part, here)
        for keyword in _PERHAPS_HERE:
            self._spread(schema.get(keyword), here)
        for part in schema.get("dependentSchemas", {}).values():
            self._spread(part, here)
        if "$ref" in schema:
            self._spread(self._resolve(schema["$ref"]), here)

    def _resolve(self, reference: str) -> Any:
        """The target of a local reference; of any other, nothing is known and nothing is kept."""
        if not reference.startswith("#"):
            return None
        place: Any = self._root
        for step in unquote(reference[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                place = place[int(step)] if isinstance(place, list) else place[step]
            except (KeyError, IndexError, ValueError, TypeError):
                return None
        return place


def _is_scalar(schema: Any) -> bool:
    """Whether a value under `schema` itself can be no object and no array."""
    if not isinstance(schema, dict):
        return schema is False
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return not any(isinstance(value, dict | list) for value in values)
    types = schema.get("type")
    if types is None:
        return False
    return _CONTAINERS.isdisjoint([types] if isinstance(types, str) else types)
