"""What a metric must fulfil to turn an event's value into a number: unit, factor, scale, consent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from impact_schemas.catalog.document import Finding, Path
from impact_schemas.catalog.wording import one_of, unknown
from impact_schemas.units import UnknownUnit, read_unit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_schemas.catalog.metric_rules import MetricRules

_VALUED = ("sum", "mean", "min", "max", "latest")


def check_unit(text: str, where: Path) -> Iterator[Finding]:
    """Says why a text is no unit."""
    try:
        read_unit(text)
    except UnknownUnit as error:
        yield Finding(where, str(error))


def check_measure(rules: MetricRules) -> Iterator[Finding]:
    """Units, factors, scale and consent of one metric."""
    if "unit" in rules.metric.model_fields_set:
        yield from check_unit(rules.metric.unit, rules.at("unit"))
    if rules.metric.derivation is not None:
        return
    yield from _check_unit_path(rules)
    yield from _check_factor(rules)
    yield from _check_scale(rules)
    if rules.metric.consent is not None:
        yield from _check_type(rules, rules.metric.consent, "boolean", rules.at("consent"))


def _check_type(rules: MetricRules, path: str, wanted: str, where: Path) -> Iterator[Finding]:
    for found in rules.at_path(path):
        if isinstance(found, str):
            yield Finding(where, found)
        elif found.stated and not found.types <= {wanted, "null"}:
            yield Finding(where, f"expected {wanted} at {path}, it is {found.names()}")


def _check_unit_path(rules: MetricRules) -> Iterator[Finding]:
    metric = rules.metric
    if metric.unit_path is None:
        return
    where = rules.at("unit_path")
    if metric.aggregate in ("count", "unique"):
        reason = f"{metric.aggregate} has no value with a unit: only values can be converted"
        yield Finding(where, reason, on_key=True)
    yield from rules.check_hidden(metric.unit_path, where)
    yield from _check_type(rules, metric.unit_path, "string", where)


def _check_factor(rules: MetricRules) -> Iterator[Finding]:
    metric = rules.metric
    if metric.factor is None:
        return
    where = rules.at("factor")
    if metric.aggregate not in (None, *_VALUED):
        reason = f"{metric.aggregate} has no values to multiply: a factor goes with {one_of(_VALUED)}"
        yield Finding(where, reason, on_key=True)
    factors = rules.catalog.factors.get(metric.factor.set)
    if factors is None:
        gone = ("factors",) in rules.broken or ("factors", metric.factor.set) in rules.broken
        if not gone:
            there = rules.catalog.factors
            yield Finding((*where, "set"), unknown("factor set", metric.factor.set, there))
        return
    keyed = any(edition.values for edition in factors.editions)
    if metric.factor.key is None:
        if keyed:
            yield Finding(where, f"{metric.factor.set} has keys: say {{set, key}} with the path of the key")
        return
    if factors.editions and not keyed:
        yield Finding((*where, "key"), f"{metric.factor.set} has no keys: leave it out", on_key=True)
    yield from rules.check_hidden(metric.factor.key, (*where, "key"))
    yield from _check_type(rules, metric.factor.key, "string", (*where, "key"))


def _check_scale(rules: MetricRules) -> Iterator[Finding]:
    metric = rules.metric
    scale = metric.scale
    if scale is None:
        return
    where = rules.at("scale")
    if metric.aggregate not in (None, "mean"):
        reason = f"a scale goes with the mean of scores, the aggregate is {metric.aggregate}"
        yield Finding(where, reason, on_key=True)
    for field in ("unit_path", "factor"):
        if getattr(metric, field) is not None:
            yield Finding(rules.at(field), "not together with scale: a score is not converted", on_key=True)
    if not scale.min < scale.max:
        yield Finding((*where, "max"), f"must be greater than min, {scale.min}")
    elif scale.top_box is not None and not scale.min <= scale.top_box <= scale.max:
        yield Finding((*where, "top_box"), f"must be between {scale.min} and {scale.max}")
