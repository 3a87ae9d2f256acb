"""The catalog compiled for the fold: for each event type the metrics that it feeds, and how.

Pure: no IO, no clock. The only state is the book of series seen so far, which grows as segments appear.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jsonschema_rs
import msgspec

from impact_aggregator.windows import FRESH, RESOLUTIONS, finest_resolution, kept_resolution
from impact_schemas import numbers
from impact_schemas.annotation import ANNOTATION, ANNOTATION_TYPE
from impact_schemas.catalog import Dimension
from impact_schemas.catalog.metric import sources_of
from impact_schemas.catalog.protection import families
from impact_schemas.event_data import ABSENT, conditions_of, is_number, is_scalar, reader
from impact_schemas.measure import measure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from impact_aggregator.events import Event
    from impact_schemas.catalog import Catalog, FactorSet, Metric

TOTAL = "{}"
UNKNOWN = "null"
OTHER = '"(other)"'
ARM = "@arm"  # the axis of experiment arms: series that only comparisons read, never shown as segments
MAX_SEGMENTS = 1000  # values of a dimension that declares none: beyond them an event is quarantined

Parts = tuple[str, ...]  # a segment's values as JSON texts, in the order of its dimensions' names

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
        return _series_id(self)


@lru_cache(maxsize=1 << 18)  # a tick asks for each of its series several times
def _series_id(series: Series) -> int:
    parts = (series.product, series.metric, str(series.version), series.segment)
    name = "\n".join(parts).encode()  # no part could hold a line break: names, a number, and JSON
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


class TooManySegments(Exception):
    """A dimension without declared values has met its limit; the event cannot be counted."""


class Axis:
    """A dimension as a function of an event's data; metrics that share it share its evaluation."""

    __slots__ = ("_allowed", "_read", "_texts")

    def __init__(self, dimension: Dimension) -> None:
        self._read = reader(dimension.path)
        values = dimension.values
        self._allowed = None if values is None else frozenset(_encode(value).decode() for value in values)
        self._texts: dict[str, str] = {}  # of values met before

    @property
    def is_open(self) -> bool:
        """Whether its values are not declared."""
        return self._allowed is None

    def part(self, data: Any) -> str:
        """The dimension's value as JSON text."""
        value = self._read(data)
        if type(value) is not str:  # 1 and true are one key, but not one value
            return self._part(value)
        text = self._texts.get(value)
        if text is None:
            text = self._part(value)
            if len(self._texts) < MAX_SEGMENTS:
                self._texts[value] = text
        return text

    def _part(self, value: Any) -> str:
        if value is None or not is_scalar(value):  # ABSENT is no scalar either
            return UNKNOWN
        text = _encode(value).decode()
        return text if self._allowed is None or text in self._allowed else OTHER


# --- metrics ------------------------------------------------------------------------------------------


class Split:
    """One way to cut a metric: by one dimension, or by a listed combination."""

    __slots__ = ("_limited", "_rule", "_series", "names", "places")

    def __init__(self, rule: Rule, axes: Mapping[str, Axis], places: Mapping[str, int]) -> None:
        self.names = tuple(sorted(axes))
        self.places = tuple(places[name] for name in self.names)  # of its axes among those of the event type
        self._rule = rule
        self._series: dict[Parts, int] = {}
        self._limited = len(axes) == 1 and all(axis.is_open for axis in axes.values())

    def series_of(self, parts: Parts) -> int | None:
        """The id of a segment's series; None if it was never met."""
        return self._series.get(parts)

    def open(self, parts: Parts) -> None:
        """Meets a segment. Raises TooManySegments."""
        known = len(self._series) - ((UNKNOWN,) in self._series)
        if self._limited and parts != (UNKNOWN,) and known >= MAX_SEGMENTS:
            raise TooManySegments(
                f"dimension {self.names[0]!r} of metric {self._rule.metric!r} has {MAX_SEGMENTS} values"
                " already: declare its values in the catalog (others become '(other)'), then replay"
            )
        self.admit(parts)

    def admit(self, parts: Parts) -> None:
        """Takes up a segment that is known from before."""
        pairs = zip(self.names, parts, strict=True)
        segment = "{" + ",".join(f'"{name}":{part}' for name, part in pairs) + "}"
        self._series[parts] = self._rule.enter(segment)


