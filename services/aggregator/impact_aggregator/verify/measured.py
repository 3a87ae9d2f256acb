"""Values that are converted or multiplied, each by itself: written for this recomputation alone. Pure.

Units are read by pint, through ucumvert, whose factors are doubles: a converted sum has a tolerance. What is
only multiplied with a factor of the catalog is exact.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ucumvert import PintUcumRegistry

    from impact_aggregator.verify.definitions import Metric

_WIDE = Context(prec=600)
_NINE_PLACES = Decimal("1e-9")
_ANNOTATION = re.compile(r"\{[^{}]*\}")
_LONE_ANNOTATION = re.compile(r"(?<![^./(])\{[^{}]*\}")
_CURRENCY = re.compile(r"(?<![^./(])[A-Z]{3}(?![^./){])")
_STAND_INS = ("cd", "K")  # base units for currencies, which the library does not know
# of a double, with the conversions on the way: relative to the sum of what was converted
CONVERTED_TOLERANCE = 1e-13


class FactorUse(msgspec.Struct, frozen=True):
    """The factor set that a metric multiplies with."""

    set: str
    key: str | None = None


class Edition(msgspec.Struct, frozen=True):
    """Factors that hold from a day on."""

    version: str
    valid_from: str
    value: Decimal | None = None
    values: dict[str, Decimal] = {}


class FactorSet(msgspec.Struct, frozen=True):
    """The editions of one set."""

    unit: str
    editions: tuple[Edition, ...] = ()


class Measured(NamedTuple):
    """The values of one metric under one edition of its factors, as a column of the events."""

    column: str
    since: int | None  # microseconds: it holds for events from then on; None: for all
    of: list[str]  # keys into the data
    unit: list[str] | None
    key: list[str] | None
    target: str  # the unit that the product of value and factor is converted to
    factor_unit: str
    factors: Mapping[str, Decimal] | None  # by key, under an empty one where there are none; None: no factor

    def value(self, data: Any, read: Any) -> str | None:
        """The number in units of 10^-9 as text, of an event with this data; None where there is none."""
        value = read(data, self.of)
        if type(value) is not int and type(value) is not Decimal:
            return None
        number = Decimal(value)
        if self.factors is not None:
            key = "" if self.key is None else read(data, self.key)
            factor = self.factors.get(key) if isinstance(key, str) else None
            if factor is None:
                return None
            number = _WIDE.multiply(number, factor)
        if self.unit is not None:
            ratio = _ratio(read(data, self.unit), self.factor_unit, self.target)
            if ratio is None:
                return None
            number = _WIDE.multiply(number, ratio)
        return str(int(number.quantize(_NINE_PLACES, ROUND_HALF_EVEN, _WIDE).scaleb(9, _WIDE)))


def measured_of(metrics: Iterable[Metric]) -> dict[int, list[Measured]]:
    """By the number of each metric whose values are converted or multiplied: a column for each edition."""
    found = {}
    for metric in metrics:
        definition = metric.definition
        if definition.of is not None and (definition.unit_path or definition.factor):
            found[metric.number] = list(_columns(metric))
    return found


def _columns(metric: Metric) -> Iterator[Measured]:
    definition = metric.definition
    editions: list[Edition | None] = [None]
    if definition.factor_set is not None:
        editions = [*sorted(definition.factor_set.editions, key=_valid_from, reverse=True)]
    for place, edition in enumerate(editions):
        factors = None
        if edition is not None:
            factors = edition.values if edition.value is None else {"": edition.value}
        yield Measured(
            f"measured_{metric.number}_{place}",
            None if edition is None else _midnight(edition.valid_from),
            _keys(definition.of or ""),
            _keys(definition.unit_path) if definition.unit_path else None,
            _keys(definition.factor.key) if definition.factor and definition.factor.key else None,
            definition.unit,
            definition.factor_set.unit if definition.factor_set else "1",
            factors,
        )


def _valid_from(edition: Edition) -> str:
    return edition.valid_from


def value_sql(columns: Iterable[Measured]) -> str:
    """SQL: the value of the edition that is valid at `time`, the newest edition first."""
    every = list(columns)
    if every[0].since is None:
        return every[0].column
    cases = " ".join(f"WHEN time >= {one.since} THEN {one.column}" for one in every)
    return f"CASE {cases} END"


def _keys(path: str) -> list[str]:
    return path.split(".")[1:]


def _midnight(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1_000_000


@lru_cache(maxsize=4096)
def _ratio(source: Any, factor: str, target: str) -> Decimal | None:
    """What a value in `source` x `factor` is multiplied with to be in `target`; None if it cannot be."""
    if not isinstance(source, str):
        return None
    if source == target and factor == "1":
        return Decimal(1)
    texts = [_LONE_ANNOTATION.sub("1", text) for text in (source, factor, target)]
    codes = sorted({code for text in texts for code in _CURRENCY.findall(text)})
    stands_for = dict(zip(codes, _STAND_INS, strict=False))
    try:
        given, by, wanted = (
            _library().from_ucum(_CURRENCY.sub(lambda code: stands_for[code[0]], _ANNOTATION.sub("", text)))
            for text in texts
        )
        ratio = (given * by / wanted).to_base_units()
    except Exception:  # noqa: BLE001 (a parser's, a grammar's and a registry's errors have nothing in common)
        return None
    return Decimal(f"{ratio.magnitude:.15g}") if ratio.dimensionless else None


@lru_cache(maxsize=1)
def _library() -> PintUcumRegistry:
    from ucumvert import PintUcumRegistry  # it takes seconds, and most definitions convert nothing

    return PintUcumRegistry()
