"""The catalog compiled for the fold: for each event type the metrics that it feeds, and how.

Pure: no IO, no clock. The only state is the book of series seen so far, which grows as segments appear.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from impact_aggregator.windows import finest_resolution
from impact_schemas.catalog import Compare, OneOf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from impact_schemas.catalog import Catalog, Metric

TOTAL = "{}"
UNKNOWN = "null"
OTHER = '"(other)"'
MAX_SEGMENTS = 1000  # values of a dimension that declares none: beyond them an event is quarantined

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Series(NamedTuple):
    """What a series id stands for."""

    product: str
    metric: str
    version: int
    segment: str  # JSON with sorted keys

    @property
    def series_id(self) -> int:
        """A signed 64-bit hash: the same in every process, so that nobody has to hand out ids."""
        parts = (self.product, self.metric, str(self.version), self.segment)
        name = "\n".join(parts).encode()  # no part but the last, which is JSON, could hold a line break
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


class TooManySegments(Exception):
    """A dimension without declared values has met its limit; the event cannot be counted."""


_ABSENT = object()


def _reader(path: str) -> Callable[[Any], Any]:
    """A function from an event's data to the value at `data.<path>`, _ABSENT if there is none."""
    keys = path.split(".")[1:]
    if len(keys) == 1:
        key = keys[0]
        return lambda data: data.get(key, _ABSENT) if type(data) is dict else _ABSENT

    def read(data: Any) -> Any:
        for key in keys:
            if type(data) is not dict:
                return _ABSENT
            data = data.get(key, _ABSENT)
        return data

    return read


def _typed(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), value  # True is not 1


