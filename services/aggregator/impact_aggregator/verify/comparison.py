"""Compares what the service published with what the log says, row by row."""

# ruff: noqa: S608 (every name is ours)

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from impact_aggregator.verify.metric_sql import ONE_UNIT, listed
from impact_aggregator.verify.recount import RESOLUTIONS, window_start
from impact_aggregator.verify.values import shown_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from impact_aggregator.verify.definitions import Formula, Metric, Term
    from impact_aggregator.verify.recount import Recount

_TABLES = """
CREATE TABLE published_bucket (metric INTEGER, resolution VARCHAR, start BIGINT, segment VARCHAR, n BIGINT,
    total HUGEINT, mean HUGEINT, least HUGEINT, greatest HUGEINT, value HUGEINT);
CREATE TABLE published_window (metric INTEGER, time_window VARCHAR, segment VARCHAR, value HUGEINT, n BIGINT,
    status VARCHAR);
CREATE TABLE published_period (metric INTEGER, period VARCHAR, start BIGINT, ends BIGINT, segment VARCHAR,
    value HUGEINT, n BIGINT, status VARCHAR);
CREATE TABLE frame (metric INTEGER, time_window VARCHAR, seen BOOLEAN, stale BOOLEAN, zero HUGEINT,
    min_cell INTEGER);
CREATE TABLE metric (metric INTEGER, aggregate VARCHAR, min_cell INTEGER, zero HUGEINT,
    converts BOOLEAN);
CREATE TABLE compared (kind VARCHAR, metric INTEGER, rows BIGINT);
CREATE TABLE difference (metric INTEGER, kind VARCHAR, place VARCHAR, start BIGINT, segment VARCHAR,
    field VARCHAR, expected VARCHAR, found VARCHAR);
"""
# a double keeps 15 to 17 digits of a number; PostgreSQL keeps all
SQLITE_SLACK = 1e-12


class Difference(msgspec.Struct, frozen=True):
    """One number of the service that is not what the log says."""

    product: str
    metric: str
    kind: str  # bucket, rolling, period or ledger
    place: str  # resolution, window or period
    start: str | None
    segment: str
    field: str
    expected: str | None
    found: str | None


class Compared(msgspec.Struct, frozen=True):
    """How many rows of one metric were compared, and how many of their fields differ."""

    product: str
    metric: str
    buckets: int
    rolling: int
    periods: int
    differences: int
    skipped: str | None = None  # why its rolling values were not compared