class Columns:
    """A group of events, and what stands at paths of their data: each path is read once for all metrics."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.data = [event.data for event in events]
        self._columns: dict[Callable[[Any], Any], list[Any]] = {}

    def at(self, read: Callable[[Any], Any]) -> list[Any]:
        """The value in each event."""
        found = self._columns.get(read)
        if found is None:
            found = self._columns[read] = list(map(read, self.data))
        return found


class Rule:
    """How one metric counts the events of its types."""

    def __init__(
        self,
        product: str,
        metric: str,
        version: int,
        definition: Metric,
        windows: Iterable[str],
        factor_sets: Mapping[str, FactorSet],
        book: SeriesBook,
    ) -> None:
        self.product = product
        self.metric = metric
        self.version = version
        self.aggregate = definition.aggregate or ""
        self.finest = finest_resolution(windows)
        self.keeps_squares = self.aggregate == "mean"  # and of what is compared between arms
        self.counts_subjects = False  # of what is protected, or part of it
        self._book = book
        self._read = reader(definition.of) if definition.of and definition.of != "subject" else None
        self._read_place = reader(definition.per) if definition.per else None
        self._tests = conditions_of(definition)
        self.measure = measure_of(definition, factor_sets)
        top = definition.scale.top_box if definition.scale else None
        self.top_box = None if top is None else numbers.to_nanos(top)
        self.total = self.enter(TOTAL)

    def enter(self, segment: str) -> int:
        """The id of the metric's series of one segment, entered in the book."""
        series = Series(self.product, self.metric, self.version, segment)
        series_id = series.series_id
        self._book[series_id] = series
        return series_id

    def value(self, event: Event) -> Any:
        """What one event adds to the metric; None if it does not belong to it: see `values`."""
        return self.values(Columns([event]))[0]

    def values(self, columns: Columns) -> list[Any]:
        """What each event adds to the metric; None for one that does not belong to it.

        A number (int or Decimal) as it stands in the event, before `measure`; for `unique` the text that
        is told apart; for `count` True.
        """
        values = self._unconditioned(columns)
        for test in self._tests:
            met = map(test, columns.data)
            values = [value if is_met else None for value, is_met in zip(values, met, strict=True)]
        return values

    def _unconditioned(self, columns: Columns) -> list[Any]:
        if self.aggregate == "count":
            return [True] * len(columns.events)
        if self.aggregate == "unique":  # JSON texts: the text "1" is not the number 1
            if self._read is None:
                return [event.subject for event in columns.events]
            return [self._text(value) for value in columns.at(self._read)]
        if self._read is None:
            return [None] * len(columns.events)
        values = [value if is_number(value) else None for value in columns.at(self._read)]
        if self._read_place is not None:
            places = map(self._text, columns.at(self._read_place))
            values = [None if place is None else one for one, place in zip(values, places, strict=True)]
        return values

    @property
    def has_places(self) -> bool:
        """Whether it is the sum over places of each place's latest value."""
        return self._read_place is not None

    def place(self, event: Event) -> str | None:
        """Of `latest` with `per`: the place whose latest value this is."""
        return None if self._read_place is None else self._text(self._read_place(event.data))

    @staticmethod
    def _text(value: Any) -> str | None:
        return None if value is ABSENT or value is None else _encode(value).decode()


class TypeRules:
    """All that one event type feeds."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.validator = jsonschema_rs.validator_for(dict(schema))
        self.axes: list[Axis] = []
        self.rules: list[tuple[Rule, tuple[Split, ...]]] = []
        self.finest = "1d"  # the finest buckets that any of the metrics keeps
        self._places: dict[Dimension, int] = {}

    def add(self, rule: Rule, splits: tuple[Split, ...]) -> None:
        """One more metric that events of the type feed."""
        self.rules.append((rule, splits))
        self.finest = min(self.finest, rule.finest, key=RESOLUTIONS.__getitem__)

    def bucket_of(self, event: Event) -> tuple[str, int, Parts]:
        """The finest bucket that takes an event of the type, and its value on each axis."""
        moment, data = event.time, event.data
        age = event.record.received_at - moment
        resolution = self.finest if age <= FRESH else kept_resolution(self.finest, age)
        start = moment - moment % RESOLUTIONS[resolution]
        return resolution, start, tuple([axis.part(data) for axis in self.axes])

    def place(self, dimension: Dimension) -> int:
        """Where the dimension's axis is in `axes`."""
        if dimension not in self._places:
            self._places[dimension] = len(self.axes)
            self.axes.append(Axis(dimension))
        return self._places[dimension]


