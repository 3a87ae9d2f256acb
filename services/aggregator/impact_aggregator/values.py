"""From what the buckets hold to the value that people look at: number, n and status. Pure.

Unknown is not zero: `suppressed`, `no_data`, `stale`, `ok`, the first that holds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from impact_aggregator.rules import ARM, TOTAL, Series, arm_path
from impact_aggregator.windows import ALL_TIME
from impact_schemas import numbers
from impact_schemas.catalog.metric import sums_of
from impact_schemas.catalog.protection import families

if TYPE_CHECKING:
    from collections.abc import Mapping

    from impact_aggregator.partial import Partial
    from impact_schemas.catalog import Catalog, Metric
    from impact_schemas.catalog.metric import Signed

Name = tuple[str, str]  # product, metric
_MICROSECOND = timedelta(microseconds=1)


class Reading(NamedTuple):
    """A value as it is published: in nanos, None unless the status is ok or stale."""

    value: int | None
    n: int | None
    status: str


class Spread(NamedTuple):
    """Of the values behind a mean: what their variance and their top box are worked out from."""

    total: int  # their sum, in nanos
    squares: int  # the sum of their squares, in units of 10^-18
    top: int | None  # how many are in the top box


class Term(NamedTuple):
    """One counted metric in a sum: what its partial aggregates give, added or subtracted."""

    aggregate: str
    sign: int = 1


class Formula(NamedTuple):
    """How a value is worked out of counted metrics: a sum, and for a ratio the sum that divides it."""

    above: tuple[Term, ...]
    below: tuple[Term, ...] = ()


class Input(NamedTuple):
    """What a formula is fed with: a partial aggregate for each of its terms, those above first."""

    parts: tuple[Partial, ...]  # of the segment, within the window
    totals: tuple[Partial, ...]  # of the metric's total, within the window
    stale: bool


class Metrics:
    """The metrics in force, and how they are made of others."""

    def __init__(self, catalogs: Mapping[str, Catalog], versions: Mapping[Name, int]) -> None:
        self._versions = dict(versions)
        self._definitions: dict[Name, Metric] = {
            (product, name): metric
            for product, catalog in catalogs.items()
            for name, metric in catalog.metrics.items()
        }
        self._parts: dict[Name, tuple[Name, ...]] = {}
        self._formulas: dict[Name, Formula] = {}
        self._needed: dict[Name, tuple[str, ...]] = {}
        self._derived: dict[Name, list[Name]] = {}
        for product, catalog in catalogs.items():
            for metric in catalog.metrics:
                self._enter((product, metric), catalog.metrics)
        self.families = [
            (product, family) for product, catalog in catalogs.items() for family in families(catalog)
        ]
        self._has_arms = {
            (product, name)
            for product, catalog in catalogs.items()
            for name in catalog.metrics
            if arm_path(catalog, name) is not None
        }
        self._segments_of_derived = {
            name: self._common_splits(name) for name, parts in self._parts.items() if parts != (name,)
        }

    def definition(self, name: Name) -> Metric:
        """The catalog's entry."""
        return self._definitions[name]

    def series(self, name: Name, segment: str) -> Series:
        """The metric's series of one segment, under the version in force."""
        return Series(*name, self._versions[name], segment)

    def is_counted(self, series: Series) -> bool:
        """Whether events are folded into this series now: not a derived one's, nor of an older version."""
        name = (series.product, series.metric)
        return self._versions.get(name) == series.version and self._parts.get(name) == (name,)

    def parts_of(self, name: Name) -> tuple[Name, ...]:
        """The metric itself, or those that it is made of."""
        return self._parts[name]

    def series_of_parts(self, name: Name, segment: str) -> tuple[int, ...]:
        """Ids of the series that a segment's value is made of."""
        return tuple(self.series(part, segment).series_id for part in self._parts[name])

    def formula(self, name: Name) -> Formula:
        """How its value is worked out of its parts."""
        return self._formulas[name]

    def needed(self, name: Name) -> tuple[str, ...]:
        """Windows over which its buckets are summed up: its own, those of what is made of it, all time."""
        return self._needed[name]

    def derived_of(self, segments: Mapping[Name, set[str]]) -> dict[Name, set[str]]:
        """The derived metrics that these segments of metrics change, with the segments of theirs."""
        changed: dict[Name, set[str]] = {}
        for name, touched in segments.items():
            for derived in self._derived.get(name, ()):
                splits = self._segments_of_derived[derived]
                changed.setdefault(derived, set()).update(
                    segment for segment in touched if dimensions_of(segment) in splits
                )
        return changed

    def is_stale(self, name: Name, last_times: Mapping[Name, int | None], now: int) -> bool:
        """Whether the metric, or a part of it, has been silent for longer than its cadence.

        `last_times`: the latest event of each part's types, of all time.
        """
        return any(
            _is_silent(self._definitions[paced].cadence, last_times.get(part), now)
            for part in self._parts[name]
            for paced in (name, part)
        )

    def staleness(self, part: Name, last_time: int | None, now: int) -> tuple[bool, ...]:
        """Whether each of the metrics that this one is part of, itself first, is stale because of it."""
        names = (part, *self._derived.get(part, ()))
        return tuple(self.is_stale(name, {part: last_time}, now) for name in names)

    def _enter(self, name: Name, metrics: Mapping[str, Metric]) -> None:
        product, metric = name[0], metrics[name[1]]
        above, below = sums_of(name[1], metrics)

        def terms(side: tuple[Signed, ...]) -> tuple[Term, ...]:
            return tuple(Term(metrics[one.name].aggregate or "", one.sign) for one in side)

        self._formulas[name] = Formula(terms(above), terms(below))
        self._parts[name] = tuple((product, one.name) for one in (*above, *below))
        if metric.derivation is not None:
            for part in dict.fromkeys(self._parts[name]):
                self._derived.setdefault(part, []).append(name)
        for part in self._parts[name]:
            known = self._needed.get(part, (ALL_TIME,))
            self._needed[part] = tuple(dict.fromkeys((*known, *metric.windows)))

    def _common_splits(self, name: Name) -> set[tuple[str, ...]]:
        """How a derived metric is split: as all its parts are, and as it asks itself if it does."""
        shared = set.intersection(*(self.splits(part) for part in self._parts[name]))
        metric = self._definitions[name]
        if not metric.dimensions and not metric.cuts:
            return shared
        return shared & self.splits(name)

    def splits(self, name: Name) -> set[tuple[str, ...]]:
        """By which dimensions a counted metric is split, arms of experiments included."""
        metric = self._definitions[name]
        singles = {(dimension,) for dimension in metric.dimensions}
        splits = {(), *singles, *(tuple(sorted(cut)) for cut in metric.cuts)}
        if name in self._has_arms:
            splits |= {(ARM,), *((ARM, dimension) for dimension in metric.dimensions)}
        return splits


