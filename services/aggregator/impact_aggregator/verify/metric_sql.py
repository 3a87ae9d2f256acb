"""A metric's definition as SQL over the columns of `flatten`. Pure.

Numbers are integers of 10^-9 in 128 bits (HUGEINT): sums are exact, and nothing goes through a double but
the tolerances of what is an estimate by design.
"""

# ruff: noqa: S608 (every name is ours, every text is quoted by `literal`)

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.verify.definitions import labels_of
from impact_aggregator.verify.measured import CONVERTED_TOLERANCE
from impact_aggregator.verify.values import bracket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from impact_aggregator.verify.definitions import Condition, Definition, Dimension

ONE = "1000000000::HUGEINT"
EXACT_UNIQUE = 1024  # beyond it `unique` is an estimate
UNIQUE_TOLERANCE = 4 * 0.0081  # four standard errors
QUANTILE_TOLERANCE = 0.01
QUANTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def listed(texts: Iterable[str]) -> str:
    """Texts as an SQL list for IN."""
    return "(" + ", ".join(literal(text) for text in texts) + ")"


def floored(step_us: int) -> str:
    """The last multiple of a step at or before `time`."""
    return f"time - ((time % {step_us}) + {step_us}) % {step_us}"


# --- which events belong to a metric ------------------------------------------------------------------


def selection(
    definition: Definition, places: Mapping[str, int], table: str, measured: str | None = None
) -> str:
    """The events of a metric, retracted ones too: when, what they add, and the label of each dimension.

    `measured`: the value, where it is not as it stands in the event.
    """
    columns = [
        "time",
        "received_at",
        "subject",
        "tiebreak",
        "retracted",
        "corrected",
        f"{measured or _value(definition, places)} AS value",
        f"{_place(definition, places)} AS per",
        *(
            f"{_label(dimension, places)} AS {_dimension_column(definition, name)}"
            for name, dimension in definition.dimensions.items()
        ),
    ]
    tests = [f"type IN {listed(definition.event)}"]
    tests += [_condition(places[path], condition) for path, condition in definition.where.items()]
    if definition.consent is not None:
        tests.append(f"COALESCE(label_{places[definition.consent]} = 'true', FALSE)")
    chosen = f"SELECT {', '.join(columns)} FROM {table} WHERE {' AND '.join(tests)}"
    needed = "value IS NOT NULL AND per IS NOT NULL"
    return f"SELECT * FROM ({chosen}) WHERE {needed}"


def _value(definition: Definition, places: Mapping[str, int]) -> str:
    if definition.of is None:
        return "TRUE"
    if definition.of == "subject":
        return "subject"
    if definition.aggregate == "unique":
        return f"NULLIF(label_{places[definition.of]}, 'null')"
    return f"nanos_{places[definition.of]}"


def _place(definition: Definition, places: Mapping[str, int]) -> str:
    return "''" if definition.per is None else f"NULLIF(label_{places[definition.per]}, 'null')"


def _label(dimension: Dimension, places: Mapping[str, int]) -> str:
    column = f"label_{places[dimension.path]}"
    cases = f"WHEN {column} IS NULL OR {column} = 'null' OR {_is_nested(column)} THEN 'null'"
    if dimension.values is not None:
        cases += f" WHEN {column} NOT IN {listed(labels_of(dimension.values))} THEN '\"(other)\"'"
    return f"CASE {cases} ELSE {column} END"


def _is_nested(column: str) -> str:
    return f"left({column}, 1) IN ('{{', '[')"


def _condition(place: int, condition: Condition) -> str:
    column = f"label_{place}"
    if condition.values is not None:
        return f"COALESCE({column} IN {listed(labels_of(condition.values))}, FALSE)"
    tests = [f"{column} IS NOT NULL"]
    if condition.ne:
        tests.append(f"NOT {_is_nested(column)} AND {column} NOT IN {listed(labels_of(condition.ne))}")
    for operator, number in condition.bounds:
        tests.append(f"COALESCE({_compared(place, operator, *bracket(number))}, FALSE)")
    return "(" + " AND ".join(tests) + ")"


def _compared(place: int, operator: str, bound: str, above: bool) -> str:
    """An exact comparison of two numbers, each cut down to 18 decimals with what lies above as a flag."""
    pair = f"(floor_{place}, above_{place}::INTEGER)"
    return f"{pair} {operator} ({bound}::DECIMAL(38, 18), {int(above)})"


def _dimension_column(definition: Definition, name: str) -> str:
    return f"dimension_{list(definition.dimensions).index(name)}"


