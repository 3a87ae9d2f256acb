"""What one metric must fulfil: names that exist, and paths and values that its events can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from impact_schemas.catalog.counting import Compare, Dimension, OneOf
from impact_schemas.catalog.data_shape import (
    NUMERIC,
    SCALAR,
    DataShape,
    Described,
    NoSuchPathError,
    same,
)
from impact_schemas.catalog.derivation_rules import DERIVATIONS, check_derivation
from impact_schemas.catalog.document import Finding, Path
from impact_schemas.catalog.families import RESERVED_LABELS, cuts_of, dimensions_of, is_pipeline_family
from impact_schemas.catalog.forms import NAME, PATH
from impact_schemas.catalog.judging_rules import check_judging
from impact_schemas.catalog.measure_rules import check_measure
from impact_schemas.catalog.metric import sources_of
from impact_schemas.catalog.wording import one_of, shown, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from impact_schemas.catalog.metric import Metric
    from impact_schemas.catalog.models import Catalog, EventType


@dataclass(frozen=True)
class Events:
    """The event types of the file, and the shapes of those whose schema is sound."""

    types: Mapping[str, EventType]
    shapes: Mapping[str, DataShape]
    known: frozenset[str] | None

    def at(self, event_types: Collection[str], path: str) -> Iterator[Described | str]:
        """For each type what can stand at the path, or why nothing can."""
        for name in dict.fromkeys(event_types):
            shape = self.shapes.get(name)
            if shape is None:
                continue
            if path in self.types[name].pseudonymous:
                yield Described(frozenset({"string"}), None, stated=True)
                continue
            try:
                yield shape.at(path)
            except NoSuchPathError as error:
                yield f"{error} (in events of type {name})"

    def hides(self, event_types: Collection[str], path: str) -> bool:
        """Whether only pseudonyms stand at the path."""
        return any(name in self.types and path in self.types[name].pseudonymous for name in event_types)


@dataclass(frozen=True)
class MetricRules:
    """The rules of one metric."""

    name: str
    metric: Metric
    catalog: Catalog
    events: Events
    metrics: frozenset[str] | None
    broken: frozenset[Path]

    def check(self) -> Iterator[Finding]:
        """Every finding of this metric."""
        yield from self._check_name()
        yield from self._check_source()
        yield from self._check_of()
        yield from self._check_where()
        yield from self._check_dimensions()
        yield from self._check_cuts()
        yield from self._check_windows()
        yield from self._check_equity()
        yield from self._check_experiment()
        yield from check_measure(self)
        yield from check_judging(self)

    def at(self, *path: str | int) -> Path:
        """A path of the file, seen from the metric."""
        return ("metrics", self.name, *path)

    def can_judge(self, field: str) -> bool:
        """Whether the field could be read."""
        return self.at(field) not in self.broken

    def event_types(self) -> tuple[str, ...]:
        """The types of events that it is counted from, or that the metrics are that it is made of."""
        sources = sources_of(self.name, self.catalog.metrics)
        return tuple(event for name in sources for event in self.catalog.metrics[name].event)

    def _check_name(self) -> Iterator[Finding]:
        if not NAME.fits(self.name):
            yield Finding(self.at(), f"expected {NAME.words} as a metric's name", on_key=True)
        if is_pipeline_family(self.name):
            reason = f"impact_{self.name} is a Prometheus family of the service itself: choose another name"
            yield Finding(self.at(), reason, on_key=True)

    def _check_source(self) -> Iterator[Finding]:
        metric = self.metric
        ways = [way for way in DERIVATIONS if way in metric.model_fields_set]
        if not all(self.can_judge(way) for way in DERIVATIONS):
            return
        if ways:
            yield from check_derivation(self, ways)
            return
        no_event = "event" not in metric.model_fields_set and self.can_judge("event")
        no_aggregate = metric.aggregate is None and self.can_judge("aggregate")
        if no_event and no_aggregate:
            yield Finding(self.at(), "needs event and aggregate, or ratio", on_key=True)
        elif no_event:
            yield Finding(self.at("event"), "is missing: the event type that it counts, or a list of types")
        elif no_aggregate:
            reason = "is missing: how the values of many events become one number"
            yield Finding(self.at("aggregate"), reason)
        yield from self._check_event_types()

    def _check_event_types(self) -> Iterator[Finding]:
        event = self.metric.event
        if "event" in self.metric.model_fields_set and not event:
            yield Finding(self.at("event"), "must not be empty")
        for index, name in enumerate(event):
            where = self.at("event", index)
            if name in event[:index]:
                yield Finding(where, f"{name} is there twice")
            elif self.events.known is not None and name not in self.events.known:
                yield Finding(where, unknown("event type", name, self.events.known))

    def _check_of(self) -> Iterator[Finding]:
        metric = self.metric
        if metric.per is not None and metric.aggregate not in (None, "latest"):
            yield Finding(
                self.at("per"), f"only latest has places; the aggregate is {metric.aggregate}", on_key=True
            )
        if metric.per is not None:
            yield from self.check_scalar(metric.per, self.at("per"))
        if metric.aggregate is None:
            return
        if metric.aggregate == "count":
            if metric.of is not None:
                yield Finding(self.at("of"), "count counts events: it has no of", on_key=True)
        elif metric.of is None:
            meant = "subject or data.<path>" if metric.aggregate == "unique" else "data.<path>, a number"
            yield Finding(self.at("of"), f"is missing: what {metric.aggregate} is taken of ({meant})")
        elif metric.of == "subject":
            yield from self._check_subject(metric.aggregate)
        elif metric.aggregate == "unique":
            yield from self.check_scalar(metric.of, self.at("of"))
        else:
            yield from self.check_number(metric.of, self.at("of"), f"{metric.aggregate} needs numbers")

    def _check_subject(self, aggregate: str) -> Iterator[Finding]:
        if aggregate != "unique":
            reason = f"{aggregate} needs numbers, and a subject is none: use data.<path>"
            yield Finding(self.at("of"), reason)
            return
        for name in self.metric.event:
            event = self.events.types.get(name)
            if event is not None and event.subject == "none":
                yield Finding(self.at("of"), f"events of type {name} have no subject (subject: none)")

    def at_path(self, path: str) -> Iterator[Described | str]:
        return self.events.at(self.event_types(), path)

    def check_number(self, path: str, where: Path, need: str) -> Iterator[Finding]:
        for found in self.at_path(path):
            reason = found if isinstance(found, str) else self._not_numeric(found, path, need)
            if reason:
                yield Finding(where, reason)

    def _not_numeric(self, found: Described, path: str, need: str) -> str | None:
        if found.stated:
            return None if found.types <= NUMERIC | {"null"} else f"{need}, and {path} is {found.names()}"
        if any(
            self.events.types[name].keep_unknown for name in self.event_types() if name in self.events.types
        ):
            return None
        return f"{need}: say type: number (or integer) for {path} in the event's data"

    def check_scalar(self, path: str, where: Path, *, on_key: bool = False) -> Iterator[Finding]:
        for found in self.at_path(path):
            if isinstance(found, str):
                yield Finding(where, found, on_key)
            elif found.stated and not found.types & (SCALAR - {"null"}):
                yield Finding(where, f"expected single values at {path}, it is {found.names()}", on_key)

    def check_allowed(self, value: object, path: str, where: Path) -> Iterator[Finding]:
        """A value that no event can have would never match, silently."""
        # that there is no such path is said once, where the path stands
        each = [found for found in self.at_path(path) if not isinstance(found, str)]
        if not each or any(found.allows(value) for found in each):
            return
        said = "null" if value is None else shown(value)
        if each[0].values is None:
            yield Finding(where, f"{path} is never {said}: its type is {each[0].names()}")
        else:
            there = [shown(one) for found in each for one in found.values or ()]
            yield Finding(where, f"{path} is never {said}: the schema allows {one_of(there)}")

    def check_hidden(self, path: str, where: Path) -> Iterator[Finding]:
        if self.events.hides(self.event_types(), path):
            yield Finding(
                where, f"{path} is pseudonymous: it can be counted by unique, not shown or compared"
            )

    def _check_where(self) -> Iterator[Finding]:
        for path, condition in self.metric.where.items():
            where = self.at("where", path)
            if not PATH.fits(path):
                yield Finding(where, f"expected {PATH.words}", on_key=True)
            elif hidden := list(self.check_hidden(path, where)):
                yield from hidden
            else:
                yield from self.check_scalar(path, where, on_key=True)
                yield from self._check_condition(path, condition, where)

    def _check_condition(self, path: str, condition: OneOf | Compare, where: Path) -> Iterator[Finding]:
        values = condition.ne if isinstance(condition, Compare) else condition.values
        if isinstance(condition, Compare):
            for bound in condition.model_fields_set - {"ne"}:
                for found in self.at_path(path):
                    need = f"{bound} compares numbers"
                    if not isinstance(found, str) and (reason := self._not_numeric(found, path, need)):
                        yield Finding((*where, bound), reason)
            where = (*where, "ne")
        for index, value in enumerate(values):
            yield from self.check_allowed(value, path, (*where, index))

    def _check_dimensions(self) -> Iterator[Finding]:
        for name, dimension in self.metric.dimensions.items():
            where = self.at("dimensions", name)
            if not NAME.fits(name):
                yield Finding(where, f"expected {NAME.words} as a dimension's name", on_key=True)
            if name in RESERVED_LABELS:
                yield Finding(
                    where, f"{name} is a label of every metric already: choose another name", on_key=True
                )
            if self.metric.derivation is not None:
                yield from self._check_derived_dimension(name, dimension, where)
                continue
            path = (*where, "path")
            yield from self.check_hidden(dimension.path, path)
            yield from self.check_scalar(dimension.path, path)
            for index, value in enumerate(dimension.values or ()):
                at = (*where, "values", index)
                if any(same(value, one) for one in (dimension.values or ())[:index]):
                    yield Finding(at, f"{shown(value)} is there twice")
                yield from self.check_allowed(value, dimension.path, at)

    def _check_derived_dimension(self, name: str, dimension: Dimension, where: Path) -> Iterator[Finding]:
        """It is made of what its metrics counted: it can only be split as all of them are."""
        for part, metric in self.parts():
            theirs = metric.dimensions.get(name)
            if theirs is None:
                if ("metrics", part, "dimensions", name) not in self.broken:
                    yield Finding(
                        where, f"{part} is not split by {name}: give it this dimension too", on_key=True
                    )
            elif theirs.path != dimension.path:
                yield Finding(
                    (*where, "path"), f"expected {theirs.path}, as in {part}, found {dimension.path}"
                )
                return
            elif dimension.values is not None and dimension.values != theirs.values:
                yield Finding((*where, "values"), f"expected the same values as in {part}, or none here")
                return

    def _check_cuts(self) -> Iterator[Finding]:
        known = self.known_dimensions()
        for index, cut in enumerate(self.metric.cuts):
            where = self.at("cuts", index)
            if len(cut) < 2:
                yield Finding(
                    where, "a cut combines two dimensions or more: single ones are published anyway"
                )
            if len(set(cut)) < len(cut):
                yield Finding(where, "a dimension is there twice")
            elif set(cut) in [set(other) for other in self.metric.cuts[:index]]:
                yield Finding(where, "this cut is there twice")
            for position, name in enumerate(cut):
                if known is not None and name not in known:
                    yield Finding((*where, position), unknown("dimension", name, known))
            for part, metric in self.parts():
                if set(cut) not in [set(theirs) for theirs in metric.cuts]:
                    yield Finding(where, f"{part} has no such cut: give it this one too")

    def parts(self) -> Iterator[tuple[str, Metric]]:
        """The metrics that it is made of, as far as they can be judged."""
        sources = () if self.metric.derivation is None else sources_of(self.name, self.catalog.metrics)
        for name in dict.fromkeys(sources):
            if not {("metrics", name, "dimensions"), ("metrics", name, "cuts")} & self.broken:
                yield name, self.catalog.metrics[name]

    def known_dimensions(self) -> frozenset[str] | None:
        """The names that cuts and equity can use; None if they cannot all be read."""
        names = {self.name, *(name for name, _ in self.parts())}
        gone = [path for path in self.broken if len(path) > 2 and path[0] == "metrics" and path[1] in names]
        if any(path[2:] == ("dimensions",) for path in gone):
            return None
        unread = {str(path[3]) for path in gone if path[2] == "dimensions"}
        return frozenset(dimensions_of(self.name, self.catalog.metrics)) | unread

    def cuts(self) -> tuple[tuple[str, ...], ...]:
        """The combinations that it is split by."""
        return cuts_of(self.name, self.catalog.metrics)

    def _check_windows(self) -> Iterator[Finding]:
        windows = self.metric.windows
        for index, window in enumerate(windows):
            if window in windows[:index]:
                yield Finding(self.at("windows", index), f"{window} is there twice")

    def _check_equity(self) -> Iterator[Finding]:
        equity = self.metric.equity
        known = self.known_dimensions()
        if equity is None or known is None:
            return
        where = self.at("equity")
        if equity.dimension not in known:
            yield Finding((*where, "dimension"), unknown("dimension", equity.dimension, known))
        for metric in (self.metric, *(part for _, part in self.parts())):
            dimension = metric.dimensions.get(equity.dimension)
            if dimension is None:
                continue
            if dimension.values is not None and not any(
                same(equity.reference, one) for one in dimension.values
            ):
                reason = f"{shown(equity.reference)} is not one of the values of {equity.dimension}"
                yield Finding((*where, "reference"), reason)
            yield from self.check_allowed(equity.reference, dimension.path, (*where, "reference"))

    def _check_experiment(self) -> Iterator[Finding]:
        experiment = self.metric.experiment
        if experiment is None:
            return
        yield from self._check_other_arms(experiment.arm)
        arm = self.at("experiment", "arm")
        yield from self.check_hidden(experiment.arm, arm)
        yield from self.check_scalar(experiment.arm, arm)
        yield from self.check_allowed(experiment.control, experiment.arm, self.at("experiment", "control"))

    def _check_other_arms(self, arm: str) -> Iterator[Finding]:
        """What is counted is split by the arms of one experiment."""
        mine = set(sources_of(self.name, self.catalog.metrics))
        for name, other in self.catalog.metrics.items():
            if name == self.name:
                return  # told once, at the later one
            if other.experiment is None or other.experiment.arm == arm:
                continue
            if mine & set(sources_of(name, self.catalog.metrics)):
                reason = f"{name} is split by {other.experiment.arm}: metrics of the same events have one arm"
                yield Finding(self.at("experiment", "arm"), reason)
