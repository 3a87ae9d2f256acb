"""What the JSON Schema of an event's data says: which paths there are, and which values they can have."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import jsonschema_rs

from impact_schemas.catalog.wording import did_you_mean, one_of, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_META = jsonschema_rs.Draft202012Validator({"$ref": DRAFT}, offline=True)

# Where JSON Schema has schemas inside of schemas; the other keywords have plain values.
_ONE = (
    *("additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"),
    *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
)
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("$defs", "dependentSchemas", "patternProperties", "properties")
_PLAIN = (
    *("$anchor", "$comment", "$dynamicAnchor", "$id", "$ref", "$schema", "$vocabulary", "const"),
    *("contentEncoding", "contentMediaType", "default", "dependentRequired", "deprecated", "description"),
    *("enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "maxContains", "maxItems"),
    *("maxLength", "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties"),
    *(
        "minimum",
        "multipleOf",
        "pattern",
        "readOnly",
        "required",
        "title",
        "type",
        "uniqueItems",
        "writeOnly",
    ),
)
_KEYWORDS = frozenset(_ONE + _LISTS + _MAPS + _PLAIN)

NUMERIC = frozenset({"integer", "number"})
SCALAR = NUMERIC | {"string", "boolean", "null"}
_TYPES = SCALAR | {"object", "array"}


class NoSuchPathError(LookupError):
    """The data cannot have this path; the text says why."""


class Described(NamedTuple):
    """What can stand at a path: JSON types, and the only values if the schema lists them.

    `stated` is False where the schema says nothing about the types.
    """

    types: frozenset[str]
    values: tuple[object, ...] | None
    stated: bool

    def allows(self, value: object) -> bool:
        """Whether this value can stand there."""
        if self.values is not None:
            return any(same(value, one) for one in self.values)
        return json_type(value) in self.types

    def names(self) -> str:
        """The types in a sentence; a number may be whole anyway."""
        return " or ".join(sorted(self.types - {"integer"} if "number" in self.types else self.types))


class DataShape:
    """A schema that `schema_faults` has nothing against."""

    def __init__(self, schema: Schema, *, keep_unknown: bool) -> None:
        self._root = schema
        self._keep_unknown = keep_unknown

    def at(self, path: str) -> Described:
        """What can stand at `data.<path>`. Raises NoSuchPathError.

        A path exists if each step has a schema: in `properties`, `patternProperties` or
        `additionalProperties` of the schema itself, or of what it takes in by $ref, allOf, anyOf, oneOf,
        if, then, else or dependentSchemas. All else is dropped at the door, unless unknown properties
        are kept. There are no paths into lists.
        """
        schemas: list[Schema] = [self._root]
        prefix, *steps = path.split(".")
        for step in steps:
            layers = [layer for schema in schemas for layer in self._layers(schema)]
            named = [found for layer in layers for found in _schemas_of(step, layer)]
            if not named:
                self._refuse_unless_kept(prefix, step, schemas, layers)
                return Described(_TYPES, None, stated=False)
            schemas = named
            prefix = f"{prefix}.{step}"
        return self._described(schemas)

    def may_be_object(self) -> bool:
        """Whether data of this schema can be an object at all."""
        return "object" in self._types(self._root)

    def _refuse_unless_kept(
        self, prefix: str, step: str, schemas: Sequence[Schema], layers: Sequence[Schema]
    ) -> None:
        types = frozenset[str]().union(*(self._types(schema) for schema in schemas))
        if "object" not in types:
            raise NoSuchPathError(
                f"{prefix} is no object ({one_of(sorted(types))}): it has no {quoted(step)}"
            )
        closed = any(layer.get("additionalProperties") is False for layer in layers)
        if self._keep_unknown and not closed:
            return
        names = [name for layer in layers for name in layer.get("properties", {})]
        raise NoSuchPathError(
            f"the schema names no {quoted(step)} in {prefix} (it has {one_of(names)})"
            + did_you_mean(step, names)
        )

    def _described(self, schemas: Sequence[Schema]) -> Described:
        each = [self._types(schema) for schema in schemas]
        stated = [types for types in each if types != _TYPES]
        types = frozenset[str]().union(*stated) if stated else _TYPES
        values = self._values(schemas[0]) if len(schemas) == 1 else None
        return Described(types, values, stated=bool(stated))

    def _layers(self, schema: Schema, seen: tuple[int, ...] = ()) -> Iterator[Schema]:
        """The schema, and those that it applies to the same value."""
        if id(schema) in seen:
            return
        seen = (*seen, id(schema))
        yield schema
        for one in self._taken_in(schema):
            yield from self._layers(one, seen)

    def _taken_in(self, schema: Schema) -> Iterator[Schema]:
        if "$ref" in schema:
            yield _as_schema(follow(schema["$ref"], self._root))
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from map(_as_schema, schema.get(keyword, []))
        for keyword in ("if", "then", "else"):
            if keyword in schema:
                yield _as_schema(schema[keyword])
        yield from map(_as_schema, schema.get("dependentSchemas", {}).values())

    def _types(self, schema: Schema, seen: tuple[int, ...] = ()) -> frozenset[str]:
        if id(schema) in seen:
            return _TYPES
        seen = (*seen, id(schema))
        types = _stated_types(schema)
        if "$ref" in schema:
            types &= self._types(_as_schema(follow(schema["$ref"], self._root)), seen)
        for one in schema.get("allOf", []):
            types &= self._types(_as_schema(one), seen)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                types &= frozenset[str]().union(
                    *(self._types(_as_schema(one), seen) for one in schema[keyword])
                )
        return types

    def _values(self, schema: Schema) -> tuple[object, ...] | None:
        for layer in self._layers(
            {key: schema[key] for key in ("const", "enum", "$ref", "allOf") if key in schema}
        ):
            if "const" in layer:
                return (layer["const"],)
            if "enum" in layer:
                return tuple(layer["enum"])
        return None


def _as_schema(schema: Schema | bool) -> Schema:
    """`true` allows everything, `false` nothing."""
    if isinstance(schema, bool):
        return {} if schema else {"enum": []}
    return schema


def _schemas_of(name: str, layer: Schema) -> list[Schema]:
    """What a schema itself says of a property; `true` in additionalProperties names nothing."""
    found = [layer["properties"][name]] if name in layer.get("properties", {}) else []
    found += [one for pattern, one in layer.get("patternProperties", {}).items() if re.search(pattern, name)]
    if not found and isinstance(layer.get("additionalProperties"), dict):
        found = [layer["additionalProperties"]]
    return [_as_schema(one) for one in found]


def _stated_types(schema: Schema) -> frozenset[str]:
    types: frozenset[str] = _TYPES
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        types &= frozenset(names) | (NUMERIC if "number" in names else frozenset())
    if "const" in schema:
        types &= {json_type(schema["const"])}
    if "enum" in schema:
        types &= frozenset(map(json_type, schema["enum"]))
    return types


def json_type(value: object) -> str:
    """The JSON type of a value; a whole number is an integer however it is written."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case Decimal():
            return "integer" if value == value.to_integral_value() else "number"
        case str():
            return "string"
        case dict():
            return "object"
        case _:
            return "array"