class Comparison:
    """Holds the published numbers beside the recomputed ones, in the same DuckDB."""

    def __init__(self, recount: Recount, slack: float) -> None:
        self._recount = recount
        self._sql = recount.sql
        self._slack = slack
        self._numbers = {(metric.product, metric.name): metric.number for metric in recount.metrics}
        self._sql.execute(_TABLES)
        for metric in recount.metrics:
            converts = metric.definition.unit_path is not None
            row = [metric.number, metric.definition.aggregate, metric.min_cell, metric.zero, converts]
            self._sql.execute("INSERT INTO metric VALUES (?, ?, ?, ?, ?)", row)

    # --- taking in what is published ------------------------------------------------------------------

    def add_published(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows that begin with product and metric; those of metrics that are not asked for are left out."""
        known = [
            (self._numbers[row[0], row[1]], *row[2:]) for row in rows if (row[0], row[1]) in self._numbers
        ]
        if not known:
            return
        columns = [np.array(values, dtype=object) for values in zip(*known, strict=True)]
        columns[0] = columns[0].astype(np.int64)
        names = [f"c{place}" for place in range(len(columns))]
        self._sql.register("chunk", dict(zip(names, columns, strict=True)))
        self._sql.execute(f"INSERT INTO {table} SELECT {', '.join(names)} FROM chunk")
        self._sql.unregister("chunk")

    # --- comparing ------------------------------------------------------------------------------------

    def compare_buckets(self, as_of: int | None) -> None:
        """Every bucket that is kept; fine ones that are due to be deleted are left out."""
        self._sql.execute("CREATE TEMP TABLE pair AS " + _BUCKET_PAIRS.format(kept=_kept(as_of)))
        self._judge("bucket", "resolution", (
            ("count", "e_n", "f_n", "0"),
            ("sum", "e_total", "f_total", "converted"),
            ("mean", "e_mean", "f_mean", f"(converted + {ONE_UNIT})"),
            ("min", "e_least", "f_least", "converted"),
            ("max", "e_greatest", "f_greatest", "converted"),
            ("value", "e_value", "f_value", "tolerance"),
        ))  # fmt: skip

    def compare_windows(
        self, moments: Mapping[str, tuple[int | None, int]], pending: set[tuple[str, str]]
    ) -> None:
        """Every rolling value at its own moment, but those that the next tick will change.

        `moments`: where each window begins, and when its values are right.
        """
        last_times = {
            metric.number: self._recount.last_time(metric)
            for metric in self._recount.metrics
            if not metric.is_derived
        }
        for metric in self._recount.metrics:
            if metric.block is not None or self.skipped(metric, pending):  # see `blocks`
                continue
            for window in metric.definition.windows:
                if window in moments:
                    self._frame(metric, window, *moments[window], last_times)
        self._sql.execute("CREATE TEMP TABLE pair AS " + _WINDOW_PAIRS)
        self._judge("rolling", "time_window", (
            ("status", "e_status", "f_status", None),
            ("n", "e_n", "f_n", "0"),
            ("value", "e_value", "f_value", "tolerance"),
        ))  # fmt: skip

    def compare_periods(self, pending: set[tuple[str, str]]) -> None:
        """Every calendar month, quarter and year."""
        skipped = [
            str(metric.number)
            for metric in self._recount.metrics
            if metric.block is not None or self.skipped(metric, pending)
        ]
        self._sql.execute(
            "CREATE TEMP TABLE pair AS " + _PERIOD_PAIRS.format(skipped=", ".join(skipped) or "-1")
        )
        self._judge("period", "period", (
            ("ends_at", "e_ends", "f_ends", "0"),
            ("n", "e_n", "f_n", "0"),
            ("value", "e_value", "f_value", "tolerance"),
        ))  # fmt: skip

    def note_compared(self, values: Iterable[tuple[str, tuple[str, str]]]) -> None:
        """Values that were compared elsewhere: kind and metric of each."""
        for (kind, name), rows in Counter(values).items():
            if name in self._numbers:
                row = [kind, self._numbers[name], rows]
                self._sql.execute("INSERT INTO compared VALUES (?, ?, ?)", row)

    def fill_derived(self) -> None:
        """Sums, differences and ratios from their parts, which are rolled up apart."""
        derived = [metric for metric in self._recount.metrics if metric.is_derived]
        formulas = {metric.number: self._recount.formula(metric) for metric in derived}
        for part in {part.number: part for formula in formulas.values() for part in formula.metrics}.values():
            self._recount.note_seen(part)
        for metric in derived:
            formula = formulas[metric.number]
            values = _side(formula.above)
            if formula.below:
                zero = formula.above[0].metric.zero
                sides = {"above": values, "below": _side(formula.below)}
                values = _RATIO.format(zero="NULL" if zero is None else zero, **sides)
            splits = listed(",".join(split) for split in self._splits_of(metric, formula))
            parts = {part.number for part in formula.metrics}
            numbers = ", ".join(map(str, sorted(parts)))
            query = _DERIVED.format(
                number=metric.number, values=values, splits=splits, numbers=numbers, parts=len(parts)
            )
            self._sql.execute(f"INSERT INTO expected {query}")

    @staticmethod
    def _splits_of(metric: Metric, formula: Formula) -> set[tuple[str, ...]]:
        """It is split as all that it is made of is; where it names dimensions itself, by no others."""
        shared = set.intersection(*(set(part.definition.splits) for part in formula.metrics))
        own = set(metric.definition.splits)
        return shared & own if len(own) > 1 else shared

    def skipped(self, metric: Metric, pending: set[tuple[str, str]]) -> bool:
        """Whether the metric's values, or those of a part of it, wait for the next tick."""
        names = (metric.name, *(part.name for part in self._parts(metric)))
        return any((metric.product, name) in pending for name in names)

    def _parts(self, metric: Metric) -> list[Metric]:
        return self._recount.formula(metric).metrics

    def _frame(
        self,
        metric: Metric,
        window: str,
        start: int | None,
        as_of: int,
        last_times: Mapping[int, int | None],
    ) -> None:
        """What all rolling values of a metric and window share; also checks where the window begins."""
        if start != window_start(window, as_of):
            found = [metric.number, window, str(window_start(window, as_of)), str(start)]
            self._sql.execute(
                "INSERT INTO difference VALUES (?, 'rolling', ?, NULL, '{}', 'window_start', ?, ?)", found
            )
        parts = self._parts(metric)
        seen = all(self._recount.seen(part, window, as_of) > 0 for part in parts)
        stale = any(
            cadence is not None and last is not None and as_of - last > cadence // timedelta(microseconds=1)
            for part in parts
            for cadence in (metric.definition.cadence, part.definition.cadence)
            for last in (last_times[part.number],)
        )
        row = [metric.number, window, seen, stale, metric.zero, metric.min_cell]
        self._sql.execute("INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?)", row)

    def _judge(self, kind: str, place: str, fields: Sequence[tuple[str, str, str, str | None]]) -> None:
        """Writes every field of the table `pair` that differs into `difference`."""
        start = "NULL" if kind == "rolling" else "start"
        head = f"INSERT INTO difference SELECT metric, '{kind}', {place}, {start}, segment"
        self._sql.execute(
            f"{head}, 'row', CASE WHEN is_expected THEN 'n = ' || e_n END,"
            " CASE WHEN is_found THEN 'n = ' || COALESCE(f_n::VARCHAR, 'hidden') END"
            " FROM pair WHERE is_expected <> is_found"
        )
        self._sql.execute(
            f"{head}, 'suppression', 'hidden', 'shown' FROM pair"
            " WHERE is_expected AND is_found AND is_small AND NOT is_hidden"
        )
        for field, expected, found, tolerance in fields:
            differs = f"{expected} IS DISTINCT FROM {found}"
            if tolerance is not None:
                slack = f"CAST(floor(abs({expected}::DOUBLE) * {self._slack}) AS HUGEINT)"
                near = f"abs({expected} - {found}) <= {tolerance} + {slack}"
                differs += f" AND NOT COALESCE({near}, FALSE)"
            self._sql.execute(
                f"{head}, '{field}', {expected}::VARCHAR, {found}::VARCHAR FROM pair"
                f" WHERE is_expected AND is_found AND NOT is_hidden AND {differs}"
            )
        self._sql.execute(f"INSERT INTO compared SELECT '{kind}', metric, count(*) FROM pair GROUP BY metric")
        self._sql.execute("DROP TABLE pair")

    # --- the result -----------------------------------------------------------------------------------

    def compared(self, pending: set[tuple[str, str]]) -> list[Compared]:
        """A line for each metric."""
        counts = {
            kind: self._counts(f"SELECT metric, rows FROM compared WHERE kind = '{kind}'")
            for kind in ("bucket", "rolling", "period")
        }
        wrong = self._counts("SELECT metric, count(*) FROM difference GROUP BY metric")
        return [
            Compared(
                metric.product,
                metric.name,
                buckets=counts["bucket"].get(metric.number, 0),
                rolling=counts["rolling"].get(metric.number, 0),
                periods=counts["period"].get(metric.number, 0),
                differences=wrong.get(metric.number, 0),
                skipped="its values are about to change" if self.skipped(metric, pending) else None,
            )
            for metric in self._recount.metrics
        ]

    def total(self) -> int:
        """How many fields differ."""
        (count,) = self._sql.execute("SELECT count(*) FROM difference").fetchall()[0]
        return int(count)

    def differences(self, limit: int) -> list[Difference]:
        """The first of them, in the order of metrics, kinds and time."""
        rows = self._sql.execute(
            "SELECT * FROM difference ORDER BY metric, kind, place, start, segment, field LIMIT ?", [limit]
        ).fetchall()
        return [self._difference(*row) for row in rows]

    def _difference(
        self,
        number: int,
        kind: str,
        place: str,
        start: int | None,
        segment: str,
        field: str,
        expected: str | None,
        found: str | None,
    ) -> Difference:
        metric = self._recount.metrics[number]
        if field in ("sum", "mean", "min", "max", "value"):
            expected, found = _plain(expected), _plain(found)
        if metric.block is not None:  # true numbers of what may be few are for nobody's eyes
            expected, found = "(protected)", "(other)"
        began = None if start is None else shown_time(start)
        return Difference(metric.product, metric.name, kind, place, began, segment, field, expected, found)

    def _counts(self, query: str) -> dict[int, int]:
        return dict(self._sql.execute(query).fetchall())


def _kept(as_of: int | None) -> str:
    """The condition that a bucket is not due to be deleted."""
    if as_of is None:
        return "TRUE"
    ages = [
        f"(resolution = '{name}' AND start < {as_of - age - (as_of - age) % step})"
        for name, (step, age) in RESOLUTIONS.items()
        if age is not None
    ]
    return f"NOT ({' OR '.join(ages)})"


def _plain(nanos: str | None) -> str | None:
    if nanos is None:
        return None
    text = format(Decimal(nanos).scaleb(-9), "f")
    return text.rstrip("0").rstrip(".")


# A bucket of a total may hold nothing but the fact that events came which do not belong to the metric.
_BUCKET_PAIRS = """
SELECT metric, resolution, start, segment, e.n AS e_n, e.total AS e_total, e.least AS e_least,
    e.greatest AS e_greatest, e.total // e.n AS e_mean, e.value AS e_value, e.tolerance,
    CASE WHEN m.converts THEN e.tolerance ELSE 0 END AS converted,
    p.n AS f_n, p.total AS f_total, p.mean AS f_mean, p.least AS f_least, p.greatest AS f_greatest,
    p.value AS f_value, e.n IS NOT NULL AS is_expected, p.segment IS NOT NULL AS is_found,
    FALSE AS is_hidden, FALSE AS is_small  -- these are the true buckets, of protected metrics too
FROM (SELECT *, place AS resolution FROM expected WHERE kind = 'bucket') e
FULL JOIN (
    SELECT p.* FROM published_bucket p JOIN metric m USING (metric)
    WHERE p.n IS DISTINCT FROM 0 OR p.total <> 0 OR p.value IS DISTINCT FROM m.zero
) p USING (metric, resolution, start, segment)
JOIN metric m USING (metric)
WHERE {kept}
"""

# A segment without events in the window has the value of nothing, if events of its metric came at all.
_WINDOW_PAIRS = """
WITH own AS (
    SELECT e.*, f.time_window FROM expected e JOIN frame f ON f.metric = e.metric AND f.time_window = e.place
    WHERE e.kind = 'rolling'
),
joined AS (
    SELECT metric, time_window, segment, COALESCE(e.n, 0) AS e_n, f.stale, f.min_cell,
        CASE WHEN NOT f.seen THEN NULL WHEN e.segment IS NULL THEN f.zero ELSE e.value END AS e_value,
        COALESCE(e.tolerance, 0) AS tolerance, p.n AS f_n, p.value AS f_value, p.status AS f_status,
        p.segment IS NOT NULL AS is_found
    FROM own e
    FULL JOIN (SELECT p.* FROM published_window p JOIN frame USING (metric, time_window)) p
        USING (metric, time_window, segment)
    JOIN frame f USING (metric, time_window)
)
SELECT metric, time_window, segment, e_n, e_value, tolerance, f_n, f_value, f_status, is_found,
    CASE WHEN e_value IS NULL THEN 'no_data' WHEN stale THEN 'stale' ELSE 'ok' END AS e_status,
    is_found OR e_n > 0 OR segment = '{}' AS is_expected,
    COALESCE(min_cell IS NOT NULL AND f_status = 'suppressed' AND f_value IS NULL AND f_n IS NULL, FALSE)
        AS is_hidden,
    COALESCE(e_n BETWEEN 1 AND min_cell - 1, FALSE) AS is_small
FROM joined
UNION ALL
SELECT metric, time_window, '{}', 0, NULL, 0, NULL, NULL, NULL, FALSE, 'no_data', TRUE, FALSE, FALSE
FROM frame f WHERE NOT EXISTS (SELECT 1 FROM joined j WHERE j.segment = '{}' AND j.metric = f.metric
    AND j.time_window = f.time_window)
"""

_PERIOD_PAIRS = """
SELECT metric, period, start, segment, COALESCE(e.n, 0) AS e_n,
    CASE WHEN e.segment IS NULL AND p.value IS NOT NULL THEN m.zero ELSE e.value END AS e_value,
    COALESCE(e.tolerance, 0) AS tolerance, p.n AS f_n, p.value AS f_value, p.ends AS f_ends,
    epoch_us(make_timestamp(start) + CASE period WHEN 'month' THEN INTERVAL 1 MONTH
        WHEN 'quarter' THEN INTERVAL 3 MONTH ELSE INTERVAL 1 YEAR END) AS e_ends,
    COALESCE(e.n, 0) > 0 OR p.segment IS NOT NULL AS is_expected, p.segment IS NOT NULL AS is_found,
    COALESCE(m.min_cell IS NOT NULL AND p.status = 'suppressed' AND p.value IS NULL AND p.n IS NULL, FALSE)
        AS is_hidden,
    COALESCE(e.n BETWEEN 1 AND m.min_cell - 1, FALSE) AS is_small
FROM (SELECT *, place AS period FROM expected WHERE kind = 'period') e
FULL JOIN published_period p USING (metric, period, start, segment)
JOIN metric m USING (metric)
WHERE metric NOT IN ({skipped})
"""


def _side(terms: Sequence[Term]) -> str:
    """The sum of counted metrics in every cell; what a cell does not have adds nothing to it."""
    signs = ", ".join(f"({term.metric.number}, {term.sign}::HUGEINT)" for term in terms)
    return _SIDE.format(signs=signs)


_SIDE = """
SELECT kind, place, start, segment, any_value(split) AS split, sum(n) AS n, sum(sign * value) AS value,
    sum(tolerance) AS tolerance
FROM expected JOIN (VALUES {signs}) AS term (metric, sign) USING (metric)
WHERE kind <> 'bucket' GROUP BY kind, place, start, segment
"""

# Tolerances of the parts add up relatively; the quotient itself goes through doubles.
_RATIO = """
SELECT kind, place, start, segment, split, COALESCE(b.n, 0) AS n, value,
    CAST(ceil(abs(value::DOUBLE) * (1e-12 + 1.1 * (
        COALESCE(a.tolerance::DOUBLE / NULLIF(abs(a.value::DOUBLE), 0), 0)
        + COALESCE(b.tolerance::DOUBLE / NULLIF(abs(b.value::DOUBLE), 0), 0)))) AS HUGEINT) + 1 AS tolerance
FROM (
    SELECT kind, place, start, segment, COALESCE(a.split, b.split) AS split, a, b,
        CASE WHEN COALESCE(b.value, 0) <> 0 THEN
            CAST(round(COALESCE(a.value, {zero})::DOUBLE / b.value::DOUBLE * 1e9) AS HUGEINT)
        END AS value
    FROM ({above}) a FULL JOIN ({below}) b USING (kind, place, start, segment)
)
"""

# In a period without events of a part's types that part is not known, and so is what is made of it.
_DERIVED = """
SELECT {number}, kind, place, start, segment, split, n, NULL, NULL, NULL,
    CASE WHEN kind <> 'period' OR known = {parts} THEN value END, tolerance
FROM ({values}) LEFT JOIN (
    SELECT place, start, count(DISTINCT metric) AS known FROM seen_period WHERE metric IN ({numbers})
    GROUP BY place, start
) USING (place, start)
WHERE split IN {splits}
"""
