"""Attacks what is published of protected metrics, as somebody could who sees the views and nothing else.

Each block's cells are bounded from its margins; windows and periods are compared with the published blocks
that they are said to be made of, for what they hold beyond those is what the hidden ones hold.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import text

from impact_aggregator.protection.attack import revealed
from impact_aggregator.protection.blocks import RESOLUTIONS, block_end
from impact_aggregator.protection.holdings import cell_of, segment_of
from impact_aggregator.verify.published import to_micros
from impact_aggregator.verify.values import shown_time
from impact_database.engine import read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_aggregator.protection.suppression import Cell

Name = tuple[str, str]  # product, metric


class Exposure(msgspec.Struct, frozen=True):
    """Something hidden of which more can be said than it should."""

    product: str
    metric: str
    place: str  # the block's resolution, a window or a kind of period
    start: str | None
    segment: str
    min_cell: int
    low: float  # between these its events must be
    high: float


class Audit(msgspec.Struct, frozen=True):
    """What was attacked, and what gave way."""

    metrics: int
    blocks: int
    hidden: int  # cells
    exposures: list[Exposure]
    open_parts: list[str]  # metrics without privacy of their own that a protected one is made of


class _Metric(NamedTuple):
    min_cell: int
    is_counted: bool  # from events, and not made of others
    is_count: bool
    sources: tuple[str, ...]


_METRICS = "SELECT product, metric, min_cell, aggregate, definition FROM metrics"
_BLOCKS = """
SELECT b.product, b.metric, b.resolution, b.bucket_start, b.segment, b.count FROM metric_buckets b
JOIN metrics m ON m.product = b.product AND m.metric = b.metric WHERE m.block IS NOT NULL
"""
_WINDOWS = """
SELECT product, metric, time_window, window_start, window_end, segment, n FROM rolling_metrics
WHERE hidden_blocks IS NOT NULL AND n IS NOT NULL
"""
_PERIODS = """
SELECT product, metric, period, starts_at, ends_at, segment, n FROM period_metrics
WHERE hidden_blocks IS NOT NULL AND n IS NOT NULL
"""
_KINDS = {resolution: kind for kind, resolution in RESOLUTIONS.items()}
_DERIVED = ("ratio", "difference", "sum_of")

_RATIOS = """
SELECT r.product, r.metric, r.time_window, r.segment, r.value, r.n, r.hidden_blocks
FROM rolling_metrics r JOIN metrics m ON m.product = r.product AND m.metric = r.metric
WHERE r.hidden_blocks IS NOT NULL AND m.aggregate = 'ratio' AND r.status IN ('ok', 'stale', 'suppressed')
"""

Ratios = dict[tuple[Name, str], dict["Cell", tuple[float, int] | None]]  # by window: value and n
Counts = dict[Name, dict[tuple[str, int], dict["Cell", int | None]]]  # by (resolution, start of a block)


async def audit(
    engine: AsyncEngine,
    product: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Audit:
    """Of all products, or of one. `progress` is told how many of how many blocks are done."""
    async with read_only(engine).connect() as connection:
        metrics = await _metrics(connection, product)
        counts = await _counts(connection, metrics)
        unions = [*await _rows(connection, _WINDOWS), *await _rows(connection, _PERIODS)]
        ratios = await _ratios(connection, metrics)
    exposures = list(_of_blocks(metrics, counts, progress))
    exposures += [one for row in unions if (one := _of_union(metrics, counts, row)) is not None]
    exposures += _of_ratios(metrics, ratios)
    blocks = [cells for of_metric in counts.values() for cells in of_metric.values()]
    hidden = sum(count is None for cells in blocks for count in cells.values())
    protected = [name for name, metric in metrics.items() if metric.min_cell]
    return Audit(len(protected), len(blocks), hidden, exposures, _open_parts(metrics))


async def _metrics(connection: AsyncConnection, product: str | None) -> dict[Name, _Metric]:
    """All metrics in force; those that are not protected have 0 as their least cell."""
    return {
        (of, metric): _Metric(
            min_cell or 0, aggregate not in _DERIVED, aggregate == "count", _sources(definition)
        )
        for of, metric, min_cell, aggregate, definition in await _rows(connection, _METRICS)
        if product in (None, of)
    }


def _sources(definition: str) -> tuple[str, ...]:
    entry = msgspec.json.decode(definition)
    pairs = {**entry.get("ratio", {}), **entry.get("difference", {})}
    return (*pairs.values(), *entry.get("sum_of", ()))


def _open_parts(metrics: Mapping[Name, _Metric]) -> list[str]:
    found = {
        f"{product} {source}"
        for (product, _), metric in metrics.items()
        if metric.min_cell
        for source in metric.sources
        if not metrics[product, source].min_cell
    }
    return sorted(found)


async def _counts(connection: AsyncConnection, metrics: Mapping[Name, _Metric]) -> Counts:
    counts: Counts = defaultdict(lambda: defaultdict(dict))
    for product, metric, resolution, start, segment, count in await _rows(connection, _BLOCKS):
        if (product, metric) in metrics:
            counts[product, metric][resolution, to_micros(start)][cell_of(segment)] = count
    return counts


def _of_blocks(
    metrics: Mapping[Name, _Metric], counts: Counts, progress: Callable[[int, int], None]
) -> Iterator[Exposure]:
    total, done = sum(len(blocks) for blocks in counts.values()), 0
    for name, blocks in counts.items():
        for (resolution, start), cells in blocks.items():
            min_cell = metrics[name].min_cell
            for cell, found in revealed(cells, min_cell).items():
                yield Exposure(*name, resolution, shown_time(start), segment_of(cell), min_cell, *found)
            done += 1
            progress(done, total)


async def _ratios(connection: AsyncConnection, metrics: Mapping[Name, _Metric]) -> Ratios:
    """Windows of ratios of counts in which no shown cell leaves a block out: their parts add up."""
    found: Ratios = defaultdict(dict)
    mixed = set()
    for product, metric, window, segment, value, n, hidden in await _rows(connection, _RATIOS):
        name = (product, metric)
        if name in metrics and all(metrics[product, one].is_count for one in metrics[name].sources):
            found[name, window][cell_of(segment)] = None if value is None else (float(value), n)
            if value is not None and hidden:
                mixed.add((name, window))
    return {place: cells for place, cells in found.items() if place not in mixed}


def _of_ratios(metrics: Mapping[Name, _Metric], ratios: Ratios) -> Iterator[Exposure]:
    """The numerators, value x n, and what is left of the denominators."""
    for (name, window), cells in ratios.items():
        above = {cell: None if one is None else round(one[0] * one[1]) for cell, one in cells.items()}
        rest = {cell: None if one is None else one[1] - (above[cell] or 0) for cell, one in cells.items()}
        min_cell = metrics[name].min_cell
        given_away = {**revealed(above, min_cell), **revealed(rest, min_cell)}
        for cell, found in given_away.items():
            yield Exposure(*name, window, None, segment_of(cell), min_cell, *found)


def _of_union(metrics: Mapping[Name, _Metric], counts: Counts, row: Sequence[Any]) -> Exposure | None:
    """A window or period that holds other events than the published blocks within it."""
    product, metric, place, start, end, segment, n = row
    name = (product, metric)
    if name not in metrics or not metrics[name].is_counted:
        return None
    first, last = None if start is None else to_micros(start), to_micros(end)
    blocks = [
        cells
        for (resolution, began), cells in counts.get(name, {}).items()
        if (first is None or began >= first) and block_end(_KINDS[resolution], began) <= last
    ]
    cell = cell_of(segment)
    more = n - sum(cells.get(cell) or 0 for cells in blocks)
    if not more or all(cells.get(cell, 0) is not None for cells in blocks):
        return None
    began = None if first is None else shown_time(first)
    return Exposure(product, metric, place, began, segment, metrics[name].min_cell, more, more)


async def _rows(connection: AsyncConnection, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.execute(text(query))]