def dimensions_of(segment: str) -> tuple[str, ...]:
    """The dimensions of a segment, sorted."""
    return () if segment == TOTAL else tuple(msgspec.json.decode(segment, type=dict[str, msgspec.Raw]))


def spread_of(part: Partial) -> Spread | None:
    """The spread of a partial aggregate that keeps one."""
    if part.sum_squares is None:
        return None
    return Spread(part.sum or 0, part.sum_squares, part.top_count)


def _is_silent(cadence: timedelta | None, last_time: int | None, now: int) -> bool:
    return cadence is not None and last_time is not None and now - last_time > cadence / _MICROSECOND


def reading_of(metric: Metric, formula: Formula, given: Input) -> Reading:
    """The value of one series and window, of cells that are not few alone."""
    if metric.privacy is not None and _is_small(formula, given.parts, metric.privacy.min_cell):
        return Reading(None, None, "suppressed")
    return open_reading_of(formula, given)


def open_reading_of(formula: Formula, given: Input) -> Reading:
    """The value of what may be shown."""
    n = sum(part.count for part in _sides(formula, given.parts)[-1])
    value = _value(formula, given.parts) if all(total.seen for total in given.totals) else None
    if value is None:
        return Reading(None, n, "no_data")
    return Reading(value, n, "stale" if given.stale else "ok")


def _sides(formula: Formula, parts: tuple[Partial, ...]) -> list[tuple[Partial, ...]]:
    """The parts of the sum above, and of a ratio those of the one below."""
    above = len(formula.above)
    return [parts[:above], parts[above:]] if formula.below else [parts]


def _value(formula: Formula, parts: tuple[Partial, ...]) -> int | None:
    above, *below = (
        _sum(terms, side)
        for terms, side in zip((formula.above, formula.below), _sides(formula, parts), strict=False)
    )
    if not below:
        return above
    divisor = below[0]  # rolled up apart: a ratio is never averaged
    return None if above is None or not divisor else numbers.divide(above, divisor)


def _sum(terms: tuple[Term, ...], parts: tuple[Partial, ...]) -> int | None:
    total = 0
    for term, part in zip(terms, parts, strict=True):
        value = part.value(term.aggregate)
        if value is None:
            return None
        total += term.sign * value
    return total


def _is_small(formula: Formula, parts: tuple[Partial, ...], min_cell: int) -> bool:
    """A cell of few; of a ratio of counts also one with few above the line, or few of the rest."""
    above, *below = (sum(part.count for part in side) for side in _sides(formula, parts))
    n = below[0] if below else above
    cells = [n]
    if below and {term.aggregate for term in (*formula.above, *formula.below)} == {"count"}:
        cells += [above, n - above]
    return any(0 < cell < min_cell for cell in cells)
