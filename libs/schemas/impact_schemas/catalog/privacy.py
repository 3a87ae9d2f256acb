"""What of the events looks personal and is not pseudonymous: reasons for a second look, not faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from impact_schemas.catalog.document import Finding, Path
from impact_schemas.personal import personal_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_schemas.catalog.models import Catalog

_SAME_PLACE = ("allOf", "anyOf", "oneOf")
_ELEMENTS = ("items", "contains")


def look_for_persons(catalog: Catalog) -> Iterator[Finding]:
    """A finding for each property whose name looks personal and whose values would be kept as they are."""
    for name, event_type in catalog.events.items():
        hidden = set(event_type.pseudonymous)
        for path, place in _properties(event_type.data, "data", ("events", name, "data")):
            kind = personal_kind(path.rpartition(".")[2])
            if kind is not None and path not in hidden:
                reason = f"looks like {kind} and is kept as it is: add {path} to `pseudonymous`, or drop it"
                yield Finding(place, reason, on_key=True)


def _properties(schema: Any, path: str, place: Path) -> Iterator[tuple[str, Path]]:
    """(path in the data, place in the catalog) of every property that the schema names."""
    if not isinstance(schema, dict):
        return
    for name, below in _mapping(schema.get("properties")).items():
        here = (*place, "properties", name)
        yield f"{path}.{name}", here
        yield from _properties(below, f"{path}.{name}", here)
    for keyword in _ELEMENTS:
        yield from _properties(schema.get(keyword), path, (*place, keyword))
    for keyword in _SAME_PLACE:
        for number, part in enumerate(schema.get(keyword) or ()):
            yield from _properties(part, path, (*place, keyword, number))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
