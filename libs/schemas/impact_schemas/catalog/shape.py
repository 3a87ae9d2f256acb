"""From plain values to the catalog's models, with the wrong parts left out and named in plain words."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from impact_schemas.catalog.counting import OneOf
from impact_schemas.catalog.document import Finding, Path
from impact_schemas.catalog.models import Catalog
from impact_schemas.catalog.wording import did_you_mean, one_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

# What stands for a needed field that is missing or wrong, so that the rest can be judged too.
_BLANKS: dict[str, Any] = {
    "apiVersion": "impact/v1",
    "product": "x",
    "title": "?",
    "events": {},
    "metrics": {},
}
_METRIC_BLANKS: dict[str, Any] = {"title": "?", "role": "impact"}


def read_shape(value: dict[str, Any]) -> tuple[Catalog, list[Finding], frozenset[Path]]:
    """The catalog without its wrong parts, what is wrong with those, and their paths."""
    findings: list[Finding] = []
    broken: set[Path] = set()
    while True:
        try:
            return Catalog.model_validate(value), findings, frozenset(broken)
        except ValidationError as error:
            errors = error.errors(include_url=False)
        if not findings:  # later ones are only about what was taken out here
            findings = [_finding(one, value) for one in errors]
            value = copy.deepcopy(value)
        gone: set[Path] = set()
        for path in [_path(one, value) for one in errors]:
            if not any(path[: len(one)] == one for one in gone):
                gone.add(_take_out(path, value))
        broken |= gone


def _path(error: ErrorDetails, value: object) -> Path:
    """Where in the file an error is; pydantic also names branches of unions, which the file does not have."""
    path: Path = ()
    for part in error["loc"]:
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            value = value[part]  # type: ignore[index]  # just asked
            path = (*path, part)
    return (*path, error["loc"][-1]) if error["type"] == "missing" else path


def _take_out(path: Path, value: dict[str, Any]) -> Path:
    """Removes what is at `path`, or puts a blank there; returns the path of what is gone.

    An item takes its whole list along: the others must keep their numbers.
    """
    for depth, part in enumerate(path):
        if isinstance(part, int):
            path = path[:depth]
            break
    blanks = _BLANKS if len(path) == 1 else _METRIC_BLANKS if len(path) == 3 and path[0] == "metrics" else {}
    parent: Any = value
    for part in path[:-1]:
        parent = parent[part]
    name = path[-1]
    if name in blanks:
        parent[name] = copy.deepcopy(blanks[str(name)])
    elif name in parent:
        del parent[name]
    else:  # missing, and nothing can stand for it
        return _take_out(path[:-1], value)
    return path


def _finding(error: ErrorDetails, value: object) -> Finding:
    path = _path(error, value)
    unknown = error["type"] == "extra_forbidden"
    return Finding(path, _reason(error, path), on_key=unknown)


def _reason(error: ErrorDetails, path: Path) -> str:
    found = shown(error["input"])
    context = error.get("ctx", {})
    match error["type"]:
        case "form":
            return str(context["reason"])
        case "missing":
            return f"is missing: {_fields_at(path[:-1])[str(path[-1])].description}"
        case "extra_forbidden":
            fields = _fields_at(path[:-1])
            return f"unknown field{did_you_mean(path[-1], fields) or f' (there are {one_of(fields)})'}"
        case "literal_error":
            # pydantic has the choices only as text: "'a', 'b' or 'c'"
            choices = re.findall(r"'([^']*)'", str(context["expected"]))
            return f"expected one of {one_of(choices)}, found {found}{did_you_mean(error['input'], choices)}"
        case "string_type":
            scalar = not isinstance(error["input"], dict | list | None)
            return f"expected text, found {found}" + (": put it in quotes" if scalar else "")
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"expected a mapping, found {found}"
        case "tuple_type":
            return f"expected a list, found {found}"
        case "int_type":
            return f"expected a whole number, found {found}"
        case "bool_type":
            return f"expected true or false, found {found}"
        case "greater_than_equal":
            return f"expected {context['ge']} or more, found {found}"
        case "string_too_short" | "too_short":
            return "must not be empty"
        case _:
            return f"{error['msg']}, found {found}"


def _fields_at(path: Path) -> dict[str, FieldInfo]:
    """The fields that a mapping of the file can have, by the names that the file uses."""
    models: list[type[BaseModel]] = [Catalog]
    skip = False
    for part in path:
        if skip:  # the name of an entry, not of a field
            skip = False
            continue
        field = _fields(models).get(str(part))
        if field is not None:
            models = list(_models_in(field.annotation))
            skip = any(get_origin(kind) is dict for kind in (field.annotation, *get_args(field.annotation)))
    return _fields(models)


def _fields(models: list[type[BaseModel]]) -> dict[str, FieldInfo]:
    return {
        info.alias or name: info
        for model in models
        for name, info in model.model_fields.items()
        if model is not OneOf  # the file has no such mapping: a value or a list stands for it
    }


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
