"""What a product's catalog asks of its events, compiled once for the door."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jsonschema_rs

from impact_ingest.amendments import amendment_types
from impact_ingest.shape import Shape, compile_shape
from impact_ingest.verdicts import Refused
from impact_schemas.annotation import ANNOTATION, ANNOTATION_TYPE
from impact_schemas.event_data import ABSENT, conditions_of, exact_reader, reader
from impact_schemas.measure import CannotMeasure, measure_of
from impact_schemas.numbers import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from impact_ingest.amendments import AmendmentType
    from impact_ingest.verdicts import Code
    from impact_schemas.catalog import Catalog, EventType
    from impact_schemas.measure import Measure

Path = tuple[str, ...]  # steps below `data`

# Before it no product emitted anything; further back, dates run out of the range of databases.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LIMIT_DIGITS = len(str(LIMIT)) - 1
_NUMERIC_AGGREGATES = frozenset(["sum", "mean", "min", "max", "latest", "p50", "p90", "p95", "p99"])


class TypeRules:
    """What one event type asks of `data` and `subject`."""

    def __init__(
        self,
        event_type: EventType,
        numeric: Sequence[str] = (),
        measured: Sequence[Measured] = (),
        amendment: AmendmentType | None = None,
    ) -> None:
        self.subject = event_type.subject
        self.pseudonymous: Sequence[Path] = [_below_data(path) for path in event_type.pseudonymous]
        self.amends = amendment is not None
        self._numeric = [(reader(path), _below_data(path)) for path in numeric]
        self._measured = measured
        named = amendment.named if amendment else event_type.data
        self._shape: Shape | None = None if event_type.keep_unknown else compile_shape(named)
        # mask: messages never quote a value; offline: a reference to another host is never followed
        self._validator = jsonschema_rs.Draft202012Validator(
            dict(event_type.data), mask="the value", offline=True
        )
        self._is_valid = self._validator.is_valid

    def check(self, data: Any, hashed: Collection[Path] = ()) -> None:
        """Raises Refused for the first thing that is wrong with `data`.

        At the paths `hashed` stand pseudonyms, of which the schema knows nothing.
        """
        if not self._is_valid(data) and (violation := _violation(self._validator, data, hashed)):
            raise violation
        for read, path in self._numeric:
            value = read(data)
            if type(value) is float and -LIMIT < value < LIMIT:
                continue
            if value is not None and value is not ABSENT:
                _check_number(value, path)
        for one in self._measured:
            one.check(data)

    def prune(self, data: Any) -> Any:
        """`data` without the properties that the catalog does not name; may change it in place."""
        return data if self._shape is None else self._shape.prune(data)


class ProductRules:
    """What one product may write."""

    def __init__(self, catalog: Catalog, types_of_others: frozenset[str]) -> None:
        self.product = catalog.product
        self.types = {
            name: TypeRules(event_type, _numeric_paths(catalog, name), list(_measured(catalog, name)))
            for name, event_type in catalog.events.items()
        }
        # of an event whose type is unknown, whatever any type of the product calls pseudonymous
        self.all_pseudonymous = sorted({path for rules in self.types.values() for path in rules.pseudonymous})
        self.types[ANNOTATION] = TypeRules(ANNOTATION_TYPE)
        self.types |= {
            name: TypeRules(amendment.event_type, amendment=amendment)
            for name, amendment in amendment_types(catalog).items()
        }
        self.types_of_others = types_of_others
        since = catalog.since
        self.since = datetime.combine(since, time.min, UTC) if since else EARLIEST
        self.may_write: Callable[[str], bool] = _source_matcher(catalog.sources)


class Rules:
    """The rules of all products. `use` swaps them while requests are being judged by the old ones."""

    def __init__(self, catalogs: Mapping[str, Catalog]) -> None:
        self._products: dict[str, ProductRules] = {}
        self.use(catalogs)

    def use(self, catalogs: Mapping[str, Catalog]) -> None:
        """Takes other catalogs from the next request on. Raises before anything has changed."""
        owners = {product: frozenset(catalog.events) for product, catalog in catalogs.items()}
        compiled = {}
        for product, catalog in catalogs.items():
            others = frozenset().union(*(types for owner, types in owners.items() if owner != product))
            compiled[product] = ProductRules(catalog, others - owners[product])
        self._products = compiled

    def of(self, product: str) -> ProductRules | None:
        """None if no catalog of `product` is loaded."""
        return self._products.get(product)


def _below_data(path: str) -> Path:
    return tuple(path.split(".")[1:])


def _numeric_paths(catalog: Catalog, event_type: str) -> list[str]:
    """Paths whose values some metric computes with."""
    paths = {
        metric.of
        for metric in catalog.metrics.values()
        if event_type in metric.event and metric.aggregate in _NUMERIC_AGGREGATES and metric.of
    }
    return sorted(paths - {"subject"})


class Measured(NamedTuple):
    """A metric whose numbers have a unit or a scale of their own."""

    tests: tuple[Callable[[Any], bool], ...]
    read: Callable[[Any], Any]
    measure: Measure

    def check(self, data: Any) -> None:
        """Raises Refused if an event of the metric has a unit of another kind or a score beyond its scale."""
        value = self.read(data)
        if type(value) not in _NUMBERS or not all(test(data) for test in self.tests):
            return
        try:
            self.measure.check_scale(value)
            self.measure.unit_in(data)
        except CannotMeasure as error:
            code: Code = "unit_mismatch" if error.code == "unit_mismatch" else "value_out_of_range"
            raise Refused(code, error.detail, pointer(_below_data(error.path))) from None


_NUMBERS = (int, float, Decimal)


def _measured(catalog: Catalog, event_type: str) -> Iterator[Measured]:
    for metric in catalog.metrics.values():
        if event_type in metric.event and metric.of and (measure := measure_of(metric, catalog.factors)):
            yield Measured(conditions_of(metric, exact_reader), reader(metric.of), measure)


def _source_matcher(globs: Sequence[str]) -> Callable[[str], bool]:
    """`*` matches any characters, `/` too; no globs at all match every source."""
    if not globs:
        return lambda _source: True
    alternatives = (
        "".join(".*" if part == "*" else re.escape(part) for part in _parts(glob)) for glob in globs
    )
    pattern = re.compile("|".join(f"(?:{alternative})" for alternative in alternatives), re.DOTALL)
    # a batch is of few sources
    return lru_cache(maxsize=1024)(lambda source: pattern.fullmatch(source) is not None)


def _parts(glob: str) -> list[str]:
    """Literals and `*`; runs of `*` are one, or matching would take exponential time."""
    return re.split(r"(\*)", re.sub(r"\*+", "*", glob))


def _check_number(value: Any, path: Path) -> None:
    kind = type(value)
    if kind is float or kind is int:
        within = -LIMIT < value < LIMIT
    elif kind is Decimal:  # its magnitude is several times cheaper than a comparison
        within = value.adjusted() < _LIMIT_DIGITS
    else:
        raise Refused("schema_violation", "expected a number: a metric is computed from it", pointer(path))
    if not within:
        raise Refused("value_out_of_range", "expected a number between -10^15 and 10^15", pointer(path))


def pointer(path: Sequence[str | int]) -> str:
    """The JSON Pointer (RFC 6901) of a place in `data`."""
    return "/data" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _violation(
    validator: jsonschema_rs.Draft202012Validator, data: Any, hashed: Collection[Path]
) -> Refused | None:
    """The first thing that is wrong with `data` at other places than `hashed`."""
    for error in validator.iter_errors(data):
        place = tuple(step for step in error.instance_path if isinstance(step, str))  # without array indices
        if not any(place[: len(path)] == path for path in hashed):
            return _refusal_of(error)
    return None


def _refusal_of(error: jsonschema_rs.ValidationError) -> Refused:
    path: list[str | int] = list(error.instance_path)
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return Refused("schema_violation", "is required", pointer([*path, kind.property]))
    if error.schema_path and error.schema_path[-1] in _QUOTES_NAMES:
        detail = "has a property that the schema does not allow"
    else:
        detail = error.message
    return Refused("schema_violation", detail, pointer(path))


# their messages name properties as sent, and a name may be a person's
_QUOTES_NAMES = frozenset(["additionalProperties", "unevaluatedProperties", "propertyNames"])