SeriesBook = dict[int, Series]  # every series that has been met, by id


class Rules:
    """The metrics of all products that have a version, compiled."""

    def __init__(self, catalogs: Mapping[str, Catalog], versions: Mapping[tuple[str, str], int]) -> None:
        self.book: SeriesBook = {}
        self.by_type: dict[tuple[str, str], TypeRules] = {}  # by product and type
        self._rules: dict[tuple[str, str], Rule] = {}
        for product, catalog in catalogs.items():
            watched = {name for family in families(catalog) for name in family.counted}
            for event_type, definition in catalog.events.items():
                self.by_type[product, event_type] = TypeRules(definition.data)
            self.by_type[product, ANNOTATION] = TypeRules(ANNOTATION_TYPE.data)
            for name, metric in catalog.metrics.items():
                if metric.derivation is None and (product, name) in versions:
                    windows = _windows_of(catalog, name)
                    version = versions[product, name]
                    rule = Rule(product, name, version, metric, windows, catalog.factors, self.book)
                    rule.counts_subjects = name in watched
                    self._compile(rule, metric, arm_path(catalog, name))

    def of(self, product: str, event_type: str) -> TypeRules | None:
        """What an event of this type feeds; None if the product does not know the type."""
        return self.by_type.get((product, event_type))

    def fault_in(self, product: str, event_type: str, data: bytes) -> str | None:
        """What is wrong with data for an event of this type, in words; None if nothing is."""
        fed = self.of(product, event_type)
        if fed is None:
            return f"the catalog of {product!r} has no event type {event_type!r}"
        fault = next(fed.validator.iter_errors(msgspec.json.decode(data)), None)
        if fault is None:
            return None
        place = "/".join(str(key) for key in ("", "data", *fault.instance_path))
        return f"{place}: {fault.message}"

    def aggregate_of(self, series_id: int) -> str:
        """The aggregate of a series in the book."""
        series = self.book[series_id]
        return self._rules[series.product, series.metric].aggregate

    def admit(self, known: Iterable[Series]) -> None:
        """Takes up the series that are known from before, so that limits hold over restarts."""
        for series in known:
            rule = self._rules.get((series.product, series.metric))
            if rule is None or rule.version != series.version:
                continue
            segment = msgspec.json.decode(series.segment, type=dict[str, msgspec.Raw])
            names = tuple(sorted(segment))
            parts = tuple(bytes(segment[name]).decode() for name in names)
            for split in self._splits_of(rule):
                if split.names == names:
                    split.admit(parts)

    def _compile(self, rule: Rule, metric: Metric, arm: str | None) -> None:
        self._rules[rule.product, rule.metric] = rule
        named = [(name,) for name in metric.dimensions] + list(metric.cuts)
        dimensions = dict(metric.dimensions)
        if arm is not None:
            rule.keeps_squares = True
            dimensions[ARM] = Dimension(path=arm)
            named += [(ARM,), *((ARM, name) for name in metric.dimensions)]
        for event_type in metric.event:
            fed = self.by_type[rule.product, event_type]
            splits = []
            for names in named:
                places = {name: fed.place(dimensions[name]) for name in names}
                axes = {name: fed.axes[place] for name, place in places.items()}
                splits.append(Split(rule, axes, places))
            fed.add(rule, tuple(splits))

    def _splits_of(self, wanted: Rule) -> Iterator[Split]:
        for fed in self.by_type.values():
            for rule, splits in fed.rules:
                if rule is wanted:
                    yield from splits


def _windows_of(catalog: Catalog, name: str) -> set[str]:
    """The metric's own windows, and those of the metrics that are made of it."""
    return {window for metric in _made_of(catalog, name) for window in metric.windows}


def arm_path(catalog: Catalog, name: str) -> str | None:
    """Where events say their arm: by the metric's own experiment, or by that of one made of it."""
    experiments = (metric.experiment for metric in _made_of(catalog, name))
    return next((one.arm for one in experiments if one is not None), None)


def _made_of(catalog: Catalog, name: str) -> Iterator[Metric]:
    """The metric itself, and those that are worked out of it."""
    yield catalog.metrics[name]
    for other, metric in catalog.metrics.items():
        if metric.derivation is not None and name in sources_of(other, catalog.metrics):
            yield metric


def is_shown(segment: str) -> bool:
    """Whether a segment is one of the metric's own, and not an arm that only comparisons read."""
    return not segment.startswith('{"@')