def _test_of(condition: OneOf | Compare) -> Callable[[Any], bool]:
    if isinstance(condition, OneOf):
        wanted = frozenset(_typed(value) for value in condition.values)
        return lambda value: _is_scalar(value) and _typed(value) in wanted
    return lambda value: _compares(condition, value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, bool, int, Decimal))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _compares(condition: Compare, value: Any) -> bool:
    if condition.ne and (not _is_scalar(value) or _typed(value) in {_typed(other) for other in condition.ne}):
        return False
    bounds = (condition.gt, condition.gte, condition.lt, condition.lte)
    if all(bound is None for bound in bounds):
        return True
    return _is_number(value) and (
        (condition.gt is None or value > condition.gt)
        and (condition.gte is None or value >= condition.gte)
        and (condition.lt is None or value < condition.lt)
        and (condition.lte is None or value <= condition.lte)
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    """One dimension of a split."""

    name: str
    read: Callable[[Any], Any]
    allowed: frozenset[str] | None

    def part(self, data: Any) -> str:
        """The dimension's value as JSON text."""
        value = self.read(data)
        if value is _ABSENT or value is None or not _is_scalar(value):
            return UNKNOWN
        text = _encode(value).decode()
        return text if self.allowed is None or text in self.allowed else OTHER


class Split:
    """One way to cut a metric: by one dimension, or by a listed combination."""

    def __init__(self, rule: Rule, axes: tuple[_Axis, ...]) -> None:
        self._rule = rule
        self._axes = tuple(sorted(axes, key=lambda axis: axis.name))
        self._series: dict[tuple[str, ...], int] = {}
        self._limited = len(axes) == 1 and axes[0].allowed is None

    def series_of(self, data: Any) -> int:
        """The id of the series that this event falls into. Raises TooManySegments."""
        parts = tuple([axis.part(data) for axis in self._axes])
        found = self._series.get(parts)
        return self._open(parts) if found is None else found

    def admit(self, parts: tuple[str, ...]) -> None:
        """Takes up a series that is known from before."""
        self._series.setdefault(parts, self._rule.series(self._segment(parts)).series_id)

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions, sorted."""
        return tuple(axis.name for axis in self._axes)

    def _open(self, parts: tuple[str, ...]) -> int:
        known = len(self._series) - ((UNKNOWN,) in self._series)
        if self._limited and parts != (UNKNOWN,) and known >= MAX_SEGMENTS:
            raise TooManySegments(
                f"dimension {self._axes[0].name!r} of metric {self._rule.metric!r} has {MAX_SEGMENTS} values"
                " already: declare its values in the catalog (others become '(other)'), then replay"
            )
        self.admit(parts)
        return self._series[parts]

    def _segment(self, parts: tuple[str, ...]) -> str:
        pairs = zip(self.names, parts, strict=True)
        return "{" + ",".join(f'"{name}":{part}' for name, part in pairs) + "}"


class Rule:
    """How one metric counts the events of its types."""

    def __init__(self, product: str, metric: str, version: int, definition: Metric, book: SeriesBook) -> None:
        self.product = product
        self.metric = metric
        self.version = version
        self.aggregate = definition.aggregate or ""
        self.finest = finest_resolution(definition.windows)
        self.of = definition.of
        self._book = book
        self._read = None if self.of in (None, "subject") else _reader(str(self.of))
        self._tests = tuple((_reader(path), _test_of(test)) for path, test in definition.where.items())
        self.total = self.series(TOTAL).series_id
        self.splits = tuple(self._splits(definition))

    def series(self, segment: str) -> Series:
        """The metric's series of one segment, entered in the book."""
        series = Series(self.product, self.metric, self.version, segment)
        self._book.series[series.series_id] = series
        return series

    def matches(self, data: Any) -> bool:
        """Whether every condition of `where` holds; an absent path never does."""
        for read, test in self._tests:
            value = read(data)
            if value is _ABSENT or not test(value):
                return False
        return True

    def number(self, data: Any) -> int | Decimal | None:
        """The number at `of`; None where there is none."""
        value = self._read(data) if self._read else None
        return value if _is_number(value) else None

    def text(self, subject: str | None, data: Any) -> str | None:
        """What is told apart by `unique`: the subject, or the value at `of` as JSON; None where absent."""
        if self._read is None:
            return subject
        value = self._read(data)
        if value is _ABSENT or value is None:
            return None
        return value if isinstance(value, str) else _encode(value).decode()

    def _splits(self, definition: Metric) -> Iterator[Split]:
        axes = {
            name: _Axis(
                name,
                _reader(dimension.path),
                None
                if dimension.values is None
                else frozenset(_encode(value).decode() for value in dimension.values),
            )
            for name, dimension in definition.dimensions.items()
        }
        for axis in axes.values():
            yield Split(self, (axis,))
        for cut in definition.cuts:
            yield Split(self, tuple(axes[name] for name in cut))


class SeriesBook:
    """Every series that has been met, by id."""

    def __init__(self) -> None:
        self.series: dict[int, Series] = {}


class Rules:
    """All metrics of all products, compiled under the versions that are in force."""

    def __init__(self, catalogs: Mapping[str, Catalog], versions: Mapping[tuple[str, str], int]) -> None:
        self.book = SeriesBook()
        self.products = frozenset(catalogs)
        self._by_type: dict[tuple[str, str], tuple[Rule, ...]] = {}
        self._rules: dict[tuple[str, str], Rule] = {}
        for product, catalog in catalogs.items():
            self._compile(product, catalog, versions)

    def of(self, product: str, event_type: str) -> tuple[Rule, ...] | None:
        """The metrics that an event of this type feeds; None if the product does not know the type."""
        return self._by_type.get((product, event_type))

    def aggregate_of(self, series_id: int) -> str:
        """The aggregate of a series in the book."""
        return self.rule_of(series_id).aggregate

    def rule_of(self, series_id: int) -> Rule:
        """The rule of a series in the book."""
        series = self.book.series[series_id]
        return self._rules[series.product, series.metric]

    def admit(self, known: Iterable[Series]) -> None:
        """Takes up the series that are known from before, so that limits hold over restarts."""
        for series in known:
            rule = self._rules.get((series.product, series.metric))
            if rule is None or rule.version != series.version:
                continue
            segment = msgspec.json.decode(series.segment, type=dict[str, msgspec.Raw])
            names = tuple(sorted(segment))
            for split in rule.splits:
                if split.names == names:
                    split.admit(tuple(bytes(segment[name]).decode() for name in names))

    def _compile(self, product: str, catalog: Catalog, versions: Mapping[tuple[str, str], int]) -> None:
        for event_type in catalog.events:
            self._by_type[product, event_type] = ()
        for name, metric in catalog.metrics.items():
            if metric.ratio is not None:
                continue
            rule = Rule(product, name, versions[product, name], metric, self.book)
            self._rules[product, name] = rule
            for event_type in metric.event:
                self._by_type[product, event_type] += (rule,)