def same(one: object, other: object) -> bool:
    """Equality as JSON has it: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def follow(reference: str, root: Schema) -> Any:
    """What `#` or `#/$defs/name` stands for. Raises LookupError if there is nothing."""
    target: Any = root
    for step in unquote(reference.removeprefix("#")).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        target = target[int(name)] if isinstance(target, list) else target[name]
    if isinstance(target, dict | bool):
        return target
    raise LookupError(f"{reference} is no schema")


def schema_faults(schema: Schema) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong with the JSON Schema of an event's data: (path in the schema, reason)."""
    faults = {tuple(error.instance_path): _meta_reason(error) for error in _META.iter_errors(schema)}
    if not faults:
        faults = dict(_own_faults(schema))
    if not faults:
        try:
            jsonschema_rs.Draft202012Validator(schema, offline=True)
        except jsonschema_rs.ValidationError as error:
            faults = {tuple(error.instance_path): f"not a usable JSON Schema: {error.message}"}
    if not faults and not DataShape(schema, keep_unknown=True).may_be_object():
        faults = {(): "the data of an event is an object: use type: object"}
    return list(faults.items())


def _meta_reason(error: jsonschema_rs.ValidationError) -> str:
    if error.instance_path and error.instance_path[-1] == "type" and isinstance(error.instance, str):
        types = sorted(_TYPES)
        return f"expected one of {one_of(types)}, found {quoted(error.instance)}" + did_you_mean(
            error.instance, types
        )
    return f"not a JSON Schema: {error.message}"


def _own_faults(schema: Schema) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """References that cannot be followed, and misspelt keywords, which JSON Schema would silently skip."""
    for path, part in _parts(schema, ()):
        for keyword, value in part.items():
            if keyword == "$ref":
                if reason := _reference_fault(value, schema):
                    yield (*path, keyword), reason
            elif keyword == "$schema" and value.rstrip("#") != DRAFT:
                yield (*path, keyword), f"expected {DRAFT}, found {quoted(value)}"
            elif keyword == "patternProperties":
                for pattern in value:
                    if reason := _pattern_fault(pattern):
                        yield (*path, keyword, pattern), reason
            elif keyword == "$dynamicRef":
                yield (*path, keyword), "$dynamicRef is not supported: use $ref"
            elif keyword not in _KEYWORDS and (meant := did_you_mean(keyword, _KEYWORDS)):
                yield (*path, keyword), f"unknown keyword{meant}"


def _pattern_fault(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return f"{quoted(pattern)} is not a regular expression that Python knows too: {error}"
    return None


def _reference_fault(reference: str, root: Schema) -> str | None:
    if reference != "#" and not reference.startswith("#/"):
        return (
            f"only references within this schema are followed, like #/$defs/name, found {quoted(reference)}"
        )
    try:
        follow(reference, root)
    except (LookupError, TypeError, ValueError):
        return f"{quoted(reference)} stands for nothing in this schema" + did_you_mean(
            reference.rpartition("/")[2], root.get("$defs", {})
        )
    return None


def _parts(schema: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Schema]]:
    """Every schema in `schema`, itself first."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for keyword in _ONE:
        yield from _parts(schema.get(keyword), (*path, keyword))
    for keyword in _LISTS:
        for index, one in enumerate(schema.get(keyword, [])):
            yield from _parts(one, (*path, keyword, index))
    for keyword in _MAPS:
        for name, one in schema.get(keyword, {}).items():
            yield from _parts(one, (*path, keyword, name))
