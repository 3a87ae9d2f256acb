"""A metric's definition as SQL over the columns of `flatten`. Pure.

Numbers are integers of 10^-9 in 128 bits (HUGEINT): sums are exact, and nothing goes through a double but
the tolerances of what is an estimate by design.
"""

# ruff: noqa: S608 (every name is ours, every text is quoted by `literal`)

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.verify.definitions import labels_of
from impact_aggregator.verify.values import bracket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from impact_aggregator.verify.definitions import Condition, Definition, Dimension

ONE = "1000000000::HUGEINT"
EXACT_UNIQUE = 1024  # beyond it `unique` is an estimate
UNIQUE_TOLERANCE = 4 * 0.0081  # four standard errors
QUANTILE_TOLERANCE = 0.01
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


class Key(NamedTuple):
    """A column that rows are grouped by."""

    name: str
    sql: str


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


def selection(definition: Definition, places: Mapping[str, int], table: str) -> str:
    """The events of a metric, retracted ones too: when, what they add, and the label of each dimension."""
    columns = [
        "time",
        "received_at",
        "tiebreak",
        "retracted",
        "corrected",
        f"{_value(definition, places)} AS value",
        f"{_place(definition, places)} AS place",
        *(
            f"{_label(dimension, places)} AS {_dimension_column(definition, name)}"
            for name, dimension in definition.dimensions.items()
        ),
    ]
    tests = [f"type IN {listed(definition.event)}"]
    tests += [_condition(places[path], condition) for path, condition in definition.where.items()]
    chosen = f"SELECT {', '.join(columns)} FROM {table} WHERE {' AND '.join(tests)}"
    needed = "value IS NOT NULL AND place IS NOT NULL"
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


def segment(definition: Definition, split: tuple[str, ...]) -> str:
    """The segment's JSON text for the rows of `selection`."""
    heads = [literal(f'"{name}":') for name in split]
    columns = [_dimension_column(definition, name) for name in split]
    parts = [f"{head} || {column}" for head, column in zip(heads, columns, strict=True)]
    return "'{' || " + " || ',' || ".join(parts) + " || '}'" if parts else "'{}'"


# --- what they add up to ------------------------------------------------------------------------------


def aggregation(definition: Definition, keys: Iterable[Key], source: str, condition: str = "TRUE") -> str:
    """SELECT of the keys and n, sum, least, greatest, value, and the tolerance of value, by group.

    `source` has the columns of `selection`.
    """
    keys = tuple(keys)
    names = ", ".join(key.name for key in keys)
    chosen = ", ".join(f"{key.sql} AS {key.name}" for key in keys)
    numbers = "sum(value), min(value), max(value)"
    if definition.aggregate in ("count", "unique"):
        numbers = "NULL::HUGEINT, NULL::HUGEINT, NULL::HUGEINT"
    total, least, greatest = numbers.split(", ")
    rows = f"SELECT {chosen}, value, place, time, tiebreak FROM {source} WHERE NOT retracted AND {condition}"
    if definition.per is not None:
        grouped = (
            f"SELECT {names}, sum(n) AS n, sum(total) AS total, min(least) AS least,"
            f" max(greatest) AS greatest, sum(value) AS value FROM (SELECT {names}, place, count(*) AS n,"
            f" sum(value) AS total, min(value) AS least, max(value) AS greatest, {_LATEST} AS value"
            f" FROM ({rows}) GROUP BY {names}, place) GROUP BY {names}"
        )
    else:
        grouped = (
            f"SELECT {names}, count(*) AS n, {total} AS total, {least} AS least, {greatest} AS greatest,"
            f" {_aggregate(definition.aggregate)} AS value FROM ({rows}) GROUP BY {names}"
        )
    return (
        f"SELECT {names}, n::BIGINT, total::HUGEINT, least::HUGEINT, greatest::HUGEINT, value::HUGEINT,"
        f" {tolerance(definition.aggregate)} FROM ({grouped})"
    )


_LATEST = "max({'time': time, 'tiebreak': tiebreak, 'value': value}).value"


def _aggregate(aggregate: str) -> str:
    if aggregate == "count":
        return f"count(*) * {ONE}"
    if aggregate == "unique":
        return f"count(DISTINCT value) * {ONE}"
    if aggregate == "mean":
        return "sum(value) // count(*)"  # cut off: within one unit of the last kept digit
    if aggregate == "latest":
        return _LATEST
    if aggregate in QUANTILES:
        return f"quantile_disc(value, {QUANTILES[aggregate]})"  # the value at rank ceil(q x n)
    return f"{aggregate}(value)"


def tolerance(aggregate: str) -> str:
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
