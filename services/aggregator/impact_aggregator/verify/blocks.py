"""Protected metrics: what is shown is made of the frozen blocks, and no cell of few is among those shown."""

# ruff: noqa: S608 (every name is ours, every text is quoted by `literal`)

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from impact_aggregator.verify.comparison import SQLITE_SLACK, Difference
from impact_aggregator.verify.metric_sql import Span, cells
from impact_aggregator.verify.published import to_micros, to_nanos
from impact_aggregator.verify.values import shown_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from impact_aggregator.verify.definitions import Formula, Metric
    from impact_aggregator.verify.published import Snapshot
    from impact_aggregator.verify.recount import Recount

Name = tuple[str, str]  # product, metric
_ONE = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Frozen(NamedTuple):
    """One cell of a block as it was decided."""

    start: int
    is_hidden: bool
    is_restated: bool
    n: int
    total: int  # in units of 10^-9
    accounted_n: int  # of the block, when it was last looked at
    accounted_total: int


class Shown(NamedTuple):
    """One row of rolling_metrics or period_metrics."""

    kind: str  # rolling or period
    name: Name
    window: str  # or kind of period
    segment: str
    start: int | None
    end: int
    value: int | None
    n: int | None
    status: str


class Blocks(NamedTuple):
    """What the service says of its protected metrics."""

    cells: Mapping[tuple[Name, str], Sequence[Frozen]]  # by metric and segment
    late: Mapping[tuple[Name, str], tuple[int, int]]  # n and total that came to decided blocks only
    shown: Sequence[Shown]


_CELLS = """
SELECT s.product, s.metric, s.segment, c.block_start, c.is_hidden, c.is_restated, c.count, c.sum,
    COALESCE(a.count, 0) AS accounted_count, a.sum AS accounted_sum
FROM block_cell c JOIN series s ON s.series_id = c.series_id
JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version
LEFT JOIN block_account a ON a.series_id = c.series_id AND a.block_start = c.block_start
WHERE m.active
"""
_LATE = """
SELECT s.product, s.metric, s.segment, a.count, a.sum
FROM block_account a JOIN series s ON s.series_id = a.series_id
JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version
LEFT JOIN block_cell c ON c.series_id = a.series_id AND c.block_start = a.block_start
WHERE m.active AND c.series_id IS NULL
"""
_SHOWN = """
SELECT product, metric, time_window, segment, window_start, window_end, value, n, status
FROM rolling_metrics WHERE hidden_blocks IS NOT NULL
"""
_PERIODS = """
SELECT product, metric, period, segment, starts_at, ends_at, value, n, status
FROM period_metrics WHERE hidden_blocks IS NOT NULL
"""


async def published_blocks(one: Snapshot) -> Blocks:
    """Every block of every protected metric in force, and the windows made of them."""
    found: dict[tuple[Name, str], list[Frozen]] = defaultdict(list)
    for row in await one.rows(_CELLS):
        product, metric, segment, start, hidden, restated, n, total, looked_n, looked = row.values()
        totals = (_nanos(total) or 0, looked_n, _nanos(looked) or 0)
        frozen = Frozen(to_micros(start), bool(hidden), bool(restated), n, *totals)
        found[(product, metric), segment].append(frozen)
    late: dict[tuple[Name, str], tuple[int, int]] = {}
    for row in await one.rows(_LATE):
        product, metric, segment, n, total = row.values()
        n_before, total_before = late.get(((product, metric), segment), (0, 0))
        late[(product, metric), segment] = (n_before + n, total_before + (_nanos(total) or 0))
    shown = []
    for kind, query in (("rolling", _SHOWN), ("period", _PERIODS)):
        for row in await one.rows(query):
            product, metric, window, segment, start, end, value, n, status = row.values()
            span = (None if start is None else to_micros(start), to_micros(end))
            shown.append(Shown(kind, (product, metric), window, segment, *span, _nanos(value), n, status))
    return Blocks(found, late, shown)


def block_differences(blocks: Blocks, metrics: Sequence[Metric], recount: Recount) -> Iterator[Difference]:
    """What does not agree; of cells that are hidden no number is told."""
    by_name = {(metric.product, metric.name): metric for metric in metrics}
    for (name, segment), frozen in blocks.cells.items():
        if name in by_name and not _is_kept(frozen, blocks.late.get((name, segment), (0, 0))):
            yield _difference((name, "block", "all", segment), "carried", "what came in", "other than that")
    for shown in blocks.shown:
        if shown.name in by_name:
            metric = by_name[shown.name]
            yield from _of_window(shown, recount.formula(metric), metric.block or "", blocks)
    for metric in metrics:
        if metric.block is not None and not metric.is_derived:
            yield from _small_ones(metric, blocks, recount)