class Span(NamedTuple):
    """A stretch of time that events are added up over: a kind of bucket, a window, or a kind of period."""

    kind: str  # bucket, rolling or period
    place: str  # resolution, window or period
    start: str  # SQL: where it begins for an event; NULL if the event is in none


def cells(definition: Definition, spans: Iterable[Span], source: str) -> str:
    """The rows of `source`, once for each split and span that they are in."""
    splits = [
        f"{{'split': {literal(','.join(split))}, 'segment': {_segment(definition, split)}}}"
        for split in definition.splits
    ]
    places = [
        f"{{'kind': {literal(span.kind)}, 'place': {literal(span.place)}, 'start': {span.start}}}"
        for span in spans
    ]
    return (
        "SELECT * EXCLUDE (cell, span), cell.*, span.*"
        f" FROM (SELECT *, unnest([{', '.join(splits)}]) AS cell"
        f" FROM (SELECT *, unnest([{', '.join(places)}]) AS span FROM {source}))"
        " WHERE span.start IS NOT NULL"
    )


def _segment(definition: Definition, split: tuple[str, ...]) -> str:
    heads = [literal(f'"{name}":') for name in split]
    columns = [_dimension_column(definition, name) for name in split]
    parts = [f"{head} || {column}" for head, column in zip(heads, columns, strict=True)]
    return "'{' || " + " || ',' || ".join(parts) + " || '}'" if parts else "'{}'"


# --- what they add up to ------------------------------------------------------------------------------


def aggregation(definition: Definition, spans: Iterable[Span], source: str) -> str:
    """SELECT of kind, place, start, segment, split, n, sum, least, greatest, value and its tolerance.

    `source` has the columns of `selection`.
    """
    rows = f"{cells(definition, spans, source)} AND NOT retracted"
    keys, value = _KEYS, _AGGREGATES.get(definition.aggregate, f"{definition.aggregate}(value)")
    if definition.per is not None:  # each place's latest, then their sum
        rows = f"SELECT *, rank = 1 AS is_latest FROM (SELECT *, {_RANK_BY_TIME} AS rank FROM ({rows}))"
        value = "sum(value) FILTER (is_latest)"
    elif definition.aggregate in QUANTILES:  # by sorting, which unlike quantile_disc takes bounded memory
        rows = f"SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY value) AS rank FROM ({rows})"
        rows = f"SELECT *, count(*) OVER (PARTITION BY {keys}) AS size FROM ({rows})"
        value = f"min(value) FILTER (rank * 100 >= size * {QUANTILES[definition.aggregate]})"
    numbers = "NULL AS total, NULL AS least, NULL AS greatest"
    if definition.aggregate not in ("count", "unique"):
        numbers = "sum(value) AS total, min(value) AS least, max(value) AS greatest"
    numbers += ", NULL AS converted" if definition.unit_path is None else ", sum(abs(value)) AS converted"
    grouped = f"SELECT {keys}, count(*) AS n, {numbers}, {value} AS value FROM ({rows}) GROUP BY {keys}"
    tolerance = _tolerance(definition.aggregate)
    if definition.unit_path is not None:
        tolerance += f" + CAST(ceil(converted::DOUBLE * {CONVERTED_TOLERANCE}) AS HUGEINT) + n"
    return f"SELECT {keys}, n, total, least, greatest, value, {tolerance} FROM ({grouped})"


_KEYS = "kind, place, start, segment, split"
_RANK_BY_TIME = f"row_number() OVER (PARTITION BY {_KEYS}, per ORDER BY time DESC, tiebreak DESC)"
_AGGREGATES = {
    "count": f"count(*) * {ONE}",
    "unique": f"count(DISTINCT value) * {ONE}",
    "mean": "sum(value) // count(*)",  # cut off: within one unit of the last kept digit
    "latest": "max({'time': time, 'tiebreak': tiebreak, 'value': value}).value",
}


def _tolerance(aggregate: str) -> str:
    """How far a published `value` may be off, in units of 10^-9."""
    if aggregate == "mean":
        return ONE_UNIT
    if aggregate == "unique":
        allowed = f"CAST(ceil(value::DOUBLE * {UNIQUE_TOLERANCE}) AS HUGEINT)"
        return f"CASE WHEN value > {EXACT_UNIQUE} * {ONE} THEN {allowed} ELSE 0::HUGEINT END"
    if aggregate in QUANTILES:
        return f"CAST(ceil(abs(value::DOUBLE) * {QUANTILE_TOLERANCE} * (1 + 1e-9)) AS HUGEINT) + 1"
    return "0::HUGEINT"


ONE_UNIT = "1::HUGEINT"
