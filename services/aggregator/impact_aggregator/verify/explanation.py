"""`explain`: why a number is what it is, from the views and, for what they cannot say, from the log."""

# ruff: noqa: S608 (names are ours, texts are quoted by `literal`)

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from impact_aggregator.verify.definitions import formula_of
from impact_aggregator.verify.metric_sql import cells, literal
from impact_aggregator.verify.published import snapshot, to_micros
from impact_aggregator.verify.recount import DAY, Recount, window_spans
from impact_aggregator.verify.run import MEMORY_MIB, Log, Scope, in_scope, load, silent
from impact_aggregator.verify.values import shown_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_aggregator.verify.definitions import Metric
    from impact_aggregator.verify.published import Snapshot
    from impact_aggregator.verify.run import Progress
    from impact_eventlog import Partition
    from impact_schemas.identity import Identities

ALL_TIME = "all"


class Facts(msgspec.Struct, frozen=True):
    """What the log says about one metric, segment and window; a ratio has the facts of its two parts."""

    metric: str
    counted: int
    late: int  # of these, received on a later day than that of their time
    corrected: int  # of these
    retracted: int  # that would be among them had they not been taken back
    left_out: int  # of the metric's types in the window, but not of the metric


class Explanation(msgspec.Struct, frozen=True):
    """Everything that makes a number what it is."""

    product: str
    metric: str
    title: str
    version: int
    unit: str
    aggregate: str
    evidence: str
    method: str | None
    source: str | None
    owner: str | None
    definition: msgspec.Raw
    segment: str
    window: str
    value: Any  # a Decimal, a float on SQLite, or None
    n: int | None
    status: str
    as_of: str
    window_start: str | None
    suppressed: int  # other cells of the metric in this window that are hidden
    duplicates: int  # of the product: copies that were not counted
    quarantined: dict[str, int]  # by code, of the metric's event types
    log_range: dict[str, int]  # "topic-partition" -> the first offset that is not in the number
    facts: list[Facts] | None  # None: the log was not read
    sql: list[str]  # that gives the number, and the buckets it is made of


class _Number(NamedTuple):
    metric: Metric
    window: str
    segment: str


async def explain(
    engine: AsyncEngine,
    log: Log | None,
    identities: Identities | None,
    scope: Scope,
    *,
    segment: str = "{}",
    window: str | None = None,
    progress: Progress = silent,
) -> Explanation:
    """Of the metric that `scope` names; without a log only what SQL says.

    Raises LookupError if there is no such number, LogBeginsLate and LogError.
    """
    async with snapshot(engine) as one:
        metrics = in_scope(await one.metrics(), scope)
        metric = next(metric for metric in metrics if metric.name == scope.metric)
        number = _Number(metric, window or _usual_window(metric), segment)
        explanation = await _from_views(one, number, metrics, engine.dialect.name)
        if log is None or identities is None or metric.block is not None:
            return explanation  # what the log says of a protected metric may be of few
        positions = await one.positions(log.topics)
        aside = await one.set_aside(log.events_topic)
        _, as_of = (await one.moments())[number.window]
    with tempfile.TemporaryDirectory(prefix="impact-explain-") as folder:
        recount = Recount(metrics, (), identities, Path(folder), MEMORY_MIB)
        try:
            recount.set_aside(aside)
            await load(recount, log, positions, progress)
            counted = _counted(metric, metrics)
            facts = [_facts(recount, number._replace(metric=part), as_of) for part in counted]
        finally:
            recount.close()
    return msgspec.structs.replace(explanation, facts=facts)


def _usual_window(metric: Metric) -> str:
    windows = metric.definition.windows
    return ALL_TIME if ALL_TIME in windows else windows[-1]


def _facts(recount: Recount, number: _Number, as_of: int) -> Facts:
    metric, window, segment = number
    recount.select(metric)
    rows = cells(metric.definition, window_spans({window: as_of}), "matched")
    late = f"(received_at // {DAY}) > (time // {DAY})"
    ((counted, late_ones, corrected, retracted),) = recount.rows(
        f"SELECT count(*) FILTER (NOT retracted), count(*) FILTER (NOT retracted AND {late}),"
        f" count(*) FILTER (NOT retracted AND corrected), count(*) FILTER (retracted)"
        f" FROM ({rows}) WHERE segment = {literal(segment)}"
    )
    ((matching,),) = recount.rows(f"SELECT count(*) FROM ({rows}) WHERE split = '' AND NOT retracted")
    left_out = recount.seen(metric, window, as_of) - matching
    return Facts(metric.name, counted, late_ones, corrected, retracted, left_out)


# --- what SQL says ------------------------------------------------------------------------------------

