"""How events become a number: conditions, splits, factors, scales, and metrics that are made of others."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from impact_schemas.catalog.forms import (
    NAME,
    DataPath,
    Number,
    Part,
    Scalar,
    Text,
    Values,
    read_values,
    refusal,
)

Aggregate = Literal["count", "sum", "mean", "min", "max", "latest", "unique", "p50", "p90", "p95", "p99"]
Window = Literal["5m", "1h", "24h", "7d", "28d", "90d", "365d", "all"]

AGGREGATES: tuple[str, ...] = get_args(Aggregate)
WINDOWS: tuple[str, ...] = get_args(Window)


class OneOf(Part):
    """A condition of `where`: the value at the path is one of these (None: it is there, and null)."""

    values: tuple[str | bool | int | Decimal | None, ...]


class Compare(Part):
    """A condition of `where`: every bound that is given holds, and the value is none of `ne`."""

    gt: Number | None = None
    """greater than this number"""
    gte: Number | None = None
    """this number or greater"""
    lt: Number | None = None
    """less than this number"""
    lte: Number | None = None
    """this number or less"""
    ne: Values = ()
    """any value but this one, or these"""


def _read_condition(value: object) -> OneOf | Compare:
    if not isinstance(value, dict):
        return OneOf(values=read_values(value))
    if not value:
        raise refusal("a value, a list of values, or at least one of gt, gte, lt, lte, ne", value)
    return Compare.model_validate(value)


Condition = Annotated[
    OneOf | Compare,
    BeforeValidator(
        _read_condition,
        json_schema_input_type=str | bool | float | None | list[str | bool | float | None] | Compare,
    ),
]


class Dimension(Part):
    """By what a metric is split."""

    path: DataPath
    """where the value stands in the event: data.language"""
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    """the values to show; all others become "(other)\""""


class Ratio(Part):
    """Two metrics of the same file; they are rolled up apart, and divided at the end."""

    numerator: str
    """the metric above the line"""
    denominator: str
    """the metric below the line"""


class Difference(Part):
    """Two metrics of the same file, of like quantity and unit: what is left of the one without the other."""

    of: str
    """the metric that is subtracted from"""
    minus: str
    """the metric that is subtracted"""


class FactorUse(Part):
    """The factor that an event's value is multiplied with: that of a set, valid at the event's time."""

    set: Annotated[str, NAME]
    """a factor set of this file"""
    key: DataPath | None = None
    """where the key stands in the event, for a set with keys: data.haul"""


class Scale(Part):
    """The instrument of a score, and what it can be: scores beyond its bounds are refused."""

    instrument: Text | None = None
    """its name: WHO-5"""
    min: Number
    """the least score"""
    max: Number
    """the greatest score"""
    top_box: Number | None = None
    """scores of this and more are the top box, whose share is shown too"""


class Experiment(Part):
    """Where an event says which arm of an experiment it belongs to."""

    arm: DataPath
    """where the arm stands in the event: data.arm"""
    control: Scalar
    """the arm that the others are compared with"""
