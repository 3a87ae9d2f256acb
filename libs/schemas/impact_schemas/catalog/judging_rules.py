"""What a metric must fulfil to be judged: codes, targets, limits, groups, small cells, links to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from impact_schemas.catalog.codes import IRIS_METRICS, SDG_CODES
from impact_schemas.catalog.data_shape import same
from impact_schemas.catalog.document import Finding, Path
from impact_schemas.catalog.measure_rules import check_unit
from impact_schemas.catalog.wording import one_of, shown, unknown
from impact_schemas.units import UnitMismatch, conversion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_schemas.catalog.forms import Segment
    from impact_schemas.catalog.judging import Population, Target
    from impact_schemas.catalog.metric_rules import MetricRules

_TOO_FINE = ("5m", "1h")
_GIVES_PEOPLE_AWAY = frozenset(["min", "max", "latest", "p50", "p90", "p95", "p99"])


def check_judging(rules: MetricRules) -> Iterator[Finding]:
    """All of it, of one metric."""
    yield from _check_codes(rules)
    yield from _check_leads_to(rules)
    yield from _check_targets(rules)
    yield from _check_limits(rules)
    yield from _check_benchmarks(rules)
    yield from _check_divergence(rules)
    yield from _check_privacy(rules)
    if rules.metric.equity is not None and rules.metric.equity.population is not None:
        yield from _check_population(rules, rules.metric.equity.population)


def check_segment(rules: MetricRules, segment: Segment, where: Path) -> Iterator[Finding]:
    """Of a segment of the metric that something else speaks of."""
    known = rules.known_dimensions()
    if known is None:
        return
    for name, value in segment.items():
        if name not in known:
            yield Finding((*where, name), unknown("dimension", name, known))
            continue
        for metric in (rules.metric, *(part for _, part in rules.parts())):
            dimension = metric.dimensions.get(name)
            listed = None if dimension is None else dimension.values
            if listed is not None and value is not None and not any(same(value, one) for one in listed):
                yield Finding((*where, name), f"{shown(value)} is not one of the values of {name}")
    if len(segment) > 1 and set(segment) <= known and set(segment) not in map(set, rules.cuts()):
        yield Finding(where, "the metric has no such cut: add it to cuts, or name one dimension")


def _check_codes(rules: MetricRules) -> Iterator[Finding]:
    codes = rules.metric.codes
    for field, given, known in (("sdg", codes.sdg, SDG_CODES), ("iris", codes.iris, IRIS_METRICS.keys())):
        for index, code in enumerate(given):
            if code not in known:
                there = unknown(f"{field.upper()} code", code, known)
                yield Finding(rules.at("codes", field, index), there)


def _check_leads_to(rules: MetricRules) -> Iterator[Finding]:
    for index, name in enumerate(rules.metric.leads_to):
        where = rules.at("leads_to", index)
        if name == rules.name:
            yield Finding(where, "a metric does not lead to itself")
        elif rules.metrics is not None and name not in rules.metrics:
            yield Finding(where, unknown("metric", name, rules.metrics))


def _check_window(rules: MetricRules, window: str, where: Path) -> Iterator[Finding]:
    windows = rules.metric.windows
    if rules.can_judge("windows") and window not in windows:
        yield Finding(where, f"{window} is not one of this metric's windows ({one_of(windows)})")


def _check_targets(rules: MetricRules) -> Iterator[Finding]:
    for index, target in enumerate(rules.metric.targets):
        where = rules.at("targets", index)
        yield from _check_window(rules, target.window, (*where, "window"))
        if target.baseline is not None and target.due <= target.baseline.at:
            yield Finding((*where, "due"), f"must be after the baseline's day, {target.baseline.at}")
        yield from check_segment(rules, target.segment, (*where, "segment"))
        yield from _check_path(target, where)


def _check_path(target: Target, where: Path) -> Iterator[Finding]:
    last = target.baseline.at if target.baseline else None
    for index, point in enumerate(target.path):
        if last is not None and point.at <= last:
            yield Finding((*where, "path", index, "at"), f"must be after {last}, the day before it")
        if point.at >= target.due:
            yield Finding((*where, "path", index, "at"), f"must be before the due day, {target.due}")
        last = point.at


def _check_limits(rules: MetricRules) -> Iterator[Finding]:
    limits = rules.metric.limits
    if limits is None:
        return
    where = rules.at("limits")
    if rules.can_judge("role") and rules.metric.role != "guardrail":
        yield Finding(where, f"limits are of guardrails, its role is {rules.metric.role}", on_key=True)
    if limits.max is None and limits.min is None:
        yield Finding(where, "needs max or min", on_key=True)
    elif limits.max is not None and limits.min is not None and limits.min >= limits.max:
        yield Finding((*where, "min"), f"must be less than max, {limits.max}")
    if limits.window is not None:
        yield from _check_window(rules, limits.window, (*where, "window"))


def _check_benchmarks(rules: MetricRules) -> Iterator[Finding]:
    for index, benchmark in enumerate(rules.metric.benchmarks):
        where = rules.at("benchmarks", index, "unit")
        if benchmark.unit is None:
            continue
        wrong = list(check_unit(benchmark.unit, where))
        yield from wrong
        try:
            factor = conversion(benchmark.unit, rules.metric.unit)
        except UnitMismatch:
            factor = None
        # of a unit that is wrong itself nothing more is said
        if not wrong and factor != 1 and not list(check_unit(rules.metric.unit, where)):
            yield Finding(where, f"expected the metric's unit, {rules.metric.unit}, found {benchmark.unit}")


def _check_divergence(rules: MetricRules) -> Iterator[Finding]:
    divergence = rules.metric.divergence
    if divergence is None:
        return
    where = rules.at("divergence", "business")
    business = rules.catalog.metrics.get(divergence.business)
    if rules.metrics is not None and divergence.business not in rules.metrics:
        yield Finding(where, unknown("metric", divergence.business, rules.metrics))
    elif business is not None and business.role != "business":
        yield Finding(where, f"expected a business metric, {divergence.business} is {business.role}")
    elif business is not None and not set(business.windows) & set(rules.metric.windows):
        yield Finding(where, f"{divergence.business} shares no window with this metric")


def _check_privacy(rules: MetricRules) -> Iterator[Finding]:
    metric = rules.metric
    if metric.privacy is None:
        return
    if metric.aggregate in _GIVES_PEOPLE_AWAY:
        reason = f"{metric.aggregate} shows single people: with privacy use count, sum, mean or unique"
        yield Finding(rules.at("aggregate"), reason)
    for index, window in enumerate(metric.windows):
        if window in _TOO_FINE:
            reason = f"{window} is shorter than any block of a metric with privacy: single people would show"
            yield Finding(rules.at("windows", index), reason)


def _check_population(rules: MetricRules, population: Population) -> Iterator[Finding]:
    metric = rules.metric
    where = rules.at("equity", "population")
    if metric.aggregate not in (None, "unique", "count"):
        reason = f"a share of people is worked out of unique or count, the aggregate is {metric.aggregate}"
        yield Finding(where, reason, on_key=True)
    elif metric.derivation is not None:
        yield Finding(where, "a share of people is worked out of unique or count", on_key=True)
    stated = population.file is None
    unread = {(*where, "values"), (*where, "file")} & rules.broken
    if stated and not population.values and not unread:
        yield Finding(where, "needs values, or the file that has them", on_key=True)
    for group in population.values:
        if group not in (_groups(rules) or population.values):
            place = (*where, "values", group) if stated else (*where, "file")
            yield Finding(place, f"{shown(group)} is not one of the values of the dimension")


def _groups(rules: MetricRules) -> list[str] | None:
    """The values of the dimension of equity, as a population names them; None if any may come."""
    equity = rules.metric.equity
    dimension = rules.metric.dimensions.get(equity.dimension) if equity else None
    return None if dimension is None or dimension.values is None else [str(one) for one in dimension.values]