_METRIC = """
SELECT title, unit, evidence, method, source, owner, definition FROM metrics
WHERE product = :product AND metric = :metric
"""
_VALUE = """
SELECT value, n, status, as_of, window_start FROM rolling_metrics
WHERE product = :product AND metric = :metric AND time_window = :window AND segment = :segment
"""
_SUPPRESSED = """
SELECT COUNT(*) AS cells FROM rolling_metrics
WHERE product = :product AND metric = :metric AND time_window = :window AND status = 'suppressed'
"""
_DUPLICATES = "SELECT duplicates FROM ledger WHERE product = :product"
_QUARANTINED = """
SELECT code, event_type, COUNT(*) AS events FROM quarantined_events
WHERE product = :product GROUP BY code, event_type
"""


async def _from_views(one: Snapshot, number: _Number, metrics: Sequence[Metric], dialect: str) -> Explanation:
    metric, window, segment = number
    names: dict[str, object] = {"product": metric.product, "metric": metric.name}
    cell = {**names, "window": window}
    values = await one.rows(_VALUE, **cell, segment=segment)
    if not values:
        raise LookupError(
            f"{metric.name} of {metric.product} has no value in window {window!r} and segment {segment}: its"
            f" windows are {', '.join(metric.definition.windows)}; rolling_metrics has its segments"
        )
    value, (about,) = values[0], await one.rows(_METRIC, **names)
    (suppressed,) = await one.rows(_SUPPRESSED, **cell)
    duplicates = await one.rows(_DUPLICATES, product=metric.product)
    types = {kind for part in metrics for kind in part.definition.event}
    quarantined = await one.rows(_QUARANTINED, product=metric.product)
    return Explanation(
        product=metric.product,
        metric=metric.name,
        version=metric.version,
        aggregate=metric.definition.aggregate,
        **{name: about[name] for name in ("title", "unit", "evidence", "method", "source", "owner")},
        definition=msgspec.Raw(about["definition"].encode()),
        segment=segment,
        window=window,
        value=value["value"],
        n=value["n"],
        status=value["status"],
        as_of=_shown_time(value["as_of"]),
        window_start=None if value["window_start"] is None else _shown_time(value["window_start"]),
        suppressed=suppressed["cells"],
        duplicates=int(duplicates[0]["duplicates"]) if duplicates else 0,
        quarantined=_by_code(quarantined, types),
        log_range=_log_range(await one.positions()),
        facts=None,
        sql=_sql(number, _counted(number.metric, metrics), value["window_start"], dialect),
    )


def _by_code(rows: Sequence[Mapping[str, Any]], types: set[str]) -> dict[str, int]:
    """Of the metric's types, and of events whose type cannot be read."""
    found: dict[str, int] = {}
    for row in rows:
        if row["event_type"] is None or row["event_type"] in types:
            found[row["code"]] = found.get(row["code"], 0) + row["events"]
    return dict(sorted(found.items()))


def _log_range(positions: Mapping[Partition, int]) -> dict[str, int]:
    return {f"{partition.topic}-{partition.number}": end for partition, end in sorted(positions.items())}


_STEPS = {"5m": "1m", "1h": "1m", "24h": "1h"}  # resolution of the buckets of a window; of others 1d
_BLOCKS = {"day": "1d", "week": "1w", "month": "1mo"}  # of a protected metric, whatever the window


def _counted(metric: Metric, metrics: Sequence[Metric]) -> list[Metric]:
    """The metric itself, or the counted ones that it is worked out of."""
    by_name = {one.name: one for one in metrics if one.product == metric.product}
    return formula_of(metric, by_name).metrics


def _sql(number: _Number, counted: Sequence[Metric], start: object, dialect: str) -> list[str]:
    """Ready to paste: the value, and the buckets that it is made of."""
    metric, window, segment = number
    schema = "impact." if dialect == "postgresql" else ""
    which = f"product = {literal(metric.product)} AND segment = {literal(segment)}"
    value = (
        f"SELECT value, n, status, as_of, window_start FROM {schema}rolling_metrics"
        f" WHERE {which} AND metric = {literal(metric.name)} AND time_window = {literal(window)};"
    )
    since = "" if start is None else f" AND bucket_start >= {literal(_shown_time(start))}"
    parts = ", ".join(literal(one.name) for one in counted)
    resolution = _STEPS.get(window, "1d") if metric.block is None else _BLOCKS[metric.block]
    buckets = (
        f'SELECT metric, bucket_start, "count", "sum", "min", "max", value FROM {schema}metric_buckets'
        f" WHERE {which} AND metric IN ({parts}) AND resolution = {literal(resolution)}{since}"
        " ORDER BY metric, bucket_start;"
    )
    return [value, buckets]


def _shown_time(moment: object) -> str:
    return shown_time(to_micros(moment))
