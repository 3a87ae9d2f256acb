"""Segments as they are written everywhere: JSON with sorted keys, and which of them have trends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from impact_aggregator.rules import ARM, TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from impact_schemas.catalog import Catalog

FEATURE = "feature"  # the dimension that says which feature an event came through
MAX_FOLLOWED = 50  # segments of a metric: each costs up to 400 rows a window

_encode = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


def segment_of(values: Mapping[str, object]) -> str:
    """The segment of these values of dimensions."""
    return _encode(dict(values)).decode() if values else TOTAL


def split_of(segment: str) -> dict[str, object]:
    """Its dimensions and their values."""
    values: dict[str, object] = msgspec.json.decode(segment)
    return values


def groups(there: Iterable[str], dimension: str) -> Iterator[str]:
    """Those of the segments that are by one dimension alone."""
    return (segment for segment in there if is_by(segment, dimension))


def is_by(segment: str, dimension: str) -> bool:
    """Whether it is by this dimension alone."""
    return segment.startswith(f'{{"{dimension}":') and len(split_of(segment)) == 1


def label_of(value: object) -> str:
    """A value of a dimension as a label."""
    if value is None:
        return "(unknown)"
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_of_arm(segment: str) -> bool:
    """Whether it is one of an experiment's arms: keys are sorted, @ before all letters."""
    return segment.startswith(f'{{"{ARM}":')


def to_follow(catalog: Catalog, name: str, there: Iterable[str]) -> list[str]:
    """Those of a metric's segments that have trends: the total, and at most MAX_FOLLOWED others.

    First those that targets and bets name, then the groups of the equity dimension, of the first one, and
    features.
    """
    metric = catalog.metrics[name]
    present = sorted(set(there) - {TOTAL})
    wanted = [segment_of(target.segment) for target in metric.targets]
    wanted += [
        segment_of(one.segment) for bet in catalog.bets.values() for one in bet.expects if one.metric == name
    ]
    dimensions = [metric.equity.dimension] if metric.equity else []
    for dimension in [*dimensions, *list(metric.dimensions)[:1], FEATURE]:
        wanted += groups(present, dimension)
    known = set(present)
    return [TOTAL, *[segment for segment in dict.fromkeys(wanted) if segment in known][:MAX_FOLLOWED]]
