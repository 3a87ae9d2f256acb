"""The names of a metric's Prometheus families."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from impact_schemas.catalog.models import Metric

# The pipeline's own families, without "impact_"; what begins with a reserved prefix is refused whole, since
# a histogram or counter adds _bucket, _sum, _count, _total and _created to its name.
PIPELINE_FAMILIES = ("catalog_info", "metric_state", "target_progress_ratio", "violation")
PIPELINE_PREFIXES = ("aggregator_", "ingest_")
RESERVED_LABELS = ("product", "window")


class Family(NamedTuple):
    """A family that a metric is shown in; `field` and `index` say which part of the metric makes it."""

    name: str
    labels: tuple[str, ...]
    path: tuple[str | int, ...]


def family(metric: str) -> str:
    """The family of a metric's total."""
    return f"impact_{metric}"


def family_by(metric: str, dimensions: Sequence[str]) -> str:
    """The family of a metric split by one dimension, or by the dimensions of one cut, in the cut's order."""
    return f"impact_{metric}_by_{'_'.join(dimensions)}"


def is_pipeline_family(metric: str) -> bool:
    """Whether the pipeline itself needs this name."""
    return metric in PIPELINE_FAMILIES or metric.startswith(PIPELINE_PREFIXES)


def families(name: str, metric: Metric) -> Iterator[Family]:
    """All families of a metric, with the path of what makes each, seen from the metric."""
    yield Family(family(name), RESERVED_LABELS, ())
    for dimension in metric.dimensions:
        yield Family(family_by(name, [dimension]), (*RESERVED_LABELS, dimension), ("dimensions", dimension))
    for index, cut in enumerate(metric.cuts):
        if len(cut) > 1 and cut not in metric.cuts[:index]:  # otherwise the cut itself is at fault
            yield Family(family_by(name, cut), (*RESERVED_LABELS, *cut), ("cuts", index))
