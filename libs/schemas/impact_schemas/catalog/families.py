"""The names of a metric's Prometheus families."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from impact_schemas.catalog.metric import sources_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from impact_schemas.catalog.metric import Metric

# The pipeline's own families, without "impact_"; what begins with a reserved prefix is refused whole, since
# a histogram or counter adds _bucket, _sum, _count, _total and _created to its name.
PIPELINE_FAMILIES = (
    *("catalog_info", "equity_gap", "metric_state", "target_progress_ratio", "target_state", "violation"),
)
PIPELINE_PREFIXES = ("aggregator_", "ingest_", "mission_")
RESERVED_LABELS = ("product", "window")


class Family(NamedTuple):
    """A family that a metric is shown in."""

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


def families(name: str, metrics: Mapping[str, Metric]) -> Iterator[Family]:
    """All families of one of these metrics, with the path of what makes each, seen from the metric."""
    yield Family(family(name), RESERVED_LABELS, ())
    metric = metrics[name]
    for dimension in dimensions_of(name, metrics):
        path: tuple[str | int, ...] = ("dimensions", dimension) if dimension in metric.dimensions else ()
        yield Family(family_by(name, [dimension]), (*RESERVED_LABELS, dimension), path)
    for index, cut in enumerate(cuts_of(name, metrics)):
        path = ("cuts", index) if metric.cuts else ()
        yield Family(family_by(name, cut), (*RESERVED_LABELS, *cut), path)


def dimensions_of(name: str, metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    """The dimensions that a metric is split by; a derived one that names none has those of all its parts."""
    parts = _parts_asked(name, metrics)
    if not parts:
        return tuple(metrics[name].dimensions)
    first, *others = parts
    return tuple(one for one in first.dimensions if all(one in part.dimensions for part in others))


def cuts_of(name: str, metrics: Mapping[str, Metric]) -> tuple[tuple[str, ...], ...]:
    """The combinations that a metric is split by, each once; of a derived one as with dimensions."""
    cuts = metrics[name].cuts
    if parts := _parts_asked(name, metrics):
        first, *others = parts
        theirs = [[set(cut) for cut in part.cuts] for part in others]
        cuts = tuple(cut for cut in first.cuts if all(set(cut) in one for one in theirs))
    return tuple(cut for index, cut in enumerate(cuts) if len(cut) > 1 and cut not in cuts[:index])


def _parts_asked(name: str, metrics: Mapping[str, Metric]) -> list[Metric]:
    """What a derived metric is made of, if it is split as that is."""
    metric = metrics[name]
    if metric.derivation is None or metric.dimensions or metric.cuts:
        return []
    return [metrics[source] for source in sources_of(name, metrics)]
