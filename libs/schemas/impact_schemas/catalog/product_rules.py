"""What a catalog must fulfil beside its events and metrics: needs, bets, risks, stakeholders, factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from impact_schemas.catalog.document import Finding, Path
from impact_schemas.catalog.forms import NAME
from impact_schemas.catalog.judging_rules import check_segment
from impact_schemas.catalog.measure_rules import check_unit
from impact_schemas.catalog.wording import unknown
from impact_schemas.numbers import LIMIT
from impact_schemas.units import UnitMismatch, conversion

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from impact_schemas.catalog.factors import FactorSet
    from impact_schemas.catalog.loop import Bet
    from impact_schemas.catalog.metric_rules import MetricRules
    from impact_schemas.catalog.models import Catalog, Consistency

_NAMED = ("needs", "bets", "factors", "imports")


def check_product(
    catalog: Catalog,
    needs: frozenset[str] | None,
    metrics: frozenset[str] | None,
    rules_of: Callable[[str], MetricRules],
    broken: Collection[Path],
) -> Iterator[Finding]:
    """`needs` and `metrics` are the names there are, None if they could not all be read."""
    for section in _NAMED:
        for name in getattr(catalog, section):
            if not NAME.fits(name):
                yield Finding((section, name), f"expected {NAME.words} as a name", on_key=True)
    for name, bet in catalog.bets.items():
        yield from _check_bet(("bets", name), bet, catalog, needs, metrics, rules_of)
    yield from _check_twice("risks", "id", [risk.id for risk in catalog.risks])
    for index, risk in enumerate(catalog.risks):
        if risk.metric is not None:
            yield from _check_metric(("risks", index, "metric"), risk.metric, metrics)
    yield from _check_twice("stakeholders", "name", [one.name for one in catalog.stakeholders])
    for index, stakeholder in enumerate(catalog.stakeholders):
        for position, name in enumerate(stakeholder.metrics):
            yield from _check_metric(("stakeholders", index, "metrics", position), name, metrics)
    for name, factors in catalog.factors.items():
        if not {("factors", name, "editions"), ("factors", name, "file")} & set(broken):
            yield from _check_factors(("factors", name), factors)
    yield from _check_twice("consistency", "rule", [one.rule for one in catalog.consistency])
    for index, rule in enumerate(catalog.consistency):
        yield from _check_consistency(("consistency", index), rule, catalog, metrics)


def look_at_purpose(catalog: Catalog) -> Iterator[Finding]:
    """What is no fault and deserves a second look: harm that nobody would see."""
    if not any(metric.role == "guardrail" for metric in catalog.metrics.values()):
        reason = "no metric is a guardrail: which harm must stay low, and who would see it?"
        yield Finding(("metrics",), reason, on_key=True)
    for index, risk in enumerate(catalog.risks):
        metric = None if risk.metric is None else catalog.metrics[risk.metric]
        if metric is None:
            yield Finding(("risks", index), f"the risk {risk.id} has no metric that would show it")
        elif metric.role != "guardrail":
            reason = f"{risk.metric} is {metric.role}: a guardrail would warn of the risk {risk.id}"
            yield Finding(("risks", index, "metric"), reason)
    for index, one in enumerate(catalog.stakeholders):
        for position, name in enumerate(one.metrics if one.audience == "public" else ()):
            if catalog.metrics[name].visibility == "internal":
                place = ("stakeholders", index, "metrics", position)
                yield Finding(place, f"{name} is internal: {one.name} is public and is not shown it")
    for name, metric in catalog.metrics.items():
        if metric.ratio is not None and "unit" in metric.model_fields_set:
            yield from _look_at_ratio(name, catalog)


def _look_at_ratio(name: str, catalog: Catalog) -> Iterator[Finding]:
    """A ratio is the quotient of two numbers: that it is called % makes it no hundred times greater."""
    metric = catalog.metrics[name]
    above, below = (catalog.metrics[part].unit for part in metric.derived_from)
    if conversion(f"({above})/({below})", metric.unit) != 1:
        reason = f"its values are in ({above})/({below}): they are not converted to {metric.unit}"
        yield Finding(("metrics", name, "unit"), reason)


def _check_metric(where: Path, name: str, metrics: frozenset[str] | None) -> Iterator[Finding]:
    if metrics is not None and name not in metrics:
        yield Finding(where, unknown("metric", name, metrics))


def _check_twice(section: str, field: str, names: list[str]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Finding((section, index, field), f"{name} is there twice")


def _check_bet(
    where: Path,
    bet: Bet,
    catalog: Catalog,
    needs: frozenset[str] | None,
    metrics: frozenset[str] | None,
    rules_of: Callable[[str], MetricRules],
) -> Iterator[Finding]:
    if needs is not None and bet.need not in needs:
        yield Finding((*where, "need"), unknown("need", bet.need, needs))
    if bet.cost is not None:
        yield from check_unit(bet.cost.unit, (*where, "cost", "unit"))
    if bet.business_metric is not None:
        yield from _check_metric((*where, "business_metric"), bet.business_metric, metrics)
        business = catalog.metrics.get(bet.business_metric)
        if business is not None and business.role != "business":
            reason = f"expected a business metric, {bet.business_metric} is {business.role}"
            yield Finding((*where, "business_metric"), reason)
    for index, expected in enumerate(bet.expects):
        place = (*where, "expects", index)
        yield from _check_metric((*place, "metric"), expected.metric, metrics)
        if expected.metric in catalog.metrics:
            yield from check_segment(rules_of(expected.metric), expected.segment, (*place, "segment"))
        if bet.launched is not None and expected.by <= bet.launched:
            yield Finding((*place, "by"), f"must be after the launch, {bet.launched}")


def _check_factors(where: Path, factors: FactorSet) -> Iterator[Finding]:
    yield from check_unit(factors.unit, (*where, "unit"))
    stated = factors.file is None
    if stated and not factors.editions:
        yield Finding(where, "needs editions, or the file that has them", on_key=True)
    keyed = {bool(edition.values) for edition in factors.editions}
    for index, edition in enumerate(factors.editions):
        # a row of a file has its place there, of which nothing is known here
        place = (*where, "editions", index) if stated else (*where, "file")
        before = factors.editions[:index]
        if edition.version in [one.version for one in before]:
            yield Finding((*place, "version") if stated else place, f"{edition.version} is there twice")
        if edition.valid_from in [one.valid_from for one in before]:
            reason = f"two editions are valid from {edition.valid_from}"
            yield Finding((*place, "valid_from") if stated else place, reason)
        if (edition.value is None) == (not edition.values):
            yield Finding(place, "needs value or values, one of them")
        if not all(-LIMIT < value < LIMIT for value in edition.by_key().values()):
            yield Finding(place, "expected factors between -10^15 and 10^15")
    if len(keyed) > 1:
        yield Finding(where, "some editions have keys and some have not", on_key=True)


def _check_consistency(
    where: Path, rule: Consistency, catalog: Catalog, metrics: frozenset[str] | None
) -> Iterator[Finding]:
    yield from _check_metric((*where, "part"), rule.part, metrics)
    yield from _check_metric((*where, "whole"), rule.whole, metrics)
    part, whole = catalog.metrics.get(rule.part), catalog.metrics.get(rule.whole)
    if part is None or whole is None:
        return
    if rule.part == rule.whole:
        yield Finding((*where, "part"), "part and whole are the same metric")
    elif not set(part.windows) & set(whole.windows):
        yield Finding((*where, "part"), f"{rule.part} and {rule.whole} share no window")
    elif not _comparable(part.unit, whole.unit):
        reason = f"{rule.part} is in {part.unit}, {rule.whole} in {whole.unit}: they cannot be compared"
        yield Finding((*where, "part"), reason)


def _comparable(one: str, other: str) -> bool:
    try:
        return conversion(one, other) == 1
    except UnitMismatch:
        return one == other
