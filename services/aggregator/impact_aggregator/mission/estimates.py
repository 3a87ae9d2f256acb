"""How sure a metric's values are, by what it is: a proportion, a mean or a count; others have no formula."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Literal

from impact_aggregator.mission import statistics

if TYPE_CHECKING:
    from impact_aggregator.mission.statistics import Interval, Sample
    from impact_aggregator.mission.trends import Known
    from impact_schemas.catalog import Catalog, Metric

Kind = Literal["proportion", "mean", "count", "other"]

MEANINGFUL_SHARE = 0.01  # of the value before: less is no change where no formula tells chance from change
METHODS: dict[Kind, str] = {"proportion": "Newcombe 95 %", "mean": "Welch 95 %"}


def kind_of(catalog: Catalog, metric: Metric) -> Kind:
    """What its values are.

    A ratio is a proportion if every event above the line is one of those below it.
    """
    if metric.ratio is not None:
        return "proportion" if _is_part(catalog, *metric.derived_from) else "other"
    if metric.aggregate == "mean":
        return "mean"
    return "count" if metric.aggregate in ("count", "unique") else "other"


def _is_part(catalog: Catalog, name: str, of: str) -> bool:
    part, whole = catalog.metrics[name], catalog.metrics[of]
    if part.difference is not None:  # what is left of a whole without a part of it
        return part.difference.of == of and _is_part(catalog, part.difference.minus, of)
    return (
        part.aggregate == whole.aggregate == "count"
        and set(part.event) <= set(whole.event)
        and all(part.where.get(path) == condition for path, condition in whole.where.items())
    )


def interval(kind: Kind, one: Known | None) -> Interval | None:
    """The 95 % interval of one value; None where it is unknown, or there is no formula."""
    if one is None:
        return None
    if kind == "proportion" and _is_rate(one):
        return statistics.wilson(_successes(one), one.n)
    sample = _sample(one) if kind == "mean" else None
    return None if sample is None else statistics.mean_interval(sample)


def difference(kind: Kind, one: Known | None, other: Known | None) -> Interval | None:
    """The 95 % interval of one value minus the other, of separate groups; None as for `interval`."""
    if one is None or other is None:
        return None
    if kind == "proportion" and _is_rate(one) and _is_rate(other):
        return statistics.newcombe(_successes(one), one.n, _successes(other), other.n)
    if kind == "mean":
        sample, of_sample = _sample(one), _sample(other)
        return None if sample is None or of_sample is None else statistics.welch(sample, of_sample)
    return None


def change(kind: Kind, after: Known, before: Known) -> Interval | None:
    """The 95 % interval of a change between spans of one length; of counts, too."""
    if kind == "count":
        return statistics.counts_difference(after.value, before.value)
    return difference(kind, after, before)


def differs(kind: Kind, after: Known, before: Known) -> bool:
    """Whether a value changed beyond chance; without a formula, by more than 1 %."""
    found = change(kind, after, before)
    if found is not None:
        return found.excludes_zero
    return abs(after.value - before.value) > MEANINGFUL_SHARE * abs(before.value)


def _is_rate(known: Known) -> bool:
    return known.n > 0 and 0 <= known.value <= 1


def _successes(known: Known) -> int:
    return round(known.value * known.n)


def _sample(known: Known) -> Sample | None:
    return None if isnan(known.variance) else statistics.Sample(known.n, known.value, known.variance)
