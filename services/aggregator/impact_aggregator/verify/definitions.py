"""What the metrics are, read from the database itself: the definitions under which its numbers stand."""

from __future__ import annotations

from datetime import timedelta  # noqa: TC003 (msgspec reads the annotations)
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from impact_aggregator.verify.measured import FactorSet, FactorUse  # noqa: TC001 (msgspec reads them too)
from impact_aggregator.verify.values import label, looks_fractional

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Scalar = str | bool | int | None

RATIO = "ratio"
ZEROS = ("count", "sum", "unique")
NUMERIC = frozenset(["sum", "mean", "min", "max", "latest", "p50", "p90", "p95", "p99"])


class Dimension(msgspec.Struct, frozen=True):
    """By what a metric is split; without `values` any value is a segment."""

    path: str
    values: tuple[Scalar, ...] | None = None


class Condition(msgspec.Struct, frozen=True):
    """A test of one path: the value is one of `values`, or keeps every bound and is none of `ne`."""

    values: tuple[Scalar, ...] | None = None
    gt: Decimal | None = None
    gte: Decimal | None = None
    lt: Decimal | None = None
    lte: Decimal | None = None
    ne: tuple[Scalar, ...] = ()

    @property
    def bounds(self) -> tuple[tuple[str, Decimal], ...]:
        """(operator, number) of every bound."""
        pairs = ((">", self.gt), (">=", self.gte), ("<", self.lt), ("<=", self.lte))
        return tuple((operator, number) for operator, number in pairs if number is not None)


class Ratio(msgspec.Struct, frozen=True):
    """Two metrics of the same product."""

    numerator: str
    denominator: str


class Difference(msgspec.Struct, frozen=True):
    """Two metrics of the same product."""

    of: str
    minus: str


class Definition(msgspec.Struct, frozen=True):
    """A metric as the view `metrics` defines it; what decides no number is left out."""

    title: str = ""
    event: tuple[str, ...] = ()
    where: dict[str, Condition] = {}
    aggregate: str = RATIO
    of: str | None = None
    per: str | None = None
    ratio: Ratio | None = None
    sum_of: tuple[str, ...] = ()
    difference: Difference | None = None
    unit: str = "1"
    unit_path: str | None = None
    factor: FactorUse | None = None
    factor_set: FactorSet | None = None
    consent: str | None = None
    dimensions: dict[str, Dimension] = {}
    cuts: tuple[tuple[str, ...], ...] = ()
    windows: tuple[str, ...] = ()
    cadence: timedelta | None = None

    @property
    def splits(self) -> tuple[tuple[str, ...], ...]:
        """The names of the dimensions of the total, of each split, and of each cut; sorted within one."""
        singles = ((name,) for name in self.dimensions)
        return ((), *singles, *(tuple(sorted(cut)) for cut in self.cuts))

    @property
    def has_minutes(self) -> bool:
        """Whether buckets of a minute are kept."""
        return "5m" in self.windows or "1h" in self.windows


class Metric(NamedTuple):
    """One metric in force; `number` names it within one run."""

    number: int
    product: str
    name: str
    version: int
    min_cell: int | None
    definition: Definition
    block: str | None = None  # day, week or month: protected, and published as closed blocks only

    @property
    def is_derived(self) -> bool:
        """Whether it is made of other metrics, and has no buckets."""
        return bool(self.made_of)

    @property
    def made_of(self) -> tuple[str, ...]:
        """The metrics that it names; of a ratio numerator and denominator."""
        one = self.definition
        if one.ratio is not None:
            return (one.ratio.numerator, one.ratio.denominator)
        return one.sum_of if one.difference is None else (one.difference.of, one.difference.minus)

    @property
    def zero(self) -> int | None:
        """What no events at all make: counts and sums are 0, of others there is no value."""
        adds = self.is_derived and self.definition.ratio is None
        return 0 if adds or self.definition.aggregate in ZEROS else None


class Term(NamedTuple):
    """A counted metric in a sum."""

    metric: Metric
    sign: int


class Formula(NamedTuple):
    """What a derived metric is worked out of: a sum, and of a ratio the sum that divides it."""

    above: tuple[Term, ...]
    below: tuple[Term, ...]

    @property
    def metrics(self) -> list[Metric]:
        """The counted metrics in it."""
        return [term.metric for term in (*self.above, *self.below)]


def formula_of(metric: Metric, by_name: Mapping[str, Metric]) -> Formula:
    """Of any metric; of a counted one itself. `by_name`: those of its product."""
    ratio = metric.definition.ratio
    if ratio is None:
        return Formula(_sum_of(metric, by_name), ())
    above, below = by_name[ratio.numerator], by_name[ratio.denominator]
    return Formula(_sum_of(above, by_name), _sum_of(below, by_name))


def _sum_of(metric: Metric, by_name: Mapping[str, Metric]) -> tuple[Term, ...]:
    if not metric.is_derived:
        return (Term(metric, 1),)
    minus = metric.definition.difference.minus if metric.definition.difference else None
    return tuple(Term(by_name[name], -1 if name == minus else 1) for name in metric.made_of)


_decode = msgspec.json.Decoder(Definition).decode


def metrics_of(rows: Iterable[tuple[str, str, int, int | None, str, str | None]]) -> list[Metric]:
    """From rows (product, metric, version, min_cell, definition, block) of the view `metrics`."""
    return [
        Metric(number, product, name, version, min_cell, _decode(definition), block)
        for number, (product, name, version, min_cell, definition, block) in enumerate(rows)
    ]


def labels_of(values: Iterable[Scalar]) -> list[str]:
    """The labels of values listed in a definition.

    The definition's JSON writes a fraction as text: such a text stands for both.
    """
    found = []
    for value in values:
        found.append(label(value))
        if isinstance(value, str) and looks_fractional(value):
            found.append(label(Decimal(value)))
    return found


class PathUse(msgspec.Struct):
    """What is needed of the values at one path."""

    as_number: bool = False  # rounded, to be aggregated
    to_compare: bool = False  # exact, to be compared with bounds


def paths_of(metrics: Iterable[Metric]) -> dict[str, PathUse]:
    """Every path of the data that the metrics read, and what for."""
    uses: dict[str, PathUse] = {}
    for metric in metrics:
        definition = metric.definition
        consent = () if definition.consent is None else (definition.consent,)
        for path in (*(one.path for one in definition.dimensions.values()), *definition.where, *consent):
            uses.setdefault(path, PathUse())
        for value in (definition.of, definition.per):
            if value is not None and value != "subject":
                uses.setdefault(value, PathUse())
        if definition.of is not None and definition.aggregate in NUMERIC:
            uses[definition.of].as_number = True
        for path, condition in definition.where.items():
            uses[path].to_compare |= bool(condition.bounds)
    return uses


def by_product(metrics: Iterable[Metric]) -> Mapping[str, list[Metric]]:
    """The metrics of each product."""
    found: dict[str, list[Metric]] = {}
    for metric in metrics:
        found.setdefault(metric.product, []).append(metric)
    return found
