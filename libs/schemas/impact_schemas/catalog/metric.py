"""A metric: the rule that turns events into a number, and all that is said about the number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field

from impact_schemas.catalog.counting import (
    Aggregate,
    Condition,
    Difference,
    Dimension,
    Experiment,
    FactorUse,
    Ratio,
    Scale,
    Window,
)
from impact_schemas.catalog.forms import (
    NAME,
    PATH,
    SLUG,
    SUBJECT_OR_PATH,
    UNIT,
    DataPath,
    Duration,
    Part,
    Text,
)
from impact_schemas.catalog.judging import (
    Benchmark,
    Codes,
    Divergence,
    Equity,
    Evidence,
    EvidenceLevel,
    Limits,
    Net,
    Privacy,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["impact", "business", "guardrail"]
Level = Literal["input", "activity", "output", "outcome", "impact"]
Direction = Literal["up", "down"]


def _one_as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _path_as_dimension(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _level_as_evidence(value: object) -> object:
    return {"level": value} if isinstance(value, str) else value


def _set_as_factor(value: object) -> object:
    return {"set": value} if isinstance(value, str) else value


class Metric(Part):
    """A rule that turns events into a number: `event` and `aggregate`, or `ratio`, `sum_of`, `difference`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["event", "aggregate"]},
                {"required": ["ratio"]},
                {"required": ["sum_of"]},
                {"required": ["difference"]},
            ]
        }
    )

    title: Text
    """the name that people read"""
    description: str | None = None
    """what it means, in a sentence or two"""
    event: Annotated[
        tuple[str, ...], BeforeValidator(_one_as_list, json_schema_input_type=str | list[str])
    ] = ()
    """the event type that it counts, or a list of types"""
    where: Annotated[
        dict[str, Condition], Field(json_schema_extra={"propertyNames": {"pattern": PATH.pattern}})
    ] = Field(default_factory=dict)
    """count only events with these values: path -> value, list of values, or {gt|gte|lt|lte|ne: value}"""
    aggregate: Aggregate | None = None
    """how the values of many events become one number"""
    of: Annotated[str, SUBJECT_OR_PATH] | None = None
    """what is aggregated: subject, or data.<path>; not for count"""
    per: DataPath | None = None
    """for latest: the sum over the places at this path of each one's latest"""
    ratio: Ratio | None = None
    """instead of event and aggregate: two metrics of this file, {numerator, denominator}"""
    sum_of: tuple[str, ...] = ()
    """instead of event and aggregate: counts or sums of this file, of like quantity and unit, added up"""
    difference: Difference | None = None
    """instead of event and aggregate: two counts or sums of this file, {of, minus}"""
    unit_path: DataPath | None = None
    """where the event's own UCUM unit stands; its value is converted to the metric's unit: data.unit"""
    factor: Annotated[
        FactorUse | None,
        BeforeValidator(_set_as_factor, json_schema_input_type=str | FactorUse | None),
    ] = None
    """the factor that each value is multiplied with: a set of this file, or {set, key}"""
    scale: Scale | None = None
    """of a mean of scores: {instrument, min, max, top_box}"""
    consent: DataPath | None = None
    """an event counts only if this path is true: data.consent"""
    unit: Annotated[str, UNIT] = "1"
    """UCUM, or ISO 4217 for money"""
    quantity: Annotated[str, SLUG] | None = None
    """the kind of quantity, any slug; unlike kinds never mix"""
    role: Role
    """impact, business, or guardrail (a harm that must stay low)"""
    level: Level = "output"
    """how far along the chain from input to impact"""
    direction: Direction = "up"
    """which way is better"""
    dimensions: Annotated[
        dict[
            str,
            Annotated[Dimension, BeforeValidator(_path_as_dimension, json_schema_input_type=str | Dimension)],
        ],
        Field(json_schema_extra={"propertyNames": {"pattern": NAME.pattern}}),
    ] = Field(default_factory=dict)
    """by what it is split: name -> path, or {path, values: [...]}"""
    cuts: tuple[tuple[str, ...], ...] = ()
    """combinations of dimensions to publish too: [[language, clinic]]"""
    windows: Annotated[tuple[Window, ...], Field(min_length=1)] = ("24h", "28d", "all")
    """the windows to publish"""
    cadence: Duration | None = None
    """a longer silence than this means stale: 1d"""
    evidence: Annotated[
        Evidence, BeforeValidator(_level_as_evidence, json_schema_input_type=EvidenceLevel | Evidence)
    ] = Evidence()
    """how the number is known: a level, or {level, method, source, owner, reviewed}"""
    codes: Codes = Codes()
    """the same thing in standards: {sdg: [...], iris: [...]}"""
    privacy: Privacy | None = None
    """suppression of small cells: {min_cell, block}"""
    equity: Equity | None = None
    """gaps between groups: {dimension, reference, population}"""
    targets: tuple[Target, ...] = ()
    """values to reach: {window, baseline, value, due, segment, path}"""
    experiment: Experiment | None = None
    """the arms to compare: {arm, control}"""
    leads_to: tuple[str, ...] = ()
    """the metrics of this file that it leads to: output -> outcome -> impact"""
    visibility: Literal["internal", "public"] = "internal"
    """whether a public report may show it"""
    limits: Limits | None = None
    """of a guardrail: {max, min, window}"""
    net: Net | None = None
    """what of it is owed to the product: {deadweight, attribution, displacement, drop_off, source}"""
    benchmarks: tuple[Benchmark, ...] = ()
    """what others reach: {label, value, unit, source, year}"""
    divergence: Divergence | None = None
    """the business metric to watch it against: {business, over}"""

    @property
    def derived_from(self) -> tuple[str, ...]:
        """The metrics that it is made of; none: it is counted from events.

        Of a ratio numerator and denominator, of a difference the minuend and the subtrahend.
        """
        if self.ratio is not None:
            return (self.ratio.numerator, self.ratio.denominator)
        if self.difference is not None:
            return (self.difference.of, self.difference.minus)
        return self.sum_of

    @property
    def derivation(self) -> Literal["ratio", "difference", "sum_of"] | None:
        """How it is made of other metrics; None: it is counted from events."""
        if self.ratio is not None:
            return "ratio"
        if self.difference is not None:
            return "difference"
        return "sum_of" if self.sum_of else None


class Signed(NamedTuple):
    """A counted metric with the sign that it has in a sum."""

    name: str
    sign: int


def sums_of(name: str, metrics: Mapping[str, Metric]) -> tuple[tuple[Signed, ...], tuple[Signed, ...]]:
    """What a metric is worked out of: a sum of counted metrics, and for a ratio the sum that divides it.

    Of a counted metric itself alone. Names that are not there, or not made of events, are left out.
    """
    metric = metrics[name]
    if metric.ratio is None:
        return _signed(name, metrics), ()
    return _signed(metric.ratio.numerator, metrics), _signed(metric.ratio.denominator, metrics)


def _signed(name: str, metrics: Mapping[str, Metric]) -> tuple[Signed, ...]:
    metric = metrics.get(name)
    if metric is None or metric.ratio is not None:
        return ()
    subtracted = None if metric.difference is None else metric.difference.minus
    names = metric.derived_from or (name,)
    return tuple(
        Signed(one, -1 if one == subtracted else 1)
        for one in names
        if one in metrics and metrics[one].derivation is None
    )


def sources_of(name: str, metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    """The counted metrics that a metric is worked out of, itself if it is counted."""
    above, below = sums_of(name, metrics)
    return tuple(one.name for one in (*above, *below))
