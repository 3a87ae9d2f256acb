"""What a catalog must fulfil beyond the form of its fields.

`broken` has the paths of what could not be read: nothing is said about those, nor about what depends on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from impact_schemas.catalog.data_shape import DataShape, NoSuchPathError, schema_faults
from impact_schemas.catalog.document import Finding, Path
from impact_schemas.catalog.families import families
from impact_schemas.catalog.forms import EVENT_TYPE
from impact_schemas.catalog.import_rules import check_imports
from impact_schemas.catalog.metric_rules import Events, MetricRules
from impact_schemas.catalog.product_rules import check_product
from impact_schemas.catalog.wording import unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from impact_schemas.catalog.models import Catalog, EventType

RESERVED_TYPES = "impact."  # events about events, the same in every product


def check_rules(catalog: Catalog, broken: frozenset[Path]) -> list[Finding]:
    """Everything that is wrong with what could be read."""
    findings = list(_check_mission(catalog, broken))
    shapes: dict[str, DataShape] = {}
    for name, event in catalog.events.items():
        faults = [
            Finding(("events", name, "data", *path), reason) for path, reason in schema_faults(event.data)
        ]
        findings += faults
        if not faults and not _is_broken(("events", name, "data"), broken):
            shapes[name] = DataShape(event.data, keep_unknown=event.keep_unknown)
        findings += _check_event(name, event, shapes.get(name))
    events = Events(catalog.events, shapes, _names("events", catalog.events, broken))
    metrics = _names("metrics", catalog.metrics, broken)

    def rules_of(name: str) -> MetricRules:
        return MetricRules(name, catalog.metrics[name], catalog, events, metrics, broken)

    for name in catalog.metrics:
        findings += rules_of(name).check()
    needs = _names("needs", catalog.needs, broken)
    findings += check_product(catalog, needs, metrics, rules_of, broken)
    findings += check_imports(catalog, events)
    findings += _check_families(catalog)
    return [finding for finding in findings if not _is_broken(finding.path, broken)]


def _is_broken(path: Path, broken: Collection[Path]) -> bool:
    return any(path[: len(gone)] == gone for gone in broken)


def _names(section: str, read: Collection[str], broken: Collection[Path]) -> frozenset[str] | None:
    """The names of a section, unreadable ones too; None if the section itself cannot be read."""
    if (section,) in broken:
        return None
    return frozenset(read) | {str(path[1]) for path in broken if len(path) == 2 and path[0] == section}


def _check_mission(catalog: Catalog, broken: frozenset[Path]) -> Iterator[Finding]:
    known = _names("metrics", catalog.metrics, broken)
    star = catalog.mission.north_star if catalog.mission else None
    if star is not None and known is not None and star not in known:
        yield Finding(("mission", "north_star"), unknown("metric", star, known))


def _check_event(name: str, event: EventType, shape: DataShape | None) -> Iterator[Finding]:
    here: Path = ("events", name)
    if not EVENT_TYPE.fits(name):
        yield Finding(here, f"expected {EVENT_TYPE.words} as an event type", on_key=True)
    if name.startswith(RESERVED_TYPES):
        yield Finding(
            here, f"types that begin with {RESERVED_TYPES} belong to the service itself", on_key=True
        )
    for index, path in enumerate(event.pseudonymous):
        where = (*here, "pseudonymous", index)
        if path in event.pseudonymous[:index]:
            yield Finding(where, f"{path} is there twice")
        if shape is None:
            continue
        try:
            found = shape.at(path)
        except NoSuchPathError as error:
            yield Finding(where, str(error))
            continue
        if found.stated and not found.types <= {"string", "integer", "null"}:
            yield Finding(where, f"{path} must be text or a whole number to be hashed, it is {found.names()}")


def _check_families(catalog: Catalog) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name in catalog.metrics:
        for family in families(name, catalog.metrics):
            if family.name in first:
                reason = (
                    f"its Prometheus family {family.name} is that of {first[family.name]} too: rename one"
                )
                yield Finding(("metrics", name, *family.path), reason, on_key=True)
            else:
                first[family.name] = ".".join(map(str, ("metrics", name, *family.path)))
