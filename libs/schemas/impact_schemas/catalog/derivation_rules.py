"""What a metric that is made of others must fulfil: metrics that are there, counted, and of like kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from impact_schemas.catalog.document import Finding, Path
from impact_schemas.catalog.wording import one_of, unknown
from impact_schemas.units import UnitMismatch, UnknownUnit, conversion, quotient, read_unit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_schemas.catalog.metric import Metric
    from impact_schemas.catalog.metric_rules import MetricRules

DERIVATIONS = ("ratio", "sum_of", "difference")
_COUNTED_ONLY = (
    *("event", "where", "aggregate", "of", "per"),
    *("unit_path", "factor", "scale", "consent"),
)
_ADDABLE = ("count", "sum")


def check_derivation(rules: MetricRules, ways: list[str]) -> Iterator[Finding]:
    """Of a metric that says `ways`, some of DERIVATIONS, in place of events."""
    metric = rules.metric
    for other in ways[1:]:
        yield Finding(rules.at(other), f"not together with {ways[0]}: say one of them", on_key=True)
    for field in _COUNTED_ONLY:
        if field in metric.model_fields_set:
            whose = "its two metrics say this" if ways[0] != "sum_of" else "its metrics say this"
            yield Finding(rules.at(field), f"not together with {ways[0]}: {whose}", on_key=True)
    places = dict(_places(metric))
    for where, name in places.items():
        yield from _check_part(rules, ways[0], rules.at(*where), name)
    if ways[0] == "sum_of" and len(metric.sum_of) < 2:
        yield Finding(rules.at("sum_of"), "needs two metrics or more, to be added up")
    parts = {
        where: part for where, name in places.items() if (part := rules.catalog.metrics.get(name)) is not None
    }
    if len(parts) == len(places):
        yield from _check_windows(rules, ways[0], list(parts.values()))
        if ways[0] == "ratio":
            yield from _check_ratio_unit(rules, *parts.values())
        else:
            yield from _check_kinds(rules, ways[0], parts)


def _places(metric: Metric) -> Iterator[tuple[Path, str]]:
    """(path seen from the metric, name) of each metric that it is made of."""
    if metric.ratio is not None:
        yield ("ratio", "numerator"), metric.ratio.numerator
        yield ("ratio", "denominator"), metric.ratio.denominator
    elif metric.difference is not None:
        yield ("difference", "of"), metric.difference.of
        yield ("difference", "minus"), metric.difference.minus
    else:
        for index, name in enumerate(metric.sum_of):
            yield ("sum_of", index), name


def _check_part(rules: MetricRules, way: str, where: Path, name: str) -> Iterator[Finding]:
    part = rules.catalog.metrics.get(name)
    what = {"ratio": "ratio", "sum_of": "sum", "difference": "difference"}[way]
    if name == rules.name:
        yield Finding(where, f"a {what} cannot be made of itself")
    elif rules.metrics is not None and name not in rules.metrics:
        yield Finding(where, unknown("metric", name, rules.metrics))
    elif part is None:
        return
    elif part.ratio is not None or (part.derivation is not None and way != "ratio"):
        kind = "a ratio" if part.ratio else "made of others"
        yield Finding(where, f"{name} is {kind} itself: a {what} is made of metrics with events")
    elif way != "ratio" and part.aggregate not in (None, *_ADDABLE):
        reason = f"{name} is {part.aggregate}: only {one_of(_ADDABLE)} can be added and subtracted"
        if part.aggregate == "unique":
            reason += ", for who is in both would count twice"
        yield Finding(where, reason)
    names = [other for _, other in _places(rules.metric)]
    if names.count(name) > 1 and name != rules.name:
        if way == "ratio" and where[-1] == "denominator":
            reason = "numerator and denominator are the same metric: it is always 1"
            yield Finding(rules.at("ratio"), reason)
        elif way == "difference" and where[-1] == "minus":
            yield Finding(rules.at("difference"), "of and minus are the same metric: it is always 0")
        elif way == "sum_of" and name in rules.metric.sum_of[: int(where[-1])]:
            yield Finding(where, f"{name} is there twice")


def _check_windows(rules: MetricRules, way: str, parts: list[Metric]) -> Iterator[Finding]:
    """Each window would be worked out anyway; but parts that share none are not meant for each other."""
    stated = [part for part in parts if "windows" in part.model_fields_set]
    if len(stated) > 1 and not set.intersection(*(set(part.windows) for part in stated)):
        windows = " and ".join(f"({one_of(part.windows)})" for part in stated)
        yield Finding(rules.at(way), f"its metrics share no window: {windows}")


def _check_ratio_unit(rules: MetricRules, above: Metric, below: Metric) -> Iterator[Finding]:
    """A unit that is stated must be what the quotient is in, up to a factor like that of %."""
    metric = rules.metric
    if "unit" not in metric.model_fields_set:
        return
    try:
        quotient(above.unit, metric.unit, f"1/({below.unit})")
    except UnitMismatch:
        if all(_is_unit(one.unit) for one in (metric, above, below)):
            reason = f"{above.unit} divided by {below.unit} is not {metric.unit}"
            yield Finding(rules.at("unit"), reason)


def _check_kinds(rules: MetricRules, way: str, parts: dict[Path, Metric]) -> Iterator[Finding]:
    """Like quantity and unit: unlike kinds never add."""
    metric = rules.metric
    (_, first), *others = parts.items()
    for where, part in others:
        if part.quantity != first.quantity and None not in (part.quantity, first.quantity):
            reason = f"{part.quantity} cannot be added to {first.quantity}: unlike kinds never add"
            yield Finding(rules.at(*where), reason)
        elif not _same_unit(part.unit, first.unit):
            yield Finding(rules.at(*where), f"its unit is {part.unit}, that of the first is {first.unit}")
    if metric.quantity != first.quantity and None not in (metric.quantity, first.quantity):
        yield Finding(rules.at("quantity"), f"its metrics are of the kind {first.quantity}")
    if not _same_unit(metric.unit, first.unit):
        stated = "unit" in metric.model_fields_set
        place = rules.at("unit") if stated else rules.at(way)
        yield Finding(place, f"its metrics are in {first.unit}: say unit: {first.unit}", on_key=not stated)


def _same_unit(one: str, other: str) -> bool:
    """Whether the same number means the same in both; a text that is no unit is a fault of its own."""
    try:
        return conversion(one, other) == 1
    except UnitMismatch:
        return not (_is_unit(one) and _is_unit(other))


def _is_unit(text: str) -> bool:
    try:
        read_unit(text)
    except UnknownUnit:
        return False
    return True