def _is_kept(frozen: Iterable[Frozen], late: tuple[int, int]) -> bool:
    """Nothing is lost between blocks: what was decided is what was found in them, each change carried on."""
    more = [(one.n - one.accounted_n, one.total - one.accounted_total) for one in frozen]
    return (sum(n for n, _ in more), sum(total for _, total in more)) == late


def _of_window(shown: Shown, formula: Formula, block: str, blocks: Blocks) -> Iterator[Difference]:
    metrics = formula.metrics
    parts = [_within(blocks, (one.product, one.name), shown, block) for one in metrics]
    open_cells = [[cell for cell in part if not cell.is_hidden] for part in parts]
    is_hidden = not any(open_cells) and any(parts)
    place = (shown.name, shown.kind, shown.window, shown.segment)
    if shown.status in ("suppressed", "no_data"):
        if shown.value is not None or (shown.status == "suppressed" and shown.n is not None):
            yield _difference(place, "value", "hidden", "shown")
        elif shown.status == "suppressed" and any(cell.n for part in open_cells for cell in part):
            yield _difference(place, "status", "ok", shown.status)
        return
    if is_hidden:
        yield _difference(place, "suppression", "hidden", "shown")
        return
    counts = [sum(cell.n for cell in part) for part in open_cells]
    n = sum(counts[len(formula.above) :] or counts)  # of a ratio that of its denominator
    if n != shown.n:
        yield _difference(place, "n", str(n), str(shown.n))
    elif len(metrics) == 1 and metrics[0].definition.aggregate in ("count", "sum"):
        (cells_of,) = open_cells  # other values follow from more than these numbers
        is_count = metrics[0].definition.aggregate == "count"
        right = n * _ONE if is_count else sum(cell.total for cell in cells_of)
        if shown.value is None or abs(right - shown.value) > abs(right) * SQLITE_SLACK:
            yield _difference(place, "value", _plain(right), _plain(shown.value))


def _within(blocks: Blocks, name: Name, shown: Shown, block: str) -> list[Frozen]:
    found = blocks.cells.get((name, shown.segment), ())
    first = shown.start
    return [
        cell
        for cell in found
        if (first is None or first <= cell.start) and _end(cell.start, block) <= shown.end
    ]


def _end(start: int, block: str) -> int:
    began = _EPOCH + timedelta(microseconds=start)
    if block == "month":
        ended = began.replace(year=began.year + began.month // 12, month=began.month % 12 + 1)
    else:
        ended = began + timedelta(days=1 if block == "day" else 7)
    return (ended - _EPOCH) // timedelta(microseconds=1)


def _small_ones(metric: Metric, blocks: Blocks, recount: Recount) -> Iterator[Difference]:
    """Cells of few, by the log, that are shown; not where what came late makes another number of it."""
    recount.select(metric)
    start = f"epoch_us(date_trunc('{metric.block}', make_timestamp(time)))"
    rows = cells(metric.definition, [Span("block", "", start)], "matched")
    counted = recount.rows(
        "SELECT start, segment, count(*), count(subject), count(DISTINCT subject)"
        f" FROM ({rows}) WHERE NOT retracted GROUP BY start, segment"
    )
    name = (metric.product, metric.name)
    shown = {
        (cell.start, segment): cell
        for (of, segment), frozen in blocks.cells.items()
        for cell in frozen
        if of == name and not cell.is_hidden and not cell.is_restated
    }
    for began, segment, n, named, people in counted:
        cell = shown.get((began, segment))
        if cell is not None and cell.n == n and 0 < (people if named else n) < (metric.min_cell or 0):
            place = (name, "block", metric.block or "", segment)
            yield _difference(place, "suppression", "hidden", "shown", began)


def _difference(
    place: tuple[Name, str, str, str], field: str, right: str, found: str, start: int | None = None
) -> Difference:
    name, kind, where, segment = place
    began = None if start is None else shown_time(start)
    return Difference(*name, kind, where, began, segment, field, right, found)


def _nanos(number: Any) -> int | None:
    if number is None:
        return None
    return int(number.replace(".", "")) if isinstance(number, str) else int(to_nanos(number) or 0)


def _plain(nanos: int | None) -> str:
    return "nothing" if nanos is None else f"{nanos / _ONE:.9g}"
