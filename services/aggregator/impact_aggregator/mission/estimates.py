"""How sure a metric's values are, by what it is: a proportion, a mean or a count; others have no formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from impact_aggregator.mission import statistics
from impact_schemas import numbers

if TYPE_CHECKING:
    from impact_aggregator.mission.board import Cell
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


def interval(kind: Kind, cell: Cell) -> Interval | None:
    """The 95 % interval of one value; None where it is unknown, or there is no formula."""
    if cell.reading.value is None:
        return None
    if kind == "proportion":
        rate = _rate(cell)
        return None if rate is None else statistics.wilson(*rate)
    sample = _sample(cell) if kind == "mean" else None
    return None if sample is None else statistics.mean_interval(sample)


def difference(kind: Kind, one: Cell, other: Cell) -> Interval | None:
    """The 95 % interval of one value minus the other, of separate groups; None as for `interval`."""
    if one.reading.value is None or other.reading.value is None:
        return None
    if kind == "proportion":
        rate, of_rate = _rate(one), _rate(other)
        return None if rate is None or of_rate is None else statistics.newcombe(*rate, *of_rate)
    if kind == "mean":
        sample, of_sample = _sample(one), _sample(other)
        return None if sample is None or of_sample is None else statistics.welch(sample, of_sample)
    return None


def differs(kind: Kind, one: Known, other: Known) -> bool:
    """Whether two values of spans apart differ beyond chance; of others, by more than 1 %."""
    if kind == "proportion" and one.n and other.n:
        found = statistics.newcombe(_successes(one), one.n, _successes(other), other.n)
        return found.excludes_zero
    if kind == "count":
        return statistics.counts_differ(one.value, other.value)
    return abs(one.value - other.value) > MEANINGFUL_SHARE * abs(other.value)


def _successes(known: Known) -> float:
    return min(max(round(known.value * known.n), 0), known.n)


def _rate(cell: Cell) -> tuple[float, int] | None:
    value, n, _ = cell.reading
    if not n or value is None or not 0 <= value <= numbers.ONE:
        return None
    return round(value * n / numbers.ONE), n


def _sample(cell: Cell) -> Sample | None:
    spread, n = cell.spread, cell.reading.n
    if spread is None or spread.squares is None or not n:
        return None
    return statistics.sample_of(n, spread.total, spread.squares)
