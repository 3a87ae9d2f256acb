"""From the value in an event to the number that a metric counts: unit, factor, scale. Pure.

number = value x (event's unit in the metric's unit) x (factor valid at the event's time), rounded once.
Without `unit_path` a value, or its product with the factor, is in the metric's unit.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, time
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from impact_schemas import numbers
from impact_schemas.event_data import reader
from impact_schemas.units import UnitMismatch, load_library, quotient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from impact_schemas.catalog import FactorSet, Metric

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CACHED = 1024  # pairs of a unit and a factor: a product has few


class CannotMeasure(ValueError):
    """An event's value cannot be counted; `code` is the verdict, `path` where in the event it lies."""

    def __init__(self, code: str, detail: str, path: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail  # never quotes what was sent
        self.path = path


class _Edition(NamedTuple):
    valid_from: int  # microseconds since 1970
    version: str
    factors: Mapping[str, Fraction]  # by key; under an empty key where the set has none


class Measure:
    """How one metric reads its numbers."""

    def __init__(self, metric: Metric, factors: FactorSet | None) -> None:
        self._unit = metric.unit
        self._path = metric.of or "data"
        self._unit_path = metric.unit_path
        self._read_unit = reader(metric.unit_path) if metric.unit_path else None
        self._factor_unit = factors.unit if factors else "1"
        self._editions = _editions(factors) if factors else []
        self._starts = [edition.valid_from for edition in self._editions]
        key = metric.factor.key if metric.factor else None
        self._key_path = key or self._path
        self._read_key = reader(key) if key else None
        self._scale = metric.scale
        self._ratio = lru_cache(maxsize=_CACHED)(self._ratio_of)
        if metric.unit_path:
            load_library()  # an event may bring any unit: nobody shall wait for it then

    def nanos(self, value: int | Decimal, data: Any, moment: int) -> int:
        """The number in units of 10^-9, of an event at `moment` (microseconds). Raises CannotMeasure."""
        self.check_scale(value)
        ratio = self._ratio(self.unit_in(data), *self._edition(data, moment))
        numerator, denominator = value.as_integer_ratio()
        exact = numerator * ratio.numerator * numbers.ONE
        nanos = numbers.divide_by_count(exact, denominator * ratio.denominator)
        if abs(nanos) >= numbers.LIMIT * numbers.ONE:
            raise CannotMeasure("value_out_of_range", "the number is not below 10^15", self._path)
        return nanos

    def check_scale(self, value: float | Decimal) -> None:
        """Raises CannotMeasure for a score beyond the bounds of its instrument."""
        scale = self._scale
        if scale is not None and not scale.min <= value <= scale.max:
            detail = f"the score is not between {scale.min} and {scale.max}"
            raise CannotMeasure("value_out_of_range", detail, self._path)

    def unit_in(self, data: Any) -> str:
        """The event's unit, which can be converted. Raises CannotMeasure."""
        if self._read_unit is None or self._unit_path is None:
            return ""
        unit = self._read_unit(data)
        try:
            if isinstance(unit, str):
                quotient(unit, self._unit, self._factor_unit)
                return unit
        except UnitMismatch:
            pass
        of = self._unit if self._factor_unit == "1" else f"{self._unit} by {self._factor_unit}"
        detail = f"the unit cannot be converted to {of}: send a UCUM unit of the same kind"
        raise CannotMeasure("unit_mismatch", detail, self._unit_path)

    def _edition(self, data: Any, moment: int) -> tuple[int, str]:
        """Which edition holds, and the key in it. Raises CannotMeasure."""
        if not self._editions:
            return -1, ""
        index = bisect_right(self._starts, moment) - 1
        if index < 0:
            detail = f"no factor is valid at its time: the first edition is {self._editions[0].version}"
            raise CannotMeasure("factor_missing", detail, self._key_path)
        key = "" if self._read_key is None else self._read_key(data)
        if not isinstance(key, str) or key not in self._editions[index].factors:
            version = self._editions[index].version
            detail = f"edition {version} of the factors has no such key: add it to the catalog, then replay"
            raise CannotMeasure("factor_missing", detail, self._key_path)
        return index, key

    def _ratio_of(self, unit: str, edition: int, key: str) -> Fraction:
        ratio = quotient(unit, self._unit, self._factor_unit) if unit else Fraction(1)
        return ratio * self._editions[edition].factors[key] if edition >= 0 else ratio


def measure_of(metric: Metric, factor_sets: Mapping[str, FactorSet]) -> Measure | None:
    """None for a metric whose numbers stand in its events as they are counted."""
    if metric.unit_path is None and metric.factor is None and metric.scale is None:
        return None
    return Measure(metric, factor_sets[metric.factor.set] if metric.factor else None)


def _editions(factors: FactorSet) -> list[_Edition]:
    found = [
        _Edition(
            int((datetime.combine(edition.valid_from, time.min, UTC) - _EPOCH).total_seconds()) * 1_000_000,
            edition.version,
            {key: Fraction(value) for key, value in edition.by_key().items()},
        )
        for edition in factors.editions
    ]
    return sorted(found, key=lambda edition: edition.valid_from)
